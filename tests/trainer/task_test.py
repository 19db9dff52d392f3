"""Fitting: a seed fixes it, early stopping keeps the best epoch, and it learns what is there."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from trainer import features as f
from trainer.config import ModelConfig, TrainingConfig
from trainer.model import InterestModel
from trainer.snapshots import Snapshots
from trainer.task import fit

NUM_TAGS, NUM_USERS = 8, 96
SPEC = f.FeatureSpec(
    profile=(f.ProfileFeature("segment"),), domains=(f.Domain("clicked_tags", max_values=8),)
)
SIZES = {"tags": NUM_TAGS + 1, f.profile_vocabulary_name("segment"): 4}
SMALL = ModelConfig(
    embedding_dim=8, attention_dim=4, cross_dim=2, hidden_dim=16, output_dim=8, dropout=0.1
)


def snapshots(num_users: int, first: int = 0) -> Snapshots:
    """Who has clicked tag i will click i and i + 1, and nothing else of what is shown."""
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


def trained(seed: int, **training):
    tf_keras.utils.set_random_seed(seed)
    options = {"batch_size": 16, "max_epochs": 4, "learning_rate": 0.02, **training}
    model = InterestModel(SPEC, SIZES, NUM_TAGS, SMALL, TrainingConfig(**options), seed=seed)
    result = fit(model, snapshots(NUM_USERS), snapshots(16, first=1000), seed)
    return model, result


@pytest.fixture(scope="module")
def first_run():
    return trained(seed=0)


def test_same_seed_gives_the_same_weights(first_run):
    again, result = trained(seed=0)

    assert result.validation == first_run[1].validation
    for weight, other in zip(first_run[0].get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, other)


def test_another_seed_gives_other_weights(first_run):
    other, _ = trained(seed=1)

    assert not np.array_equal(
        first_run[0].tag_tower.embeddings.numpy(), other.tag_tower.embeddings.numpy()
    )


def test_users_who_were_not_trained_on_get_the_tags_that_follow_theirs():
    model, result = trained(seed=0, max_epochs=12, patience=12)

    held_out = snapshots(16, first=1000)
    scores = model.score_tags(held_out.features(SPEC.raw_names)).numpy()
    likes = np.arange(1000, 1016) % NUM_TAGS
    for row, like in zip(scores, likes, strict=True):
        assert set(np.argsort(-row)[:2]) == {like, (like + 1) % NUM_TAGS}
    assert result.validation[result.best_epoch - 1]["click_gauc"] == 1.0


def test_best_epoch_is_kept_not_the_last(first_run):
    model, result = first_run

    values = [figures["ndcg_at_10"] for figures in result.validation]
    assert result.best_epoch == int(np.argmax(values)) + 1
    assert result.epochs == len(values) <= 4
