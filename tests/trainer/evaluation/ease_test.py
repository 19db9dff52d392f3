"""EASE equals its formulas in plain numpy: primal, dual, factors, choice."""

import numpy as np
import pytest
from scipy import sparse

from tests.trainer.evaluation.baselines_test import make
from trainer.evaluation import ease as ease_module
from trainer.evaluation.ease import (
    Ease,
    choose_ease,
    ease_memory_bytes,
    ease_scorer,
    gram,
    mean_square,
)
from trainer.evaluation.figures import evaluate
from trainer.evaluation.tag_rows import log_counts


def random_rows(num_users, num_tags, seed=0, density=0.3):
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 9, (num_users, num_tags)) * (
        rng.random((num_users, num_tags)) < density
    )
    return log_counts(sparse.csr_matrix(counts.astype(np.float64)))


def plain_weights(rows, regularization):
    """Returns B of the paper, by its formula."""
    dense = rows.toarray()
    p = np.linalg.inv(dense.T @ dense + regularization * np.eye(dense.shape[1]))
    weights = p / -np.diag(p)
    np.fill_diagonal(weights, 0.0)
    return weights


SHAPES = {"more users": (40, 12), "more tags": (9, 30), "as many": (15, 15)}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("regularization", [0.01, 3.0, 500.0])
def test_scores_are_those_of_the_formula(shape, regularization):
    rows, others = random_rows(*shape), random_rows(7, shape[1], seed=1)

    ease = Ease.fit(rows, regularization)

    expected = others.toarray() @ plain_weights(rows, regularization)
    assert ease.is_dual == (shape[1] > shape[0])
    assert ease.scores(others).dtype == np.float32
    np.testing.assert_allclose(ease.scores(others), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_products_are_those_of_the_matrix(shape):
    rows = random_rows(*shape)
    ease, weights = Ease.fit(rows, 2.0), plain_weights(rows, 2.0)
    other = np.random.default_rng(2).standard_normal((shape[1], 4))

    np.testing.assert_allclose(ease.times(other), weights @ other, atol=1e-9)
    np.testing.assert_allclose(ease.transposed_times(other), weights.T @ other, atol=1e-9)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_tag_says_nothing_of_itself(shape):
    ease = Ease.fit(random_rows(*shape), 2.0)

    scores = ease.scores(sparse.identity(shape[1], format="csr"))

    np.testing.assert_allclose(np.diag(scores), 0, atol=1e-6)
    assert np.abs(scores).max() > 0.1


def test_blocks_are_no_borders(monkeypatch):
    monkeypatch.setattr(ease_module, "_BLOCK", 4)
    for shape in ((40, 13), (9, 30)):
        rows = random_rows(*shape)
        np.testing.assert_allclose(
            Ease.fit(rows, 2.0).scores(rows),
            rows.toarray() @ plain_weights(rows, 2.0),
            atol=1e-5,
        )


@pytest.mark.parametrize("density", [0.005, 0.5])
def test_gram_is_the_product_however_sparse_the_rows_are(density):
    rows = random_rows(700, 20, density=density)

    np.testing.assert_allclose(gram(rows), rows.toarray().T @ rows.toarray(), rtol=1e-12)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_factors_of_full_rank_give_the_scores(shape):
    rows = random_rows(*shape)
    ease = Ease.fit(rows, 2.0)

    first, second = ease.factorize(min(shape), rows)

    np.testing.assert_allclose(
        rows.toarray() @ first @ second.T, ease.scores(rows), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("is_exact", [True, False])
def test_factors_of_low_rank_are_as_near_as_any(shape, is_exact, monkeypatch):
    if not is_exact:
        for name, value in {"_EXACT_TAGS": 0, "_EXACT_ENTRIES": 0, "_OVERSAMPLING": 4}.items():
            monkeypatch.setattr(ease_module, name, value)
    rows = random_rows(*shape)
    ease = Ease.fit(rows, 2.0)
    predictions = rows.toarray() @ plain_weights(rows, 2.0)
    left, values, right = np.linalg.svd(predictions, full_matrices=False)

    first, second = ease.factorize(3, rows)

    expected = (left[:, :3] * values[:3]) @ right[:3]
    np.testing.assert_allclose(rows.toarray() @ first @ second.T, expected, atol=1e-3)
    np.testing.assert_allclose(second.T @ second, np.eye(3), atol=1e-5)


def test_factors_beyond_the_rank_are_zero():
    rows = random_rows(5, 12)

    first, second = Ease.fit(rows, 2.0).factorize(8, rows)

    assert first.shape == second.shape == (12, 8)
    assert not first[:, 5:].any() and not second[:, 5:].any()


def test_factors_are_the_same_again(monkeypatch):
    for name, value in {"_EXACT_TAGS": 0, "_EXACT_ENTRIES": 0, "_OVERSAMPLING": 4}.items():
        monkeypatch.setattr(ease_module, name, value)
    rows = random_rows(20, 30)

    first, second = (Ease.fit(rows, 2.0).factorize(3, rows) for _ in range(2))

    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])


@pytest.mark.parametrize("regularization", [0.0, -1.0])
def test_regularization_must_be_positive(regularization):
    rows = random_rows(5, 3)
    with pytest.raises(ValueError, match="`regularization` must be positive"):
        Ease.fit(rows, regularization)


def test_no_user_is_refused():
    with pytest.raises(ValueError, match="`rows` must have at least one user"):
        Ease.fit(sparse.csr_matrix((0, 3)), 1.0)


def test_tags_that_nobody_clicked_get_nothing():
    rows = sparse.csr_matrix(np.array([[1.0, 2.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]))
    for some in (rows, rows[:2]):
        scores = Ease.fit(some.tocsr(), 0.5).scores(rows)
        np.testing.assert_allclose(scores[:, 2], 0, atol=1e-12)
        np.testing.assert_allclose(scores[2], 0, atol=1e-12)


def test_memory_is_quadratic_in_the_smaller_number():
    small = ease_memory_bytes(1_000, 1_000_000, 0)
    assert small == ease_memory_bytes(1_000, 1_000_000, 10) - 240
    # Five matrices of tags by rank, with the oversampling.
    assert ease_memory_bytes(1_000, 1_000_000, 0, rank=64) - small == 5 * 8 * 1_000_000 * 96
    assert ease_memory_bytes(4_000, 1_000_000, 0) - small > 24 * 15_000_000
    assert ease_memory_bytes(1_000_000, 1_000, 0) - ease_memory_bytes(2_000, 1_000, 0) == 0


def planted(num_users, seed):
    """Returns counts of users who click in one of six groups of ten tags, and some others."""
    rng = np.random.default_rng(seed)
    counts = rng.poisson(0.05, (num_users, 60)).astype(np.float64)
    for user, group in enumerate(rng.integers(0, 6, num_users)):
        counts[user, 10 * group : 10 * group + 10] += rng.poisson(0.7, 10)
    return counts


def validation_users(num_users, has_novel=True):
    histories, labels = [], []
    for row in planted(num_users, seed=1):
        tags = np.flatnonzero(row).tolist()
        histories.append(
            {tag: row[tag] for tag in tags[::2]} if has_novel else dict.fromkeys(tags, 1)
        )
        labels.append({tag: 1 for tag in tags})
    ids = [b"u%03d" % user for user in range(num_users)]
    return make(ids, [1] * num_users, histories, labels)


@pytest.mark.parametrize(
    ("has_novel", "metric"), [(True, "novel_precision_at_10"), (False, "precision_at_10")]
)
def test_regularization_is_the_best_on_validation_users(has_novel, metric):
    rows = log_counts(sparse.csr_matrix(planted(80, seed=0)))
    validation = validation_users(40, has_novel)

    def quality(ease):
        return evaluate(ease_scorer(ease), validation, 60)[metric]

    chosen = choose_ease(rows, validation)

    decades = [10.0**power * mean_square(rows) for power in range(-3, 4)]
    qualities = [quality(Ease.fit(rows, decade)) for decade in decades]
    assert quality(chosen) >= max(qualities)
    assert min(qualities) < quality(chosen)
    # Of the best decade, or of its neighbours half a decade away.
    best = max(zip(qualities, decades, strict=True))[1]
    assert any(np.isclose(chosen.regularization, best * 10.0**half) for half in (-0.5, 0, 0.5))


def test_choice_asks_for_no_more_validation_users_than_needed(monkeypatch):
    monkeypatch.setattr(ease_module, "_MAX_VALIDATION_USERS", 3)
    rows = log_counts(sparse.csr_matrix(planted(80, seed=0)))
    validation = validation_users(40)

    chosen = choose_ease(rows, validation)

    assert chosen.regularization == choose_ease(rows, validation.take([0, 19, 39])).regularization
