"""Each check of the gate at its border, and what is undefined passes none."""

import pytest

from tfx_pipeline.gate import Check, check_model
from tfx_pipeline.gate_config import GateConfig

GATE = GateConfig(
    min_relative_gain=0.25,
    min_relative_novel_gain=0.5,
    min_click_gauc=0.625,
    min_distinct_top10=0.5,
    min_coverage_at_10=0.125,
    max_relative_loss=0.5,
)
BASELINES = {
    "popularity": {"precision_at_10": 0.5, "novel_precision_at_10": 0.25},
    "own_history": {"precision_at_10": 0.25, "novel_precision_at_10": None},
    "blend": {"precision_at_10": 0.375, "novel_precision_at_10": None},
}
# Just above the baselines' bounds, 0.5 * 1.25 and 0.25 * 1.5; exactly at the others, 0.5 * 8 users.
MODEL = {
    "precision_at_10": 0.6251,
    "novel_precision_at_10": 0.3751,
    "distinct_top10": 4,
    "coverage_at_10": 0.125,
    "click_gauc": 0.625,
}
NAMES = {
    "precision_at_10": "P@10 against the best of popularity, own history and their blend",
    "novel_precision_at_10": "novel P@10 against popularity",
    "distinct_top10": "distinct top-10 lists (collapse)",
    "coverage_at_10": "tags in anyone's top 10 (coverage)",
    "click_gauc": "click GAUC",
}


def failed(model=None, last=None, has_click_head=True, num_users=8, baselines=None):
    figures = {"model": {**MODEL, **(model or {})}, **(baselines or BASELINES)}
    if last is not None:
        figures["last_blessed"] = {"precision_at_10": last}
    checks = check_model(figures, GATE, num_users, has_click_head)
    return [check.name for check in checks if not check.is_passed]


def test_model_at_every_bound_is_blessed():
    assert failed() == []


@pytest.mark.parametrize("figure", sorted(MODEL))
def test_figure_just_below_its_bound_fails_its_check_alone(figure):
    assert failed({figure: MODEL[figure] * 0.999}) == [NAMES[figure]]


@pytest.mark.parametrize(
    "figure, bound", [("precision_at_10", 0.625), ("novel_precision_at_10", 0.375)]
)
def test_model_only_as_good_as_the_bound_has_not_beaten_the_baselines(figure, bound):
    assert failed({figure: bound}) == [NAMES[figure]]


@pytest.mark.parametrize("figure", sorted(MODEL))
def test_undefined_figure_passes_no_check(figure):
    assert failed({figure: None}) == [NAMES[figure]]


def test_missing_figure_passes_no_check():
    checks = check_model({"model": {}, **BASELINES}, GATE, 8, True)
    assert not any(check.is_passed for check in checks)
    assert len(checks) == 5


def test_strongest_baseline_counts():
    own = {**BASELINES, "own_history": {"precision_at_10": 0.6}}
    assert failed(baselines=own) == [NAMES["precision_at_10"]]
    blend = {**BASELINES, "blend": {"precision_at_10": 0.6}}
    assert failed(baselines=blend) == [NAMES["precision_at_10"]]
    weak = {**BASELINES, "popularity": {"precision_at_10": 0.1, "novel_precision_at_10": 0.25}}
    assert failed(baselines=weak) == []


def test_undefined_baseline_counts_as_nothing():
    nothing = {who: {"precision_at_10": None} for who in BASELINES}
    assert failed(baselines=nothing) == []


def test_collapse_is_measured_against_the_number_of_users():
    assert failed(num_users=9) == [NAMES["distinct_top10"]]


def test_click_head_is_checked_only_where_it_was_trained():
    assert failed({"click_gauc": None}, has_click_head=False) == []


def test_last_blessed_model_is_checked_where_there_is_one():
    assert failed(last=1.2502) == []  # half of it is still reached
    assert failed(last=1.26) == ["P@10 against the last blessed model"]
    assert failed(last=0.1) == []


def test_last_blessed_model_without_a_figure_does_not_bar_the_next():
    figures = {"model": MODEL, **BASELINES, "last_blessed": {"precision_at_10": None}}
    assert all(check.is_passed for check in check_model(figures, GATE, 8, True))


def test_check_reads_as_a_line():
    assert str(Check("click GAUC", 0.5, 0.66, False)) == (
        "click GAUC: 0.5000, must be at least 0.6600"
    )
    assert str(Check("click GAUC", None, 0.66, False)) == (
        "click GAUC: undefined, must be at least 0.6600"
    )
