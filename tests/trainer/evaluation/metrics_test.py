import numpy as np
import pytest

from trainer.evaluation import metrics

HITS = np.array([[1, 0, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1]], bool)
NUM_RELEVANT = np.array([2, 3, 5])


def test_precision_is_the_share_of_the_cut():
    np.testing.assert_allclose(metrics.precision_at(HITS, 3), [2 / 3, 0, 1])


def test_precision_of_a_short_list_counts_missing_ranks():
    np.testing.assert_allclose(metrics.precision_at(HITS, 8), [2 / 8, 0, 4 / 8])


def test_recall_is_the_share_of_the_truth():
    np.testing.assert_allclose(metrics.recall_at(HITS, NUM_RELEVANT, 3), [1, 0, 3 / 5])


def test_ndcg_matches_a_hand_computed_list():
    # DCG@3 = 1 + 1/log2(4) = 1.5; ideal = 1 + 1/log2(3), as only two are relevant.
    expected = [1.5 / (1 + 1 / np.log2(3)), 0, 1]
    np.testing.assert_allclose(metrics.ndcg_at(HITS, NUM_RELEVANT, 3), expected)


def test_ndcg_of_a_short_list_has_the_ideal_of_the_cut():
    ideal = sum(1 / np.log2(rank + 1) for rank in range(1, 6))
    gained = sum(1 / np.log2(rank + 1) for rank in range(1, 5))
    np.testing.assert_allclose(metrics.ndcg_at(HITS, NUM_RELEVANT, 10)[2], gained / ideal)


def test_no_truth_is_undefined():
    none = np.zeros(3, int)
    assert np.isnan(metrics.recall_at(HITS, none, 2)).all()
    assert np.isnan(metrics.ndcg_at(HITS, none, 2)).all()


def test_top_k_breaks_ties_by_column():
    scores = np.array([[1.0, 3.0, 1.0, 2.0, 1.0], [0.0, 0.0, 0.0, 0.0, 0.0]])
    np.testing.assert_array_equal(metrics.top_k(scores, 4), [[1, 3, 0, 2], [0, 1, 2, 3]])


def test_top_k_equals_a_stable_sort_of_everything():
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 20, (50, 200)).astype(float)
    scores[rng.random(scores.shape) < 0.3] = -np.inf
    expected = np.argsort(-scores, axis=1, kind="stable")
    for k in (1, 7, 199, 200):
        np.testing.assert_array_equal(metrics.top_k(scores, k), expected[:, :k])


def test_top_k_beyond_the_corpus_returns_the_corpus():
    np.testing.assert_array_equal(metrics.top_k(np.array([[1.0, 2.0]]), 10), [[1, 0]])


def slow_auc(scores, clicked, weights):
    pairs = total = 0.0
    for i in np.flatnonzero(clicked):
        for j in np.flatnonzero(1 - clicked):
            weight = weights[i] * weights[j]
            total += weight
            pairs += weight * ((scores[i] > scores[j]) + 0.5 * (scores[i] == scores[j]))
    return pairs / total if total else np.nan


def test_auc_by_group_equals_the_double_loop():
    rng = np.random.default_rng(1)
    groups = rng.integers(0, 30, 400)  # in no order, with ties, some with one class
    scores = rng.integers(0, 6, 400).astype(float)
    clicked = rng.integers(0, 2, 400)
    clicked[groups == 4] = 1
    weights = rng.integers(1, 4, 400).astype(float)
    result = metrics.auc_by_group(scores, clicked, weights, groups, 32)
    for group in range(32):
        inside = groups == group
        expected = slow_auc(scores[inside], clicked[inside], weights[inside])
        np.testing.assert_allclose(result[group], expected)
    assert np.isnan(result[4])
    assert np.isnan(result[31])


def test_gauc_weights_users_by_impressions():
    # User 0: 3 of 4 pairs right over 4 impressions; user 1: a tie over 2; user 2: one class, left
    # out.
    scores = np.array([0.9, 0.2, 0.5, 0.1, 0.3, 0.3, 1.0])
    clicked = np.array([1, 1, 0, 0, 1, 0, 1])
    users = np.array([0, 0, 0, 0, 1, 1, 2])
    result = metrics.gauc(scores, clicked, np.ones(7), users, 3)
    assert result == pytest.approx((4 * 0.75 + 2 * 0.5) / 6)


def test_gauc_without_two_classes_is_undefined():
    ones = np.ones(2)
    assert np.isnan(metrics.gauc(ones, ones, ones, np.array([0, 1]), 2))
    assert np.isnan(metrics.gauc(ones[:0], ones[:0], ones[:0], np.zeros(0, int), 2))


def test_mean_leaves_undefined_users_out():
    assert metrics.mean_defined(np.array([1.0, np.nan, 2.0])) == 1.5
    assert np.isnan(metrics.mean_defined(np.array([np.nan])))


def slow_calibration_error(probabilities, outcomes, num_bins):
    """Deals rows of weight 1 and distinct probabilities into bins, one by one."""
    rows = sorted(zip(probabilities, outcomes, strict=True))
    bins = [[] for _ in range(num_bins)]
    for i, row in enumerate(rows):
        bins[int((i + 0.5) * num_bins / len(rows))].append(row)
    total = 0.0
    for inside in filter(None, bins):
        mean_probability = sum(p for p, _ in inside) / len(inside)
        share = sum(y for _, y in inside) / len(inside)
        total += len(inside) / len(rows) * abs(share - mean_probability)
    return total


@pytest.mark.parametrize(("num_rows", "num_bins"), [(300, 15), (47, 15), (9, 15), (64, 1)])
def test_calibration_error_equals_the_loop(num_rows, num_bins):
    rng = np.random.default_rng(0)
    probabilities, outcomes = rng.random(num_rows) ** 3, rng.integers(0, 2, num_rows)

    found = metrics.expected_calibration_error(probabilities, outcomes, num_bins=num_bins)

    assert found == pytest.approx(slow_calibration_error(probabilities, outcomes, num_bins))


def test_calibration_error_by_hand():
    # Two bins: .1 and .2 with no click, .6 and .8 with one: .15 and .2 apart.
    probabilities, outcomes = np.array([0.8, 0.1, 0.6, 0.2]), np.array([1, 0, 0, 0])
    found = metrics.expected_calibration_error(probabilities, outcomes, num_bins=2)
    assert found == pytest.approx(0.5 * 0.15 + 0.5 * 0.2)


def test_calibration_error_of_a_weight_is_that_of_as_many_rows():
    rng = np.random.default_rng(1)
    probabilities = rng.choice([0.05, 0.1, 0.3, 0.35, 0.7], 60)
    outcomes, weights = rng.integers(0, 2, 60), rng.integers(1, 5, 60)
    found = metrics.expected_calibration_error(probabilities, outcomes, weights, num_bins=4)
    repeated = metrics.expected_calibration_error(
        np.repeat(probabilities, weights), np.repeat(outcomes, weights), num_bins=4
    )
    assert found == pytest.approx(repeated)


def test_calibration_error_of_equal_probabilities_does_not_depend_on_their_order():
    # Split in the order of rows, four bins would be 1/2 off each; together they are right.
    probabilities, outcomes = np.full(8, 0.5), np.array([1, 1, 0, 0, 1, 1, 0, 0])
    assert metrics.expected_calibration_error(probabilities, outcomes, num_bins=4) == 0
    assert metrics.expected_calibration_error(probabilities, outcomes > 1, num_bins=4) == 0.5


def test_log_loss_and_brier_score_by_hand():
    probabilities, outcomes = np.array([0.8, 0.4, 0.0]), np.array([1, 0, 0])
    weights = np.array([1.0, 3.0, 0.5])
    expected = (-np.log(0.8) - 3 * np.log(0.6)) / 4.5
    assert metrics.log_loss(probabilities, outcomes, weights) == pytest.approx(expected, abs=1e-6)
    expected = (0.04 + 3 * 0.16) / 4.5
    assert metrics.brier_score(probabilities, outcomes, weights) == pytest.approx(expected)
    assert metrics.brier_score(probabilities, outcomes) == pytest.approx(0.2 / 3)


def test_log_loss_of_a_wrong_certainty_is_finite():
    found = metrics.log_loss(np.array([0.0, 1.0]), np.array([1, 0]))
    assert found == pytest.approx(-np.log(1e-7), rel=1e-6)


def test_calibration_of_nothing_is_undefined():
    nothing = np.zeros(0)
    for metric in (metrics.expected_calibration_error, metrics.log_loss, metrics.brier_score):
        assert np.isnan(metric(nothing, nothing))
        assert np.isnan(metric(nothing, nothing, nothing))
