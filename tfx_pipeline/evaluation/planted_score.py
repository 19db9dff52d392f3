"""Scores the tags that a servable returns for held-out users against planted interests."""

import json
import os
from collections.abc import Collection, Mapping
from typing import Any

import tensorflow as tf

from serving.batch.servable_caller import ServableCaller
from tfx_pipeline.datasets.planted import planted_precision, read_planted
from tfx_pipeline.evaluation.saved_model_scorer import read_examples
from trainer.contract import features as f
from trainer.contract.batches import batched
from trainer.contract.file_system import names_in, open_file
from trainer.contract.tag_normalization import TagNormalization

_BATCH = 256


def score_planted(
    planted_path: str,
    servable_dir: str,
    examples_pattern: str,
    normalization: TagNormalization,
    skipped_tags: str | None = None,
) -> dict[str, Any]:
    """Scores the tags returned for test users, from their history before the protocol's cut.

    The model was not trained on these users, and an interest that shows only after the cut (a cross
    interest of the synthetic log) can only be inferred from the profile features.

    Args:
      planted_path: Path of `planted.jsonl`.
      servable_dir: Folder of the version.
      examples_pattern: File pattern of the raw examples of the test users.
      normalization: Normalisation of the log's tags.
      skipped_tags: Domain that counts the tags of skipped items; None: there is none.

    Returns:
      The `demo.*` keys of the report.
    """
    examples = read_examples([examples_pattern])
    users = [user.decode() for user in examples]
    serialized = list(examples.values())
    caller = ServableCaller(servable_dir)
    lists = [
        tags
        for batch in batched(serialized, _BATCH)
        for tags in caller.retrieve_examples(batch).tags
    ]
    served = dict(zip(users, lists, strict=True))
    own_history = dict(zip(users, map(_most_clicked, serialized), strict=True))
    planted = list(read_planted(planted_path, normalization))
    scored = planted_precision(served, planted, caller.num_tags)
    by_history = planted_precision(own_history, planted, caller.num_tags)
    by_shown = None
    if skipped_tags is not None:
        by_shows = [_most_shown(example, skipped_tags) for example in serialized]
        shown = dict(zip(users, by_shows, strict=True))
        by_shown = planted_precision(shown, planted, caller.num_tags).precision
    return {
        "demo.planted_precision": scored.precision,
        "demo.planted_precision_own_history": by_history.precision,
        "demo.planted_precision_shown": by_shown,
        "demo.planted_precision_random": scored.random,
        "demo.interests_found": scored.interests_found,
        "demo.cross_interests_found": scored.cross_interests_found,
        "demo.num_users": scored.num_users,
        "demo.num_users_without_events": scored.num_users_without_events,
    }


def read_instances(
    instances_dir: str, user_ids: Collection[str] | None = None
) -> dict[str, dict[str, Any]]:
    """Reads the feature values of the split `now` by user id.

    Args:
      instances_dir: Folder of the instances of the split `now`.
      user_ids: Ids of the users to read; None: all users.

    Returns:
      Instances by user id, without the id, as a client sends them.
    """
    instances = {}
    for name in names_in(instances_dir):
        with open_file(os.path.join(instances_dir, name)) as file:
            for line in file:
                instance = json.loads(line)
                user_id = instance.pop(f.USER_ID)
                if user_ids is None or user_id in user_ids:
                    instances[user_id] = instance
    return instances


def _most_clicked(serialized: bytes) -> list[str]:
    """Returns the tags of an example's history, most clicked first."""
    return _by_count(serialized, {f.HISTORY_TAGS: f.HISTORY_TAG_COUNTS})


def _most_shown(serialized: bytes, skipped_tags: str) -> list[str]:
    """Returns the tags of clicked or skipped items, most shown first."""
    weights = {
        f.HISTORY_TAGS: f.HISTORY_TAG_COUNTS,
        skipped_tags: f.weights_name(skipped_tags),
    }
    return _by_count(serialized, weights)


def _by_count(serialized: bytes, weights: Mapping[str, str]) -> list[str]:
    features = tf.train.Example.FromString(serialized).features.feature
    counts: dict[str, float] = {}
    for name, of_name in weights.items():
        tags, values = features[name].bytes_list.value, features[of_name].float_list.value
        for tag, value in zip(tags, values, strict=True):
            counts[tag.decode()] = counts.get(tag.decode(), 0.0) + value
    return sorted(counts, key=lambda tag: (-counts[tag], tag))
