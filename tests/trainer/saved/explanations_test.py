"""Explanations of models in memory equal the towers' loops with values removed."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tests.trainer import toy_training as toy
from tests.trainer.saved.transform_oracle import user_values
from tests.trainer.tower_oracles import embed_user
from tests.trainer.towers.user_tower_test import (
    CONFIG,
    INTERACTIONS,
    PLAIN,
    SIZES,
    SPEC,
    USERS,
    each_interaction,
    each_tower,
    features,
    histories_of,
)
from trainer.config import TrainingConfig
from trainer.contract import features as f
from trainer.data.snapshots import Snapshots
from trainer.fitting.loop import fit
from trainer.model import InterestModel
from trainer.saved import explanations
from trainer.saved.explanations import explain
from trainer.saved.served_tower import ServedTower

NUM_TAGS = SIZES["tags"] - 1
# Of each user; one whose histories are empty among them.
TAGS = np.array([3, 0, 6, 2])


def make(**changes):
    """Makes a model with large weights everywhere, so that every value matters."""
    config = dataclasses.replace(CONFIG, **changes)
    model = InterestModel(SPEC, SIZES, NUM_TAGS, config, TrainingConfig(), seed=3)
    model.user_tower(features(), training=True)
    rng = np.random.default_rng(0)
    for variable in (*model.user_tower.weights, *model.tag_tower.weights):
        sign = 1 if "moving" in variable.name else rng.choice([-1, 1], variable.shape)
        variable.assign(sign * rng.uniform(0.1, 1.0, variable.shape))
    return model


def explained(model, users=USERS, tags=TAGS):
    """Explains the multi-class logits of one tag for each user."""
    vectors = model.candidate_embeddings()

    def score(queries, rows):
        own = tf.gather(vectors, tf.gather(tf.constant(tags), rows))
        return tf.reduce_sum(queries * own, axis=1)

    return Explained(explain(ServedTower(model), user_values(features(users), SPEC), score), users)


class Explained:
    """An explanation whose values are by list and user."""

    def __init__(self, explanation, users):
        self.explanation = explanation
        self.score = explanation.score
        self.feature_attention = explanation.feature_attention
        self.feature_contributions = explanation.feature_contributions
        self.attention = by_list(explanation.value_attention, users)
        self.contributions = by_list(explanation.value_contributions, users)


def by_list(column, users):
    """Numbers of the values, [batch, None] by list."""
    found, start = {}, 0
    for place, domain in enumerate(SPEC.domains, start=1):
        lengths = [len(user[place]) for user in users]
        part = column[start : start + sum(lengths)]
        found[domain.name] = tf.RaggedTensor.from_row_lengths(part, np.array(lengths, np.int64))
        start += sum(lengths)
    return found


def slow_score(model, user, tag):
    """Returns the score by the towers' loops."""
    query, _ = embed_user(model.user_tower, {"gender": user[0]}, histories_of(user))
    return np.append(query, 1.0) @ model.candidate_embeddings().numpy()[tag]


def each_without(user):
    """Returns the user without each whole feature, and without each of its values."""
    yield 0, [(0, *user[1:])], []
    for place in (1, 2):
        emptied = [{} if i == place else part for i, part in enumerate(user)]
        lacking = []
        for value in user[place]:
            rest = {v: w for v, w in user[place].items() if v != value}
            lacking.append(tuple(rest if i == place else part for i, part in enumerate(user)))
        yield place, [tuple(emptied)], lacking


@each_tower
@pytest.mark.parametrize("changes", [{}, PLAIN], ids=["all", "plain"])
def test_contribution_is_the_score_less_that_of_the_loops_without_it(interaction, pooling, changes):
    model = make(interaction=interaction, pooling=pooling, **changes)

    found = explained(model)

    largest = 0.0
    for row, (user, tag) in enumerate(zip(USERS, TAGS, strict=True)):
        score = slow_score(model, user, tag)
        np.testing.assert_allclose(found.score[row], score, rtol=1e-3, atol=1e-3)
        for place, (emptied,), lacking in each_without(user):
            np.testing.assert_allclose(
                found.feature_contributions[row, place],
                score - slow_score(model, emptied, tag),
                rtol=1e-3,
                atol=1e-3,
            )
            if place:
                expected = [score - slow_score(model, other, tag) for other in lacking]
                name = SPEC.domains[place - 1].name
                np.testing.assert_allclose(
                    found.contributions[name][row], expected, rtol=1e-3, atol=1e-3
                )
                largest = max([largest, *np.abs(expected)])
    assert largest > 0.05  # far above the tolerance


@each_tower
def test_attention_by_value_is_the_mean_of_what_the_tower_looks_at(interaction, pooling):
    model = make(interaction=interaction, pooling=pooling)

    found = explained(model).attention

    for row, user in enumerate(USERS):
        _, expected = embed_user(model.user_tower, {"gender": user[0]}, histories_of(user))
        for domain, history in histories_of(user).items():
            fields = [name for name in (domain, f"{domain}_log") if name in expected]
            means = [
                np.mean(np.reshape(expected[n], [len(history), -1]), 1) for n in fields if history
            ]
            values = found[domain][row]
            assert len(values) == len(history)
            if history:
                np.testing.assert_allclose(values, np.mean(means, axis=0), atol=1e-5)


# gender; clicked tags, their logs; skipped items, their logs; totals of both.
FIELDS = [[0], [1, 2, 5], [3, 4, 6]]


@each_interaction
def test_attention_by_feature_is_the_sum_over_its_fields(interaction):
    model = make(interaction=interaction)

    found = explained(model).feature_attention.numpy()

    for row, user in enumerate(USERS):
        _, weights = embed_user(model.user_tower, {"gender": user[0]}, histories_of(user))
        present = [True, bool(user[1]), bool(user[2])]
        if interaction == "utpm":
            by_field = weights["fields"].mean(axis=1)
        elif interaction == "afm" and sum(present) > 1:
            by_field, pairs = np.zeros(7), iter(weights["field_pairs"])
            for i in range(7):
                for j in range(i + 1, 7):
                    share = next(pairs)
                    by_field[i] += share / 2
                    by_field[j] += share / 2
        elif interaction == "autoint":
            takers = [k for k in range(7) if any(present[i] and k in FIELDS[i] for i in range(3))]
            by_field = weights["field_self_attention"][:, :, takers].mean(axis=(0, 1, 2))
        else:
            np.testing.assert_allclose(found[row], np.array(present) / sum(present), rtol=1e-5)
            continue
        expected = [by_field[fields].sum() for fields in FIELDS]
        np.testing.assert_allclose(found[row], expected, atol=1e-5)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("limit", ["_MAX_ROWS", "_MAX_VALUES"])
def test_long_batches_are_embedded_some_at_a_time(limit, monkeypatch):
    model = make()
    expected = explained(model)

    sizes = []
    embed = ServedTower.query_embeddings

    def counted(tower, values):
        sizes.append(int(values.num_users))
        return embed(tower, values)

    monkeypatch.setattr(ServedTower, "query_embeddings", counted)
    # The longest user has 4 values.
    monkeypatch.setattr(explanations, limit, {"_MAX_ROWS": 5, "_MAX_VALUES": 23}[limit])
    found = explained(model)

    # 4 users as they are, 3 features of each, and 7 values: 5 at a time.
    assert sizes == [5, 5, 5, 5, 3]
    np.testing.assert_allclose(found.score, expected.score, rtol=1e-5)
    for name, contributions in expected.contributions.items():
        np.testing.assert_allclose(
            found.contributions[name].flat_values, contributions.flat_values, rtol=1e-3, atol=1e-5
        )


def test_batch_of_nobody_is_empty():
    found = explained(make(), users=[], tags=np.zeros(0, np.int64))
    assert found.score.shape == (0,)
    assert found.feature_contributions.shape == found.feature_attention.shape == (0, 3)
    assert found.contributions["clicked_tags"].shape[0] == 0


def planted_log(num_users, seed):
    """Makes users with tag i and five random tags who will click i; both heads see it."""
    rng = np.random.default_rng(seed)
    loved = rng.integers(0, 4, num_users)  # others are noise
    noise = [rng.permutation(np.arange(4, 12))[:5] for _ in loved]
    rows = [rng.permutation([i, *others]).tolist() for i, others in zip(loved, noise, strict=True)]
    columns = {
        f.USER_ID: tf.constant([f"u{i:04d}" for i in range(num_users)]),
        f.SNAPSHOT_TIME: np.ones(num_users, np.int64),
        f.HISTORY_NUM_EVENTS: np.ones(num_users, np.int64),
        "segment": np.ones(num_users, np.int64),
    }
    ones = [[1.0] * 6] * num_users
    lists = {
        "clicked_tags": (rows, tf.int64),
        "clicked_tags_weights": (ones, tf.float32),
        f.LABEL_TAGS: ([[i] for i in loved], tf.int64),
        f.LABEL_TAG_WEIGHTS: ([[1.0]] * num_users, tf.float32),
        f.IMPRESSION_TAGS: ([[i, (i + 1) % 4] for i in loved], tf.int64),
        f.IMPRESSION_NUM_TAGS: ([[1, 1]] * num_users, tf.int64),
        f.IMPRESSION_CLICKED: ([[1.0, 0.0]] * num_users, tf.float32),
        f.IMPRESSION_WEIGHTS: ([[1.0, 1.0]] * num_users, tf.float32),
        f.HISTORY_TAGS: (rows, tf.int64),
        f.HISTORY_TAG_COUNTS: (ones, tf.float32),
    }
    for name, (values, dtype) in lists.items():
        columns[name] = tf.ragged.constant(values, dtype)
    return Snapshots.from_batches([columns]), loved, np.array(rows)


def users_with(rows):
    """Returns users with these histories."""
    return {
        "segment": tf.ones([len(rows)], tf.int64),
        "clicked_tags": tf.RaggedTensor.from_row_lengths(
            np.concatenate(rows).astype(np.int64), [len(row) for row in rows]
        ),
        "clicked_tags_weights": tf.RaggedTensor.from_row_lengths(
            np.ones(sum(map(len, rows)), np.float32), [len(row) for row in rows]
        ),
    }


@pytest.mark.parametrize(
    ("interaction", "seed"), [*((name, 0) for name in INTERACTIONS), ("utpm", 1), ("bag", 1)]
)
def test_deleting_the_top_contributor_moves_the_score_more_than_deleting_any(interaction, seed):
    train, _, _ = planted_log(256, seed)
    validation, _, _ = planted_log(32, seed + 10)
    config = dataclasses.replace(toy.SMALL, interaction=interaction)
    model = toy.make_model(seed, config, num_tags=12, max_epochs=6)
    fit(model, train, validation, seed)
    _, loved, histories = planted_log(48, seed + 20)
    vectors = model.candidate_embeddings().numpy()

    def scores(rows):
        return (model.query_embeddings(users_with(rows)).numpy() * vectors[loved]).sum(axis=1)

    def score(queries, users):
        return tf.reduce_sum(queries * tf.gather(vectors[loved], users), axis=1)

    values = user_values(users_with(histories), model.spec)
    found = explain(ServedTower(model), values, score)
    contributions = found.value_contributions.numpy().reshape([-1, 6])
    top = np.abs(contributions).argmax(axis=1)

    def moves(places):
        deleted = [np.delete(row, place) for row, place in zip(histories, places, strict=True)]
        return np.abs(scores(histories) - scores(deleted))

    rng = np.random.default_rng(seed)
    random = np.mean([moves(rng.integers(0, 6, len(loved))) for _ in range(5)])
    assert moves(top).mean() > 2 * random
    # It is the planted one: chance would be one in six.
    is_planted = histories[np.arange(len(loved)), top] == loved
    assert is_planted.mean() > 0.7
