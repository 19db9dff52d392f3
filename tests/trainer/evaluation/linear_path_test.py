"""The linear path beside the towers: its values, its choice on validation, one inner product."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tests.trainer import toy_training as toy
from tests.trainer.saved.transform_oracle import user_values
from trainer.contract import features as f
from trainer.data.snapshots import Snapshots
from trainer.evaluation.ease import Ease
from trainer.evaluation.figures import evaluate
from trainer.evaluation.linear_path import (
    FittedPath,
    HistoryPath,
    LinearPath,
    add_linear_path,
    fit_path,
)
from trainer.evaluation.path_weight import PathTrial, best_weight, try_weights
from trainer.evaluation.tag_rows import domain_rows, log_counts, user_rows
from trainer.fitting.initial_values import set_initial_values
from trainer.fitting.loop import build_model
from trainer.saved.explanations import explain
from trainer.saved.served_tower import ServedTower

RAW = toy.SPEC.raw_names


def fresh_model(train=None, **config):
    """Makes an untrained model: popularity for every user."""
    train = train or toy.train_part()
    model = toy.make_model(model=dataclasses.replace(toy.SMALL, **config))
    build_model(model, train)
    set_initial_values(model, train)
    return model


def fit_and_add(model, train, validation):
    path, note = fit_path(model.model_config, model.spec, model.num_tags, train, validation)
    return add_linear_path(model, path, note, validation)


def logits(model, users):
    queries = model.query_embeddings(users.features(RAW)).numpy()
    return queries @ model.candidate_embeddings().numpy().T


def with_history(users: Snapshots, tags, weights) -> Snapshots:
    """Returns the same users with other histories, [[tag, ...], ...]."""
    sizes = np.cumsum([0, *map(len, tags)])
    lists = dict(users.lists)
    for name, rows in (("clicked_tags", tags), ("clicked_tags_weights", weights)):
        values = np.concatenate([np.asarray(row, np.float64) for row in rows])
        dtype = lists[name].values.dtype
        lists[name] = dataclasses.replace(lists[name], values=values.astype(dtype), offsets=sizes)
    return Snapshots(users.scalars, lists)


def test_scores_are_those_of_the_towers_and_of_ease():
    users = with_history(
        toy.validation_part().take(np.arange(3)),
        [[1, 4, 1], [], [8]],  # twice the same, nothing, an unknown tag
        [[2.0, 5.0, 1.0], [], [3.0]],
    )
    model = fresh_model()
    before = logits(model, users)
    train = toy.train_part()

    found = fit_and_add(model, train, toy.validation_part())

    counts = log_counts(user_rows(train, toy.NUM_TAGS, "clicked_tags"))
    ease = Ease.fit(counts, found.regularization)
    history, tags = (x.astype(np.float64) for x in ease.factorize(toy.NUM_TAGS, counts))
    tags -= tags.mean(axis=0)
    # The weight is the standard deviation within a user, over all tags.
    scores = np.asarray(counts @ history) @ tags.T
    scale = found.weight / np.sqrt(scores.var(axis=1).mean())
    own = np.log1p(2.0) + np.log1p(1.0), np.log1p(5.0)
    expected = np.zeros_like(before)
    expected[0] = scale * (own[0] * history[1] + own[1] * history[4]) @ tags.T
    assert found.weight > 0
    np.testing.assert_allclose(logits(model, users) - before, expected, atol=2e-5)


def test_towers_that_know_nothing_get_the_path():
    # Users of tag i click i and i + 1: the closed form finds that they go together.
    validation = toy.validation_part()
    model = fresh_model()
    before = evaluate(lambda users: logits(model, users), validation, toy.NUM_TAGS)

    found = fit_and_add(model, toy.train_part(), validation)

    after = evaluate(lambda users: logits(model, users), validation, toy.NUM_TAGS)
    assert found.domain == "clicked_tags" and found.weight > 0 and not found.note
    assert after["novel_ndcg_at_5"] > before["novel_ndcg_at_5"]
    assert f"weight {found.weight:g}" in str(found)


def test_no_weight_is_chosen_where_none_helps():
    # The history is uninformative: every validation user clicks popular tags.
    validation = toy.validation_part()
    model = fresh_model()
    labels = validation.lists[f.LABEL_TAGS]
    model.tag_tower.bias.assign(np.eye(toy.NUM_TAGS)[0] * 9 + np.eye(toy.NUM_TAGS)[1] * 8)
    popular = dataclasses.replace(labels, values=np.tile([0, 1], validation.num_examples))
    lists = {**validation.lists, f.LABEL_TAGS: popular}
    before = logits(model, validation)

    found = fit_and_add(model, toy.train_part(), Snapshots(validation.scalars, lists))

    assert (found.domain, found.weight, found.note) == ("", 0.0, "no weight improves the ranking")
    assert model.history_path is None and model.query_dim == toy.SMALL.output_dim + 1
    np.testing.assert_array_equal(logits(model, validation), before)


def test_trials_have_the_figures_of_the_evaluator():
    rng = np.random.default_rng(0)
    validation, model = toy.validation_part(), fresh_model()
    history, tags = rng.normal(size=(2, toy.NUM_TAGS, 3)).astype(np.float32)
    path = FittedPath("clicked_tags", history, tags, 1.0)

    trials = try_weights(
        lambda users: logits(model, users), path.scores, validation, toy.NUM_TAGS, (0.0, 0.5)
    )

    rows = log_counts(domain_rows(validation, "clicked_tags", toy.NUM_TAGS))
    for trial in trials:
        scores = logits(model, validation) + trial.weight * (rows @ history @ tags.T)
        figures = evaluate(lambda _, s=scores: s, validation, toy.NUM_TAGS)
        mean = (figures["ndcg_at_10"] + figures["novel_ndcg_at_10"]) / 2
        assert trial.quality == pytest.approx(mean)
    assert [trial.weight for trial in trials] == [0.0, 0.5]


@pytest.mark.parametrize(
    ("qualities", "expected"),
    [
        ((0.2, 0.5, 0.5), 2.0),  # .275, .425, .5 with their neighbours
        ((0.1, 0.6, 0.1), 1.0),
        ((0.5, 0.5, 0.5), 0.0),  # of equals the smallest
        ((0.5, 0.5, 0.4), 0.0),
        ((0.4, 0.9, 0.2, 0.6, 0.7, 0.6), 4.0),  # .6, .65: a broad hill beats a spike
        ((None, None, None), 0.0),
    ],
)
def test_best_weight_is_that_of_the_best_neighbourhood(qualities, expected):
    trials = [PathTrial(w, q) for w, q in enumerate(qualities)]
    assert best_weight(trials) == expected


@pytest.mark.parametrize(
    ("config", "note"),
    [
        ({"linear_path": "none"}, "`model.linear_path` is none"),
        (
            {"linear_path_max_memory_mb": 1},
            "about 2 MB (`model.linear_path_max_memory_mb` leaves 1)",
        ),
    ],
)
def test_what_is_left_out_says_why(config, note, monkeypatch):
    monkeypatch.setattr("trainer.evaluation.linear_path.ease_memory_bytes", lambda *_: 2e6)
    model = fresh_model(**config)
    found = fit_and_add(model, toy.train_part(), toy.validation_part())
    assert found == LinearPath(note=found.note)
    assert note in str(found)
    assert model.history_path is None


def test_bound_of_the_training_holds_for_the_path(monkeypatch):
    monkeypatch.setattr("trainer.evaluation.linear_path.ease_memory_bytes", lambda *_: 2e6)
    model, users = fresh_model(), toy.validation_part()

    def fit(room_mb):
        return fit_path(
            model.model_config, toy.SPEC, toy.NUM_TAGS, toy.train_part(), users, room_mb
        )

    assert fit(3.0)[0] is not None
    path, note = fit(1.5)
    assert path is None and "about 2 MB (`training.max_memory_mb` leaves 1)" in note


def test_path_that_says_the_same_of_every_tag_is_left_out():
    train = toy.train_part()
    labels, num_users = train.lists[f.LABEL_TAGS], train.num_examples
    offsets = np.arange(num_users + 1) * toy.NUM_TAGS
    every = np.tile(np.arange(toy.NUM_TAGS), num_users).astype(labels.values.dtype)
    lists = {
        **train.lists,
        f.LABEL_TAGS: dataclasses.replace(labels, values=every, offsets=offsets),
        f.LABEL_TAG_WEIGHTS: dataclasses.replace(
            labels, values=np.full(len(every), 3.0, np.float32), offsets=offsets
        ),
    }
    alike = with_history(Snapshots(train.scalars, lists), [[]] * num_users, [[]] * num_users)

    found = fit_and_add(fresh_model(), alike, toy.validation_part())

    assert found.note == "it scores every tag alike"


def test_log_without_clicks_has_no_path():
    train = toy.train_part()
    nothing = with_history(train, [[]] * train.num_examples, [[]] * train.num_examples)
    labels = dataclasses.replace(
        train.lists[f.LABEL_TAGS], values=np.full(2 * train.num_examples, -1)
    )
    nothing = Snapshots(train.scalars, {**nothing.lists, f.LABEL_TAGS: labels})
    found = fit_and_add(fresh_model(), nothing, toy.validation_part())
    assert found.note == "no training user clicked a known tag"


def test_contribution_of_a_value_is_its_part_of_the_path():
    rng = np.random.default_rng(0)
    model = fresh_model()
    model.user_tower.last.kernel.assign(tf.zeros_like(model.user_tower.last.kernel))
    vectors = rng.normal(size=(toy.NUM_TAGS + 1, 3)).astype(np.float32)
    tags = rng.normal(size=(toy.NUM_TAGS, 3)).astype(np.float32)
    model.add_path(HistoryPath(toy.SPEC.domains[0], vectors), tags)
    users = with_history(
        toy.validation_part().take(np.arange(3)),
        [[3, 5], [2], []],
        [[4.0, 1.0], [7.0], []],
    )
    tag = model.candidate_embeddings()[6]

    values = user_values(users.features(RAW), model.spec)
    found = explain(ServedTower(model), values, lambda queries, _: tf.linalg.matvec(queries, tag))

    expected = np.log1p([4.0, 1.0, 7.0]) * (vectors[[3, 5, 2]] @ tags[6])
    np.testing.assert_allclose(found.value_contributions[:3], expected, rtol=1e-4, atol=1e-5)


def test_an_unknown_tag_has_nothing_of_the_path_and_the_click_head_neither():
    model = fresh_model()
    tags = np.ones((toy.NUM_TAGS, 2), np.float32)
    model.add_path(HistoryPath(toy.SPEC.domains[0], np.ones((9, 2), np.float32)), tags)

    found = model.tag_tower.embed(
        tf.constant([-1, 2]), tf.constant(["new", "old"]), tf.constant(["", ""])
    )

    size = toy.SMALL.output_dim
    assert model.query_dim == size + 3
    np.testing.assert_array_equal(found.candidate_embeddings[:, size:-1], [[0, 0], [1, 1]])
    clicks = model.click_candidate_embeddings().numpy()
    assert clicks.shape == (toy.NUM_TAGS, size + 3)
    np.testing.assert_array_equal(clicks[:, size:-1], 0.0)
