"""The saved user tower, which computes all lists together, against the trained one."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tests.trainer.saved.transform_oracle import user_values
from tests.trainer.towers.user_tower_test import CONFIG, INTERACTIONS
from trainer.config import TrainingConfig
from trainer.contract import features as f
from trainer.evaluation.linear_path import HistoryPath
from trainer.model import InterestModel
from trainer.saved import pooled_fields
from trainer.saved.served_tower import ServedTower

SPEC = f.FeatureSpec(
    profile=(
        f.ProfileFeature("city"),
        f.ProfileFeature("hobbies", type="list"),
        f.ProfileFeature("age", type="number", num_buckets=4),
    ),
    domains=(f.Domain("clicked"), f.Domain("items", "item_id"), f.Domain("recent")),
)
SIZES = {"tags": 12, "item_id": 9, "profile_city": 4, "profile_hobbies": 5, "profile_age": 5}
NUM_TAGS = 10


def users_of(rng, spec, num_users=6):
    batch = {}
    for feature in spec.singles:
        ids = rng.integers(SIZES[feature.vocabulary_name], size=num_users)
        batch[feature.name] = tf.constant(ids, tf.int64)
    for listed in spec.lists:
        lengths = rng.integers(0, 7, num_users)
        ids = rng.integers(SIZES[listed.vocabulary_name], size=lengths.sum())
        batch[listed.name] = tf.RaggedTensor.from_row_lengths(tf.constant(ids), lengths)
        if listed.has_weights:
            weights = rng.choice([1e-6, 0.5, 1.0, 30.0, 1e6], lengths.sum()).astype(np.float32)
            batch[f.weights_name(listed.name)] = tf.RaggedTensor.from_row_lengths(weights, lengths)
    return batch


def make(rng, spec=SPEC, **changes):
    model = InterestModel(
        spec, SIZES, NUM_TAGS, dataclasses.replace(CONFIG, **changes), TrainingConfig(), seed=1
    )
    model.user_tower(users_of(rng, spec), training=True)
    for variable in (*model.user_tower.weights, *model.tag_tower.weights):
        sign = 1 if "moving" in variable.name else rng.choice([-1, 1], variable.shape)
        variable.assign(sign * rng.uniform(0.1, 1.0, variable.shape))
    return model


def check(model, rng):
    batch = users_of(rng, model.spec)
    found = ServedTower(model).query_embeddings(user_values(batch, model.spec))
    expected = model.query_embeddings(batch)
    assert found.shape == expected.shape
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found / scale, expected / scale, atol=1e-5)


SWITCHES = ("use_domain_weights", "use_domain_totals", "log_count_fields", "field_residual")


@pytest.mark.parametrize("interaction", INTERACTIONS)
@pytest.mark.parametrize("seed", range(3))
def test_queries_are_those_of_the_trained_tower(interaction, seed):
    rng = np.random.default_rng([seed, INTERACTIONS.index(interaction)])
    switches = {name: bool(rng.integers(2)) for name in SWITCHES}
    pooling = "default" if interaction == "bag" else str(rng.choice(["attention", "average"]))
    model = make(rng, interaction=interaction, pooling=pooling, **switches)
    check(model, rng)


@pytest.mark.parametrize("interaction", ["utpm", "bag"])
@pytest.mark.parametrize(
    "part",
    [
        {"profile": SPEC.profile},
        {"profile": SPEC.profile[:1]},
        {"profile": SPEC.profile[1:2]},
        {"domains": SPEC.domains[:1]},
    ],
    ids=["profile", "one value", "a list", "a domain"],
)
def test_features_of_one_kind_are_enough(interaction, part):
    rng = np.random.default_rng(5)
    check(make(rng, f.FeatureSpec(**part), interaction=interaction), rng)


def test_rows_of_the_tag_tower_are_shared():
    rng = np.random.default_rng(7)
    check(make(rng, share_tag_embeddings=True, embedding_dim=CONFIG.output_dim), rng)


def test_large_tables_are_scored_in_chunks(monkeypatch):
    monkeypatch.setattr(pooled_fields, "_CHUNK", 5)
    rng = np.random.default_rng(8)
    check(make(rng), rng)


@pytest.mark.parametrize("pooling", ["attention", "average"])
@pytest.mark.parametrize("weights", [[3e38], [3e38, 3e38], [3e38, 1.0]])
def test_heaviest_weights_are_those_of_the_trained_tower(pooling, weights):
    rng = np.random.default_rng(11)
    model = make(rng, pooling=pooling, use_domain_totals=False)
    batch = users_of(rng, SPEC)
    lengths = np.array([len(weights), 1, 0, 1, 1, 1])
    ids = rng.integers(SIZES["tags"], size=lengths.sum())
    values = np.array([*weights, 1.0, 2.0, 3.0, 4.0], np.float32)
    batch["clicked"] = tf.RaggedTensor.from_row_lengths(tf.constant(ids), lengths)
    batch["clicked_weights"] = tf.RaggedTensor.from_row_lengths(values, lengths)

    found = ServedTower(model).query_embeddings(user_values(batch, SPEC)).numpy()

    expected = model.query_embeddings(batch).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert np.isfinite(found).all()


def test_linear_path_reads_its_domain_alone():
    rng = np.random.default_rng(9)
    model = make(rng)
    vectors = rng.normal(size=(SIZES["tags"], 3)).astype(np.float32)
    model.add_path(HistoryPath(SPEC.domains[2], vectors), np.ones((NUM_TAGS, 3), np.float32))
    assert model.query_dim == CONFIG.output_dim + 4
    check(model, rng)


def test_batch_of_nobody_has_no_queries():
    rng = np.random.default_rng(10)
    model = make(rng)
    nobody = user_values(users_of(rng, SPEC, num_users=0), SPEC)
    assert ServedTower(model).query_embeddings(nobody).shape == (0, model.query_dim)
