"""Each check of the gate: what its interval passes, for how many users, and on noise."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from tfx_pipeline.config.gate import GateConfig
from tfx_pipeline.evaluation.gate import Check, check_model
from tfx_pipeline.evaluation.paired_comparison import compare_users

GATE = GateConfig(
    min_relative_gain=0.25,
    min_relative_novel_gain=0.5,
    min_click_gauc=0.625,
    min_relative_distinct=0.5,
    min_relative_coverage=0.25,
    max_relative_loss=0.5,
    confidence=0.95,
)
NUM_USERS = 50
P, NOVEL, DEEP, NOVEL_DEEP = (
    "precision_at_10",
    "novel_precision_at_10",
    "ndcg_at_50",
    "novel_ndcg_at_50",
)
# Figures are equal for all users, except for `wobble` below, which makes the intervals.
BASELINES = {
    "popularity": {P: 0.4, NOVEL: 0.25, DEEP: 0.2, NOVEL_DEEP: 0.2},
    "own_history": {P: 0.25, DEEP: 0.2},
    "blend": {P: 0.5, DEEP: 0.2},
    "ease": {P: 0.375, NOVEL: 0.3, DEEP: 0.2, NOVEL_DEEP: 0.2},
}
# At the bounds 0.5 * 1.25, 0.3 * 1.5 and 0.625; above 0.2 * 1.25 and 0.2 * 1.5.
MODEL = {
    P: 0.625,
    NOVEL: 0.45,
    DEEP: 0.35,
    NOVEL_DEEP: 0.35,
    "click_gauc": 0.625,
    "click_gauc_weight": 1.0,
}
# Baselines other than popularity have at least 4 lists and a share of 0.5.
LISTS = {
    "model": {"distinct_top10": 2.0, "coverage_at_10": 0.125},
    "popularity": {"distinct_top10": 1.0, "coverage_at_10": 0.01},
    "own_history": {"distinct_top10": 9.0, "coverage_at_10": 0.75},
    "blend": {"distinct_top10": 4.0, "coverage_at_10": 0.75},
    "ease": {"distinct_top10": 8.0, "coverage_at_10": 0.5},
}
NAMES = {
    P: "P@10 against the best of the baselines, blend",
    NOVEL: "novel P@10 against the best of the baselines, ease",
    DEEP: "personal lists (novel NDCG@50) against popularity",
    "distinct_top10": "distinct top-10 lists (collapse)",
    "coverage_at_10": "tags in anyone's top 10 (coverage)",
    "click_gauc": "click GAUC",
    "last": "P@10 against the last blessed model",
}
WOBBLE = 0.05 * np.where(np.arange(NUM_USERS) % 2, 1.0, -1.0)
# Half of a 95 % interval of 50 differences that are 0.05 or -0.05.
HALF = stats.t.ppf(0.975, NUM_USERS - 1) * WOBBLE.std(ddof=1) / NUM_USERS**0.5


def checks_of(model=None, lists=None, last=None, has_click_head=True, gate=GATE, baselines=None):
    """Returns checks of a log where users differ, and the model from its baselines in each."""
    rows = {"model": {**MODEL, **(model or {})}, **(baselines or BASELINES)}
    if last is not None:
        rows["last_blessed"] = {P: last}
    by_user = {
        who: {
            metric: np.full(NUM_USERS, np.nan if value is None else value)
            + (WOBBLE if who == "model" and metric != "click_gauc_weight" else 0.0)
            for metric, value in row.items()
        }
        for who, row in rows.items()
    }
    figures = {
        who: {metric: row.get(metric) for metric in (P, NOVEL)} | LISTS.get(who, {})
        for who, row in rows.items()
    }
    figures["model"] |= lists or {}
    return check_model(figures, by_user, gate, has_click_head)


def failed(**changes):
    return [check.name for check in checks_of(**changes) if not check.is_passed]


def test_model_at_every_bound_is_blessed():
    assert failed() == []


@pytest.mark.parametrize("figure", [P, NOVEL, "click_gauc"])
@pytest.mark.parametrize("less", [0.99, 1.01])
def test_model_may_be_below_a_bound_as_far_as_the_interval_reaches(figure, less):
    below = {figure: MODEL[figure] - less * HALF}

    assert failed(model=below) == ([NAMES[figure]] if less > 1 else [])


@pytest.mark.parametrize("more", [0.99, 1.01])
def test_above_wants_the_whole_interval_above_the_bound(more):
    gate = dataclasses.replace(GATE, rule="above")
    model = {P: MODEL[P] + more * HALF, NOVEL: MODEL[NOVEL] + 2 * HALF}

    assert failed(model=model, gate=gate) == ([NAMES[P]] if more < 1 else [])


@pytest.mark.parametrize("figure", ["distinct_top10", "coverage_at_10"])
def test_lists_are_as_many_as_a_share_of_the_baselines(figure):
    lists = {figure: LISTS["model"][figure] * 0.999}
    assert failed(lists=lists) == [NAMES[figure]]
    assert failed(lists={figure: None}) == [NAMES[figure]]


def test_popularity_alone_asks_for_nearly_no_lists():
    gate = dataclasses.replace(GATE, baselines=("popularity",))
    assert failed(lists={"distinct_top10": 0.5, "coverage_at_10": 0.0025}, gate=gate) == []


@pytest.mark.parametrize("metric", [DEEP, NOVEL_DEEP])
def test_one_truth_is_enough_to_show_that_lists_are_personal(metric):
    assert failed(model={metric: 0.1}) == []


def test_lists_no_better_than_popularity_are_not_personal():
    # Exactly at the margins: not above by any interval.
    assert failed(model={DEEP: 0.25, NOVEL_DEEP: 0.3}) == [
        "personal lists (NDCG@50) against popularity"
    ]


def test_two_chances_make_the_interval_wider():
    personal = next(check for check in checks_of() if check.name.startswith("personal"))
    assert personal.confidence == pytest.approx(0.975)
    half = stats.t.ppf(0.9875, NUM_USERS - 1) / stats.t.ppf(0.975, NUM_USERS - 1) * HALF
    for more, expected in ((0.99, 1), (1.01, 0)):
        changes = {DEEP: 0.1, NOVEL_DEEP: 0.3 + more * half}
        assert len(failed(model=changes)) == expected


@pytest.mark.parametrize("figure", [P, NOVEL, "click_gauc"])
def test_undefined_figure_passes_no_check(figure):
    assert failed(model={figure: None}) == [NAMES[figure]]


def test_missing_figures_pass_no_check():
    checks = check_model(
        {"model": {}, "blend": {P: 0.5, NOVEL: 0.5}},
        {"model": {}, "blend": {P: np.full(9, 0.5), NOVEL: np.full(9, 0.5)}},
        GateConfig(),
        True,
    )
    # Lists are not compared where the baselines have none; even then the model must have some.
    assert len(checks) == 6
    assert not any(check.is_passed for check in checks)


def test_what_no_user_has_a_truth_for_is_not_asked():
    baselines = {who: {**row, NOVEL: None} for who, row in BASELINES.items()}
    names = [check.name for check in checks_of(model={NOVEL: None}, baselines=baselines)]
    assert not [name for name in names if name.startswith("novel")]


def test_strongest_baseline_counts_and_is_named():
    strong = {**BASELINES, "own_history": {P: 0.6}}
    assert failed(baselines=strong) == ["P@10 against the best of the baselines, own history"]
    weak = {who: {**row, P: 0.1} for who, row in BASELINES.items()}
    assert failed(baselines=weak) == []


def test_baseline_that_is_not_configured_does_not_count():
    gate = dataclasses.replace(GATE, baselines=("popularity", "own_history"))
    strong = {**BASELINES, "blend": {P: 0.9}}
    assert failed(baselines=strong) == ["P@10 against the best of the baselines, blend"]
    lists = {"distinct_top10": 9.0, "coverage_at_10": 0.75}
    assert failed(baselines=strong, gate=gate, lists=lists) == []


def test_baseline_that_the_run_left_out_is_not_asked_for():
    assert "ease_own_history" in GATE.baselines  # no row of it above
    assert failed() == []


def test_where_every_configured_baseline_is_left_out_those_that_are_always_there_count():
    gate = dataclasses.replace(GATE, baselines=("neighbours",))
    first = checks_of(gate=gate)[0]
    assert (first.name, first.bound) == (NAMES[P], pytest.approx(0.5 * 1.25))


def test_click_head_is_checked_only_where_it_was_trained():
    assert failed(model={"click_gauc": None}, has_click_head=False) == []


def test_click_gauc_weighs_users_by_their_impressions():
    # Two kinds of users with the same AUC: that one has more impressions is no doubt about it.
    weights = np.where(np.arange(40) % 2, 0.2, 1.8)
    by_user = {"model": {"click_gauc": 0.6 * weights, "click_gauc_weight": weights}}
    gate = GateConfig(min_click_gauc=0.59)
    gauc = next(
        check
        for check in check_model({"model": {}}, by_user, gate, True)
        if check.name == "click GAUC"
    )
    assert gauc.value == pytest.approx(0.6)
    assert gauc.low == pytest.approx(0.0065, abs=1e-4)  # -0.19 if the sizes were in doubt
    assert gauc.is_passed


def test_last_blessed_model_is_checked_where_there_is_one():
    assert failed(last=1.25) == []  # half of it is reached
    assert failed(last=1.25 + 1.98 * HALF) == []
    assert failed(last=1.25 + 2.02 * HALF) == [NAMES["last"]]
    assert failed(last=0.1) == []


def test_last_blessed_model_without_a_figure_does_not_bar_the_next():
    assert failed(last=np.nan) == []


@pytest.mark.parametrize(
    ("too_few_users", "expected"), [("hold", [NAMES[P], NAMES[NOVEL]]), ("warn", [])]
)
def test_too_few_users_are_said_with_the_number_needed(too_few_users, expected):
    gate = dataclasses.replace(GATE, rule="above", too_few_users=too_few_users)
    model = {P: MODEL[P] + 0.5 * HALF, NOVEL: MODEL[NOVEL] + 0.25 * HALF}

    checks = checks_of(model=model, gate=gate)

    assert [check.name for check in checks if not check.is_passed] == expected
    open_ones = {check.name: check.num_needed for check in checks if check.num_needed is not None}
    # A difference of half the width takes four times the users, a quarter sixteen times.
    for name, factor in ((NAMES[P], 4), (NAMES[NOVEL], 16)):
        assert open_ones[name] == pytest.approx(factor * NUM_USERS, rel=0.06)
    assert [check.is_warning for check in checks].count(True) == 2 * (too_few_users == "warn")


@pytest.mark.parametrize(("num_users", "is_held"), [(51, True), (50, False)])
def test_few_users_are_no_claim_however_clear_they_are(num_users, is_held):
    gate = dataclasses.replace(GATE, min_users=num_users)
    names = failed(gate=gate)
    assert bool(names) == is_held
    if is_held:
        expected = [NAMES[P], NAMES[NOVEL], NAMES[DEEP], NAMES["click_gauc"]]
        assert [name.replace("(NDCG", "(novel NDCG") for name in names] == expected
        assert failed(gate=dataclasses.replace(gate, too_few_users="warn")) == []


def test_what_is_worse_is_held_even_with_few_users_and_a_warning():
    gate = dataclasses.replace(GATE, min_users=99, too_few_users="warn")
    assert failed(model={P: MODEL[P] - 2 * HALF, DEEP: 0.1, NOVEL_DEEP: 0.1}, gate=gate) == [
        NAMES[P],
        "personal lists (NDCG@50) against popularity",
    ]


# --- intervals ---


def test_interval_is_students():
    rng = np.random.default_rng(0)
    first, second = rng.random(40), rng.random(40)
    first[3], second[5] = np.nan, np.nan

    compared = compare_users(first, second, 0.9)

    both = [i for i in range(40) if i not in (3, 5)]
    expected = stats.ttest_rel(first[both], second[both]).confidence_interval(0.9)
    assert compared.num_users == 38
    assert (compared.low, compared.high) == pytest.approx((expected.low, expected.high))
    assert compared.difference == pytest.approx((first[both] - second[both]).mean())


@pytest.mark.parametrize("num", [0, 1])
def test_without_two_users_there_is_no_interval(num):
    compared = compare_users(np.ones(num), np.zeros(num), 0.95)
    assert (compared.low, compared.high, compared.is_above, compared.is_below) == (
        None,
        None,
        False,
        False,
    )


def test_equal_differences_are_certain():
    assert compare_users(np.ones(5), np.zeros(5), 0.95).is_above
    assert compare_users(np.zeros(5), np.ones(5), 0.95).is_below


def test_number_needed_is_that_of_the_difference():
    rng = np.random.default_rng(1)
    first = rng.normal(0.01, 0.1, 100)
    needed = compare_users(first, np.zeros(100), 0.95).num_needed
    enough = np.tile(first, -(-needed * 11 // 1000))  # a tenth more, for the t
    assert compare_users(enough, np.zeros(len(enough)), 0.95).is_above
    assert compare_users(-abs(first), np.zeros(100), 0.95).num_needed is None


def test_check_reads_as_a_line():
    assert (
        str(Check("index recall", 0.5, 0.66, False))
        == "index recall: 0.5000, must be at least 0.6600"
    )
    assert str(Check("index recall", None, 0.66, False)) == (
        "index recall: undefined, must be at least 0.6600"
    )
