"""Differences and verdicts from given results, by value."""

import numpy as np
import pytest
from scipy import stats

from tests.tfx_pipeline.study.made_results import make_results, make_run
from tfx_pipeline.study.grid.config import Cell, Question, Selector, Side
from tfx_pipeline.study.report.questions import answer
from tfx_pipeline.study.trials.results import Results

A, B = Cell("a", "both"), Cell("b", "both")
HIGH, LOW = (0.70, 0.71, 0.72), (0.50, 0.51, 0.53)
NEAR = (0.69, 0.70, 0.73)
TOWER_B = Selector(tower="b")


def question(against=(TOWER_B,), metrics=("precision_at_10",), **options):
    return Question(
        "?",
        Selector(tower="a"),
        tuple(against),
        Selector(objective="both"),
        metrics=metrics,
        **options,
    )


def only_comparison(results, **options):
    (one,) = answer([question(**options)], results)
    (comparison,) = one.comparisons
    return comparison


def test_difference_of_two_towers_is_welchs():
    comparison = only_comparison(make_results({A: HIGH, B: LOW}))

    expected = stats.ttest_ind(HIGH, LOW, equal_var=False)
    assert comparison.difference.mean == pytest.approx(np.mean(HIGH) - np.mean(LOW))
    assert comparison.difference.p_value == pytest.approx(expected.pvalue)
    assert comparison.adjusted_p == pytest.approx(expected.pvalue)
    assert comparison.reference_mean.mean == pytest.approx(0.71)
    assert not comparison.is_paired
    assert comparison.verdict == "above"


@pytest.mark.parametrize(
    ("first", "second", "verdict"),
    [
        (HIGH, LOW, "above"),
        (LOW, HIGH, "below"),
        (HIGH, NEAR, "not separate"),
        (HIGH[:1], LOW[:1], "one seed"),
        ((0.7, None, 0.7), LOW, "undefined"),
    ],
)
def test_verdict_is_a_claim_only_where_intervals_are_apart(first, second, verdict):
    def runs(cell, values):
        return [
            make_run(cell, seed, {"model.precision_at_10": value})
            for seed, value in enumerate(values)
        ]

    comparison = only_comparison(Results((*runs(A, first), *runs(B, second))))

    assert comparison.verdict == verdict


def test_difference_that_users_do_not_bear_out_is_no_claim():
    by_user = {A: (0.9, 0.1, 0.8, 0.2), B: (0.1, 0.8, 0.3, 0.6)}

    comparison = only_comparison(make_results({A: HIGH, B: LOW}, by_user))

    expected = stats.ttest_rel(by_user[A], by_user[B])
    assert comparison.user_difference.p_value == pytest.approx(expected.pvalue, rel=1e-5)
    assert comparison.user_difference.low < 0 < comparison.user_difference.high
    assert comparison.verdict == "not separate"


def test_difference_that_seeds_and_users_bear_out_is_a_claim():
    by_user = {A: (0.9, 0.5, 0.7, 0.6), B: (0.7, 0.31, 0.52, 0.4)}

    comparison = only_comparison(make_results({A: HIGH, B: LOW}, by_user))

    assert comparison.user_difference.low > 0
    assert comparison.verdict == "above"


def test_users_without_a_figure_are_left_out_of_the_users_difference():
    by_user = {A: (0.9, np.nan, 0.7, 0.6), B: (0.7, np.nan, 0.5, 0.1)}

    comparison = only_comparison(make_results({A: HIGH, B: LOW}, by_user))

    expected = stats.ttest_rel([0.9, 0.7, 0.6], [0.7, 0.5, 0.1])
    assert comparison.user_difference.mean == pytest.approx(0.3, rel=1e-5)
    assert comparison.user_difference.p_value == pytest.approx(expected.pvalue, rel=1e-4)


def test_each_user_counts_with_the_mean_over_seeds():
    users = [(0.0, 0.2, 0.4, 0.6), (0.2, 0.4, 0.6, 0.8)]
    runs = [
        make_run(A, seed, {"model.precision_at_10": 0.5}, {"model.precision_at_10": values})
        for seed, values in enumerate(users)
    ]

    by_user = Results(tuple(runs)).by_user(Side(A), "precision_at_10")

    np.testing.assert_allclose(by_user, [0.1, 0.3, 0.5, 0.7], rtol=1e-6)


def test_different_users_are_not_compared_one_by_one():
    first = [make_run(A, 0, {"model.precision_at_10": 0.5}, {"model.precision_at_10": [0.5] * 4})]
    second = [make_run(B, 0, {"model.precision_at_10": 0.5}, {"model.precision_at_10": [0.5] * 3})]

    assert only_comparison(Results((*first, *second))).user_difference is None


def test_figures_of_the_same_models_are_paired_by_seed():
    # Every seed gains 0.01; over seeds the figures differ by much more.
    runs = [
        make_run(A, seed, {"model.precision_at_10": v + 0.01 + d, "click_stage.precision_at_10": v})
        for seed, (v, d) in enumerate([(0.5, 0.0), (0.6, 0.001), (0.7, -0.001)])
    ]

    comparison = only_comparison(
        Results(tuple(runs)), against=[Selector(tower="a", who="click_stage")]
    )

    expected = stats.ttest_rel([0.51, 0.611, 0.709], [0.5, 0.6, 0.7])
    assert comparison.is_paired
    assert comparison.difference.p_value == pytest.approx(expected.pvalue)
    assert comparison.verdict == "above"


def test_model_is_compared_with_what_needs_no_model():
    comparison = only_comparison(
        make_results({A: HIGH}, {A: (0.7, 0.72, 0.69, 0.73)}),
        against=[Selector(tower="a", who="popularity")],
    )

    assert comparison.other_mean.mean == 0.25
    assert comparison.difference.mean == pytest.approx(0.46)
    assert comparison.user_difference.mean == pytest.approx(0.46, rel=1e-5)
    assert comparison.verdict == "above"


def test_metric_that_a_baseline_does_not_have_is_undefined():
    comparison = only_comparison(
        make_results({A: HIGH}),
        against=[Selector(tower="a", who="popularity")],
        metrics=("click_gauc",),
    )

    assert (comparison.verdict, comparison.difference, comparison.adjusted_p) == (
        "undefined",
        None,
        None,
    )


def test_p_values_are_adjusted_for_the_comparisons_of_all_questions():
    results = make_results({A: HIGH, B: LOW})
    questions = [question(metrics=("precision_at_10", "click_gauc")), question()]

    comparisons = [c for one in answer(questions, results) for c in one.comparisons]

    # All three have the same p-value: the smallest of three is multiplied by 3, and none is less.
    p_value = stats.ttest_ind(HIGH, LOW, equal_var=False).pvalue
    assert [c.adjusted_p for c in comparisons] == [pytest.approx(3 * p_value)] * 3
