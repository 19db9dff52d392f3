"""Asks a servable for the tags of held-out users and scores them against what the log planted."""

import json
import os
from collections.abc import Collection
from typing import Any

from serving.servable_caller import ServableCaller
from tfx_pipeline.config import PipelineConfig
from tfx_pipeline.datasets.planted import planted_precision, read_planted
from tfx_pipeline.snapshots import user_part
from trainer.features import USER_ID, FeatureSpec

_BATCH = 256


def score_planted(config: PipelineConfig, servable_dir: str, instances_dir: str) -> dict[str, Any]:
    """Scores the tags that test users get *now*; the model was not trained on these users.

    Args:
      config: Says which users are held out, and where the planted interests are.
      servable_dir: The version folder.
      instances_dir: Folder of the instances of *now*.

    Returns:
      The report's `demo.*` keys.
    """
    held_out = {
        user_id: features
        for user_id, features in read_instances(instances_dir).items()
        if user_part(user_id, config.examples) == "test"
    }
    users = list(held_out)
    caller = ServableCaller(servable_dir)
    served: dict[str, list[str]] = {}
    for first in range(0, len(users), _BATCH):
        batch = users[first : first + _BATCH]
        tags, _ = caller.retrieve([held_out[user_id] for user_id in batch])
        served.update(zip(batch, tags, strict=True))
    domain = _history_domain(config.features)
    own_history = (
        {user_id: held_out[user_id][domain] for user_id in users} if domain is not None else {}
    )
    scored = planted_precision(served, read_planted(config.data.planted or ""), caller.num_tags)
    return {
        "demo.planted_precision": scored.precision,
        "demo.planted_precision_own_history": planted_precision(
            own_history, read_planted(config.data.planted or ""), caller.num_tags
        ).precision,
        "demo.planted_precision_random": scored.random,
        "demo.interests_found": scored.interests_found,
        "demo.cross_interests_found": scored.cross_interests_found,
        "demo.num_users": scored.num_users,
        "demo.num_users_without_events": scored.num_users_without_events,
    }


def _history_domain(spec: FeatureSpec) -> str | None:
    """The domain that lists a user's clicked tags by how often they were clicked."""
    for domain in spec.domains:
        is_whole = domain.window_days is None and domain.weighting == "count"
        if domain.attribute == "tags" and domain.events == "clicked" and is_whole:
            return domain.name
    return None


def read_instances(
    instances_dir: str, user_ids: Collection[str] | None = None
) -> dict[str, dict[str, Any]]:
    """Feature values *now* by user id.

    Args:
      instances_dir: Folder of the instances of *now*.
      user_ids: The users wanted; None: all.

    Returns:
      By user id, the instance without it, as a client sends it.
    """
    instances = {}
    for name in sorted(os.listdir(instances_dir)):
        with open(os.path.join(instances_dir, name), encoding="utf-8") as file:
            for line in file:
                instance = json.loads(line)
                user_id = instance.pop(USER_ID)
                if user_ids is None or user_id in user_ids:
                    instances[user_id] = instance
    return instances
