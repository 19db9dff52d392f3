"""The conclusions of a study of defaults from given figures: means, users, verdicts, ranks."""

import numpy as np
import pytest
from scipy import stats

from tfx_pipeline.study.grid.defaults_config import DefaultConfig, DefaultsConfig, LogConfig
from tfx_pipeline.study.grid.defaults_definition import Sample
from tfx_pipeline.study.report.defaults_report import (
    against_best,
    build_defaults_report,
    log_table,
    summary_table,
)
from tfx_pipeline.study.trials.defaults_results import DefaultRun, DefaultsResults, SampleBaselines
from tfx_pipeline.study.trials.evaluation import Figures
from tfx_pipeline.study.trials.trial import FinishedTrial, TrialOutcome

P, GAUC = "precision_at_10", "click_gauc"
USERS = np.array([f"u{i}".encode() for i in range(40)], object)
NOISE = np.random.default_rng(0).normal(0.0, 0.05, 40)


def run(sample, default, seed, values, users=USERS, validation=0.5):
    """Makes a run whose figures by user are `values`; click GAUC has none."""
    values = np.asarray(values, np.float32)
    metrics = {
        f"eval.model.{P}": float(np.nanmean(values)),
        f"eval_validation.model.{P}": validation,
        f"eval.model.{GAUC}": None,
        f"eval.multi_class_stage.{P}": 0.0,
    }
    outcome = TrialOutcome(10, 20, 99.5, 3, 2, 0.05, 4.25, metrics)
    finished = FinishedTrial("c", outcome, {f"model.{P}": values})
    key = f"{sample.name}-{default}-{seed}"
    return DefaultRun(sample, default, seed, sample.name, key, finished, users)


def baselines(users=USERS, **by_name):
    figures = {
        who: Figures({P: float(np.mean(values)), GAUC: None}, {P: np.asarray(values, np.float32)})
        for who, values in by_name.items()
    }
    return SampleBaselines({0: figures, 1: figures}, users)


ONE, FEW_0, FEW_1 = Sample("one"), Sample("few", 0), Sample("few", 1)


@pytest.fixture
def results():
    """Makes results on `one`: good above the blend by .1, bad below, same equal; two seeds."""
    level = 0.5 + NOISE
    shift = {"same": 0.0, "good": 0.1, "bad": -0.1}
    runs = [
        run(ONE, name, seed, level + by + NOISE[::-1] / 2, validation=0.5 + by + seed / 100)
        for name, by in shift.items()
        for seed in (0, 1)
    ]
    known = {ONE: baselines(popularity=level - 0.3, blend=level, random=level * 0)}
    return DefaultsResults(tuple(runs), known, (P, GAUC))


def test_mean_is_over_draws_and_seeds_and_undefined_where_a_value_is():
    runs = (
        run(FEW_0, "a", 0, [0.1] * 40),
        run(FEW_0, "a", 1, [0.2] * 40),
        run(FEW_1, "a", 0, [0.4] * 40),
        run(FEW_1, "a", 1, [0.5] * 40),
    )
    known = {FEW_0: baselines(blend=[0.2] * 40), FEW_1: baselines(blend=[0.4] * 40)}
    results = DefaultsResults(runs, known, (P, GAUC))

    mean = results.mean("few", "a", P)
    assert (mean.num, mean.mean) == (4, pytest.approx(0.3))
    assert mean.deviation == pytest.approx(np.std([0.1, 0.2, 0.4, 0.5], ddof=1))
    assert results.mean("few", "blend", P).deviation == pytest.approx(np.std([0.2, 0.4], ddof=1))
    assert results.mean("few", "a", GAUC) is None
    assert results.mean("few", "a", P, "eval_validation").mean == 0.5


def test_default_is_compared_with_a_baseline_user_by_user(results):
    one = results.against("one", "good", "blend", P)

    differences = 0.1 + NOISE[::-1] / 2
    expected = stats.t.interval(0.95, 39, np.mean(differences), stats.sem(differences))
    assert one.comparison.num_users == 40
    assert (one.comparison.low, one.comparison.high) == pytest.approx(expected, abs=1e-6)
    verdicts = [results.against("one", d, "blend", P).verdict for d in ("good", "same", "bad")]
    assert verdicts == ["above", "not separate", "below"]
    assert results.against("one", "good", "bad", P).verdict == "above"
    assert results.against("one", "good", "blend", GAUC).verdict == "undefined"


def test_user_of_several_draws_counts_once_with_their_mean():
    # u1 is in both draws, in other places; u9 has no figure of the default.
    first, second = np.array(["u0", "u1", "u9"], object), np.array(["u1", "u2"], object)
    runs = (
        run(FEW_0, "a", 0, [0.4, 0.6, np.nan], first),
        run(FEW_1, "a", 0, [0.8, 0.1], second),
    )
    known = {
        FEW_0: baselines(first, blend=[0.1, 0.2, 0.3]),
        FEW_1: baselines(second, blend=[0.4, 0.1]),
    }
    results = DefaultsResults(runs, known, (P,))

    one = results.against("few", "a", "blend", P).comparison

    differences = [0.4 - 0.1, 0.7 - 0.3, 0.1 - 0.1]
    assert one.num_users == 3
    assert one.difference == pytest.approx(np.mean(differences), abs=1e-6)
    assert one.deviation == pytest.approx(np.std(differences, ddof=1), abs=1e-6)
    assert results.num_users("few") == 4


def test_users_in_another_order_are_the_same_users(results):
    turned = [
        run(r.sample, r.default, r.seed, r.finished.by_user[f"model.{P}"][::-1], USERS[::-1])
        for r in results.runs
    ]
    other = DefaultsResults(tuple(turned), results.baselines, results.metrics)

    first, second = (r.against("one", "good", "blend", P).comparison for r in (results, other))
    assert (first.low, first.high) == pytest.approx((second.low, second.high))


def test_best_baseline_is_the_highest_and_chance_is_none(results):
    assert results.baselines_of("one") == ("blend", "popularity")
    assert results.best_baseline("one", P) == "blend"
    assert results.best_baseline("one", GAUC) is None


def test_baseline_that_a_draw_lacks_is_not_the_logs():
    level = [0.5] * 40
    known = {FEW_0: baselines(blend=level, ease=level), FEW_1: baselines(blend=level)}
    runs = tuple(run(sample, "a", 0, level) for sample in known)

    assert DefaultsResults(runs, known, (P,)).baselines_of("few") == ("blend",)


def test_rank_is_that_of_validation_users_over_all_logs(results):
    others = [
        run(FEW_0, name, 0, [0.5] * 40, validation=v)
        for name, v in {"same": 0.7, "good": 0.2, "bad": 0.7}.items()
    ]
    both = DefaultsResults(
        (*results.runs, *others), {**results.baselines, FEW_0: baselines(blend=[0.5] * 40)}, (P,)
    )

    assert results.ranks(P) == {"good": 1.0, "same": 2.0, "bad": 3.0}
    # On the second log two share the first place: 1.5 each.
    assert both.ranks(P) == {"good": 2.0, "same": 1.75, "bad": 2.25}
    assert results.ranks(GAUC) == {"good": None, "same": None, "bad": None}


def test_comparisons_are_with_every_baseline_and_with_the_first_default(results):
    pairs = [(one.default, one.other, one.metric) for one in results.comparisons()]

    assert pairs == [
        (default, other, P)
        for default in ("same", "good", "bad")
        for other in ("blend", "popularity", "same")
        if other != default
    ]


# --- what is shown ---


def test_log_table_has_defaults_and_baselines_beneath(results):
    header, rows = log_table("one", results)

    assert header == ["one", "P@10", "best: blend", "click GAUC", "-"]
    assert [row[0] for row in rows] == ["same", "good", "bad", "blend", "popularity"]
    assert [row[2] for row in rows] == ["not separate", "above", "below", "", ""]
    assert [row[3:] for row in rows[:3]] == [["-", "-"]] * 3
    assert rows[1][1] == f"{0.6 + 1.5 * np.mean(NOISE):.4f}"


def test_summary_counts_verdicts_against_the_best_and_has_ranks(results):
    header, rows = summary_table(results)

    assert header == ["default", "P@10", "rank", "click GAUC", "rank"]
    assert rows == [
        ["same", "0 / 1 / 0", "2.0", "0 / 0 / 0", "-"],
        ["good", "1 / 0 / 0", "1.0", "0 / 0 / 0", "-"],
        ["bad", "0 / 0 / 1", "3.0", "0 / 0 / 0", "-"],
    ]
    assert [one.other for one in against_best(results, "bad", P)] == ["blend"]


def test_report_says_all_of_it_and_who_is_left_out(results):
    config = DefaultsConfig(
        "s", {"one": LogConfig("demo")}, {"same": DefaultConfig()}, seeds=(0, 1)
    )

    report = build_defaults_report(
        config, results, tuple(results.comparisons()), ["Log `ml` is left out: no file."]
    )

    assert "Log `ml` is left out: no file." in report
    assert "| good | 1 / 0 / 0 | 1.0 | 0 / 0 / 0 | - |" in report
    assert "40 test users." in report
    assert "| one | less blend | less popularity | less `same` |" in report
    difference = 0.1 + np.mean(NOISE) / 2
    assert f"| good | {difference:+.4f} above | " in report
    assert report.endswith("|\n")
