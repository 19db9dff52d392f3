"""A log so small that a training takes a second, and models for it."""

import dataclasses
import os
import shutil

import numpy as np
import tensorflow as tf
import tf_keras

from trainer.config import ModelConfig, TrainingConfig
from trainer.contract import features as f
from trainer.data.snapshots import Snapshots
from trainer.fitting.checkpoints import Checkpoint, CheckpointFolder
from trainer.model import InterestModel
from trainer.towers.tag_views import TagAttributes

NUM_TAGS, NUM_USERS = 8, 96
SPEC = f.FeatureSpec(
    profile=(f.ProfileFeature("segment"),), domains=(f.Domain("clicked_tags", max_values=8),)
)
SMALL = ModelConfig(
    embedding_dim=8, attention_dim=4, cross_dim=2, hidden_dim=16, output_dim=8, dropout=0.1
)
SHORT = TrainingConfig(
    batch_size=16, max_epochs=4, budget_steps=0, min_steps=0, patience=2, learning_rate=0.02
)


def snapshots(num_users: int, first: int = 0) -> Snapshots:
    """Makes users who clicked tag i and will click i and i + 1, but nothing else that is shown."""
    users = np.arange(first, first + num_users)
    likes = users % NUM_TAGS
    columns = {
        f.USER_ID: tf.constant([f"u{user:04d}" for user in users]),
        f.SNAPSHOT_TIME: np.ones(num_users, np.int64),
        f.HISTORY_NUM_EVENTS: np.ones(num_users, np.int64),
        "segment": np.ones(num_users, np.int64),
    }
    lists = {
        "clicked_tags": ([[i] for i in likes], tf.int64),
        "clicked_tags_weights": ([[2.0]] * num_users, tf.float32),
        f.LABEL_TAGS: ([[i, (i + 1) % NUM_TAGS] for i in likes], tf.int64),
        f.LABEL_TAG_WEIGHTS: ([[1.0, 1.0]] * num_users, tf.float32),
        f.IMPRESSION_TAGS: ([[i, (i + 3) % NUM_TAGS] for i in likes], tf.int64),
        f.IMPRESSION_NUM_TAGS: ([[1, 1]] * num_users, tf.int64),
        f.IMPRESSION_CLICKED: ([[1.0, 0.0]] * num_users, tf.float32),
        f.IMPRESSION_WEIGHTS: ([[1.0, 1.0]] * num_users, tf.float32),
        f.HISTORY_TAGS: ([[i] for i in likes], tf.int64),
        f.HISTORY_TAG_COUNTS: ([[2.0]] * num_users, tf.float32),
    }
    for name, (rows, dtype) in lists.items():
        columns[name] = tf.ragged.constant(rows, dtype)
    return Snapshots.from_batches([columns])


def train_part() -> Snapshots:
    return snapshots(NUM_USERS)


def validation_part() -> Snapshots:
    return snapshots(16, first=1000)


def make_model(
    seed: int = 0,
    model: ModelConfig = SMALL,
    num_tags: int = NUM_TAGS,
    num_segments: int = 2,
    attributes: TagAttributes | None = None,
    **training,
) -> InterestModel:
    """Makes a fresh model; `training` overrides keys of `SHORT`'s configuration."""
    tf_keras.utils.set_random_seed(seed)
    return InterestModel(
        SPEC,
        # A bucket for unknown tags; of segments one too, and the unknown one.
        {"tags": num_tags + 1, f.profile_vocabulary_name("segment"): num_segments + 2},
        num_tags,
        model,
        dataclasses.replace(SHORT, **training),
        seed=seed,
        tag_frequencies=np.ones(num_tags),
        tag_attributes=attributes,
    )


class Keeps(CheckpointFolder):
    """Keeps every checkpoint of a training, as if a process had been killed after each."""

    def __init__(self, folder: str):
        super().__init__(os.path.join(folder, "last"))
        self._kept = folder

    def save(self, checkpoint: Checkpoint) -> None:
        super().save(checkpoint)
        shutil.copytree(self.folder, self.at(checkpoint.progress.step))

    def at(self, step: int) -> str:
        return os.path.join(self._kept, f"step-{step}")
