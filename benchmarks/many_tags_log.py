"""Makes a synthetic log with a vocabulary of any size, without events: snapshots and a transform.

Each tag has a topic, and vectors of a topic's tags are similar; a user has clicked tags of two
topics and will click others of them. Other benchmarks measure how a log becomes snapshots.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from trainer.config import ModelConfig, TrainingConfig
from trainer.contract import features as f
from trainer.contract.config_loader import to_mapping
from trainer.contract.list_column import ListValues
from trainer.data.snapshots import Snapshots

SPEC = f.FeatureSpec(profile=(f.ProfileFeature("segment"),), domains=(f.Domain("clicked_tags"),))
SEGMENTS = ("a", "b", "c")
# Sizes as in `bench-index`; both towers share a table, as `training.max_memory_mb` advises.
MODEL = ModelConfig(embedding_dim=64, output_dim=64, share_tag_embeddings=True)
# The same sampled loss for any number of tags. With more draws nearly all of a thousand tags would
# be drawn, and a step over them would do less than one over a million.
TRAINING = TrainingConfig(
    full_softmax_max_tags=100,
    num_sampled_tags=256,
    optimizer="adagrad",
    learning_rate=0.05,
    max_epochs=1,
    budget_steps=0,
    min_steps=0,
)
SEED = 0

_NUM_CLICKED, _NUM_LABELS, _NUM_IMPRESSIONS, _TAGS_OF_ITEM = 30, 10, 12, 2
_TAGS_PER_TOPIC, _MIN_TOPICS = 1_000, 10
_TOPICS_OF_USER = 2
_SPREAD = 0.8  # as in `benchmarks.gaussian_mixture`


def num_topics(num_tags: int) -> int:
    """Returns the number of topics; tag i belongs to topic i modulo this number."""
    return max(_MIN_TOPICS, num_tags // _TAGS_PER_TOPIC)


def tag_vectors(num_tags: int) -> np.ndarray:
    """Makes vectors like those of a long training, float32 [num_tags, U], similar within topics."""
    rng = np.random.default_rng(SEED)
    size, topics = MODEL.output_dim, num_topics(num_tags)
    centers = rng.standard_normal((topics, size), dtype=np.float32)
    centers /= np.linalg.norm(centers, axis=1, keepdims=True)
    vectors = rng.standard_normal((num_tags, size), dtype=np.float32)
    vectors *= np.float32(_SPREAD / np.sqrt(size))
    vectors += centers[np.arange(num_tags) % topics]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def snapshots(num_users: int, num_tags: int, seed: int) -> Snapshots:
    """Makes transformed snapshots of users, with lists of the same lengths."""
    rng = np.random.default_rng([seed, num_tags])
    topics = rng.integers(0, num_topics(num_tags), (num_users, _TOPICS_OF_USER))

    def tags(count: int) -> np.ndarray:
        of_topic = np.take_along_axis(
            topics, rng.integers(0, _TOPICS_OF_USER, (num_users, count)), axis=1
        )
        places = rng.integers(0, num_tags // num_topics(num_tags), (num_users, count))
        return of_topic + num_topics(num_tags) * places

    def lists(values: np.ndarray, dtype: Any) -> ListValues:
        width = values.shape[1]
        offsets = np.arange(num_users + 1, dtype=np.int64) * width
        return ListValues(values.ravel().astype(dtype), offsets)

    def ones(width: int) -> ListValues:
        return lists(np.ones((num_users, width)), np.float32)

    clicked = tags(_NUM_CLICKED)
    # Clicked impressions are of the user's topics, skipped ones of any topic.
    is_clicked = np.arange(_NUM_IMPRESSIONS) % 4 == 0
    impressions = rng.integers(0, num_tags, (num_users, _NUM_IMPRESSIONS * _TAGS_OF_ITEM))
    own = np.repeat(is_clicked, _TAGS_OF_ITEM)
    impressions[:, own] = tags(int(own.sum()))
    return Snapshots(
        {
            f.USER_ID: np.array([b"u%07d" % i for i in range(num_users)]),
            f.SNAPSHOT_TIME: np.ones(num_users, np.int64),
            f.HISTORY_NUM_EVENTS: np.full(num_users, _NUM_CLICKED),
            "segment": rng.integers(0, len(SEGMENTS) + 1, num_users),
        },
        {
            "clicked_tags": lists(clicked, np.int32),
            f.weights_name("clicked_tags"): ones(_NUM_CLICKED),
            f.LABEL_TAGS: lists(tags(_NUM_LABELS), np.int32),
            f.LABEL_TAG_WEIGHTS: ones(_NUM_LABELS),
            f.IMPRESSION_TAGS: lists(impressions, np.int32),
            f.IMPRESSION_NUM_TAGS: lists(
                np.full((num_users, _NUM_IMPRESSIONS), _TAGS_OF_ITEM), np.int32
            ),
            f.IMPRESSION_CLICKED: lists(np.tile(is_clicked, (num_users, 1)), np.float32),
            f.IMPRESSION_WEIGHTS: ones(_NUM_IMPRESSIONS),
            f.HISTORY_TAGS: lists(clicked, np.int32),
            f.HISTORY_TAG_COUNTS: ones(_NUM_CLICKED),
        },
    )


def write_transform(num_tags: int, folder: Path) -> None:
    """Writes the pipeline's own transform, with a vocabulary of `num_tags` tags.

    Beam counts only a few of them, and the file of the vocabulary is rewritten: the cost of
    transforming a large log is not measured here.
    """
    import tensorflow_transform.beam as tft_beam
    from tensorflow_transform.tf_metadata import dataset_metadata

    from tfx_pipeline.examples.tf_examples import build_schema
    from tfx_pipeline.preprocessing import preprocessing_fn

    config = {f.FEATURES_KEY: json.dumps(to_mapping(SPEC))}
    metadata = dataset_metadata.DatasetMetadata(build_schema(SPEC))
    rows = [_raw_row(number) for number in range(len(SEGMENTS))]
    with tft_beam.Context(temp_dir=str(folder / "beam")):
        transform_fn = (rows, metadata) | tft_beam.AnalyzeDataset(
            lambda inputs: preprocessing_fn(inputs, config)
        )
        transform_fn | tft_beam.WriteTransformFn(str(folder / "transform"))  # noqa: B018
    assets = folder / "transform" / "transform_fn" / "assets"
    with open(assets / f.TAG_VOCABULARY, "w", encoding="ascii") as file:
        file.writelines(f"tag {tag:07d}\n" for tag in range(num_tags))


def _raw_row(number: int) -> dict[str, list[Any]]:
    empty = (
        "clicked_tags",
        f.weights_name("clicked_tags"),
        f.IMPRESSION_TAGS,
        f.IMPRESSION_NUM_TAGS,
        f.IMPRESSION_CLICKED,
        f.IMPRESSION_WEIGHTS,
        f.HISTORY_TAGS,
        f.HISTORY_TAG_COUNTS,
        f.LABEL_ITEMS,
        f.HISTORY_ITEMS,
    )
    return {
        f.USER_ID: [b"u%d" % number],
        f.SNAPSHOT_TIME: [1],
        f.HISTORY_NUM_EVENTS: [0],
        "segment": [SEGMENTS[number].encode()],
        f.LABEL_TAGS: [b"a tag"],
        f.LABEL_TAG_WEIGHTS: [1.0],
        **{name: [] for name in empty},
    }


def instances(users: Snapshots, tags: list[str]) -> list[dict[str, Any]]:
    """Makes the users' raw features, as a caller gives them.

    Args:
      users: Snapshots of the users.
      tags: Tags in order of their ids.

    Returns:
      Raw features of each user, by name.
    """
    clicked = users.lists["clicked_tags"].values.reshape(users.num_examples, -1)
    segments = ("", *SEGMENTS)
    return [
        {
            "segment": segments[segment],
            "clicked_tags": [tags[tag] for tag in row],
            f.weights_name("clicked_tags"): [1.0] * len(row),
        }
        for segment, row in zip(users.scalars["segment"], clicked, strict=True)
    ]
