import math

import numpy as np
import pytest

from tests.trainer.evaluation.second_stage_test import model_of_constants, snapshots
from trainer.contract import features as f
from trainer.evaluation import calibration
from trainer.evaluation.calibration import Calibration, calibrate, fit_calibration, tag_outcomes


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def platt_loss(logits, outcomes, weights, slope, intercept):
    """Returns Platt's objective, computed row by row."""
    num_one = sum(w for w, y in zip(weights, outcomes, strict=True) if y)
    num_zero = sum(w for w, y in zip(weights, outcomes, strict=True) if not y)
    total = 0.0
    for x, y, w in zip(logits, outcomes, weights, strict=True):
        target = (num_one + 1) / (num_one + 2) if y else 1 / (num_zero + 2)
        p = sigmoid(slope * x + intercept)
        total -= w * (target * math.log(p) + (1 - target) * math.log(1 - p))
    return total


@pytest.mark.parametrize(("slope", "intercept"), [(0.5, -1.5), (1.0, 0.0), (2.5, 3.0)])
def test_planted_slope_and_intercept_come_back(slope, intercept):
    rng = np.random.default_rng(0)
    logits = rng.normal(-1, 2, 200_000)
    outcomes = rng.random(len(logits)) < sigmoid(slope * logits + intercept)

    found = fit_calibration(logits, outcomes)

    assert found.slope == pytest.approx(slope, rel=0.03)
    assert found.intercept == pytest.approx(intercept, abs=0.05)
    assert found.num_examples == 200_000
    assert found.note == ""


def test_fit_is_the_minimum_of_platts_objective():
    rng = np.random.default_rng(1)
    logits = rng.normal(5, 3, 40)
    outcomes = rng.random(40) < sigmoid(logits - 5)
    weights = rng.uniform(0.5, 3, 40)

    found = fit_calibration(logits, outcomes, weights)

    best = platt_loss(logits, outcomes, weights, found.slope, found.intercept)
    for step in (1e-3, -1e-3):
        slope, intercept = found.slope + step, found.intercept + step
        assert platt_loss(logits, outcomes, weights, slope, found.intercept) > best
        assert platt_loss(logits, outcomes, weights, found.slope, intercept) > best


def test_a_weight_of_three_counts_as_three_rows():
    rng = np.random.default_rng(2)
    logits, outcomes = rng.normal(size=50), rng.integers(0, 2, 50)
    weights = rng.integers(1, 4, 50)

    weighted = fit_calibration(logits, outcomes, weights)
    repeated = fit_calibration(np.repeat(logits, weights), np.repeat(outcomes, weights))

    assert weighted.slope == pytest.approx(repeated.slope, rel=1e-5)
    assert weighted.intercept == pytest.approx(repeated.intercept, rel=1e-5, abs=1e-6)


def test_separable_outcomes_have_platts_probabilities():
    # Three ones above two zeros: nothing holds the slope but the targets 4/5 and 1/4.
    found = fit_calibration(np.array([1.0, 1.0, 1.0, -1.0, -1.0]), np.array([1, 1, 1, 0, 0]))

    np.testing.assert_allclose(found.probabilities([1.0, -1.0]), [4 / 5, 1 / 4], atol=1e-5)


def test_logits_that_rank_the_wrong_way_keep_their_order():
    rng = np.random.default_rng(3)
    logits = rng.normal(size=2_000)
    outcomes = rng.random(2_000) < sigmoid(-2 * logits - 1)

    found = fit_calibration(logits, outcomes)

    assert 0 < found.slope < 1e-3
    assert found.probabilities([0.0])[0] == pytest.approx(outcomes.mean(), abs=1e-3)


def test_equal_logits_get_the_share_of_ones():
    found = fit_calibration(np.full(98, 7.0), np.arange(98) < 24)

    # Platt's targets draw it towards one half: (24 * 25/26 + 74 * 1/76) / 98.
    expected = (24 * 25 / 26 + 74 / 76) / 98
    assert found.probabilities([7.0])[0] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("outcomes", [[0, 0], [1, 1], []])
def test_one_class_is_the_identity_and_says_so(outcomes):
    found = fit_calibration(np.arange(float(len(outcomes))), np.array(outcomes))

    assert (found.slope, found.intercept) == (1.0, 0.0)
    assert found.note == "validation outcomes have one class"


def test_a_slope_that_turns_the_order_round_is_refused():
    with pytest.raises(ValueError, match="`slope` must be positive. Received: slope=-1.0."):
        Calibration(slope=-1.0)


def test_tag_outcomes_equal_the_loop():
    rng = np.random.default_rng(4)
    num_tags, num_candidates = 9, 4
    # The third user's later clicks have no known tag; the last two have shown, and nothing.
    labels = [[0, 3, 8], [2], [-1], [], []]
    impressions = [[([0], 1)], [([2], 1), ([5], 0)], [([-1], 1)], [([7], 0)], []]
    chunk = snapshots(labels, [[]] * 5, impressions)
    scores = rng.normal(size=(5, num_tags))

    logits, outcomes = tag_outcomes(scores, chunk, num_candidates)

    expected = []
    for row, label in list(zip(scores, labels, strict=True))[:4]:
        best = sorted(range(num_tags), key=lambda tag, row=row: -row[tag])[:num_candidates]
        total = sum(math.exp(row[tag]) for tag in best)
        expected += [(math.log(math.exp(row[tag]) / total), tag in label) for tag in best]
    np.testing.assert_allclose(logits, [share for share, _ in expected])
    np.testing.assert_array_equal(outcomes, [clicked for _, clicked in expected])


def test_model_without_a_click_loss_has_no_item_calibration():
    model = model_of_constants([1.0, 0.0], [0.0, 0.0], joint_weight=0.0)

    found = calibrate(model, snapshots([[0], [1]], [[], []], [[([0], 1)], [([1], 0)]]), 2)

    assert found.items == Calibration(note="no click loss is trained")
    assert found.tags.num_examples == 4


def test_calibrations_of_a_model_are_those_of_its_logits():
    # Whoever the user, tag t has the multi-class logit bias[t] and the click logit click_bias[t].
    bias, click_bias = np.array([2.0, 1.0, 0.0, -1.0]), np.array([-1.0, 0.5, 2.0, 0.0])
    model = model_of_constants(bias, click_bias)
    labels = [[0, 1], [0], [2], [1]]
    impressions = [[([0, 1], 1), ([3], 0)], [([0], 1)], [([2], 1), ([3], 0)], [([3], 1), ([0], 0)]]
    users = snapshots(labels, [[]] * 4, impressions)
    users.lists[f.IMPRESSION_WEIGHTS].values[:] = [1, 2, 1, 1, 3, 1, 1]

    found = calibrate(model, users, num_candidates=3)

    items = fit_calibration(
        [-0.5, 0, -1, 2, 0, 0, -1], [1, 0, 1, 1, 0, 1, 0], [1, 2, 1, 1, 3, 1, 1]
    )
    assert found.items.slope == pytest.approx(items.slope, rel=1e-3)
    assert found.items.intercept == pytest.approx(items.intercept, abs=1e-3)
    shares = np.log(np.exp(bias[:3]) / np.exp(bias[:3]).sum())
    tags = fit_calibration(np.tile(shares, 4), [1, 1, 0, 1, 0, 0, 0, 0, 1, 0, 1, 0])
    assert found.tags.slope == pytest.approx(tags.slope, rel=1e-3)
    assert found.tags.intercept == pytest.approx(tags.intercept, abs=1e-3)
    assert calibrate(model, users, num_candidates=3) == found


def test_fewer_users_calibrate_where_there_are_many_tags(monkeypatch):
    model = model_of_constants([1.0, 0.0, -1.0], [0.0, 0.0, 0.0], joint_weight=0.0)
    users = snapshots([[0], [1], [2], [0], [1], [2]], [[]] * 6, [[([0], 1)]] * 6)
    monkeypatch.setattr(calibration, "_MAX_SCORES", 4 * 3)

    assert calibrate(model, users, num_candidates=2).tags.num_examples == 4 * 2
