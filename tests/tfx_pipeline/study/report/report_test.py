"""Table, report, plots, page and runs by their content, from results that are written down."""

import json

import matplotlib.image
import numpy as np
import pytest

from tests.report_keys import undocumented_keys
from tests.tfx_pipeline.study.made_results import METRICS, make_results, make_run
from tfx_pipeline.config.data import DataConfig
from tfx_pipeline.config.pipeline import PipelineConfig
from tfx_pipeline.study.grid.config import (
    BaseConfig,
    Cell,
    GridBlock,
    Question,
    Selector,
    StudyConfig,
)
from tfx_pipeline.study.grid.definition import Study
from tfx_pipeline.study.report.labels import side_labels, spread
from tfx_pipeline.study.report.page import BEGIN, END, check_page, write_page
from tfx_pipeline.study.report.plots import bulk, plot_intervals, plot_trade_off, write_plots
from tfx_pipeline.study.report.questions import answer
from tfx_pipeline.study.report.report import build_report
from tfx_pipeline.study.report.tables import markdown_table, result_table
from tfx_pipeline.study.statistics import Mean, mean_of
from tfx_pipeline.study.trials.results import Results
from trainer.contract.features import Domain, FeatureSpec

A, B = Cell("a", "both"), Cell("b", "both")
WIDE = Cell("b", "both", budget="parameters")
BY_CELL = {A: (0.70, 0.71, 0.72), B: (0.50, 0.51, 0.53), WIDE: (0.60, 0.61, 0.62)}


@pytest.fixture(scope="module")
def study():
    question = Question(
        "Does a beat b?",
        Selector(tower="a"),
        (Selector(tower="b"),),
        Selector(objective="both"),
        metrics=("precision_at_10", "click_gauc"),
    )
    config = StudyConfig(
        "two",
        BaseConfig("demo"),
        {"a": {}, "b": {"interaction": "nfm"}},
        {"both": {}, "clicks": {"early_stopping_metric": "click_gauc"}},
        (GridBlock(("a", "b"), ("both",), budgets=("width", "parameters")),),
        parameter_reference="a",
        metrics=METRICS,
        questions=(question,),
    )
    spec = FeatureSpec(domains=(Domain("clicked"),))
    return Study(config, PipelineConfig("base", DataConfig("i", "t", "u"), spec))


# --- words ---


def test_spread_shows_what_there_is():
    assert spread(None, "precision_at_1") == "-"
    assert spread(mean_of([0.7]), "precision_at_1") == "0.7000"
    assert spread(mean_of([0.7, 0.7]), "precision_at_1") == "0.7000"
    assert spread(Mean(3, 0.70004, 0.00126, 0.0, 1.0), "precision_at_1") == "0.7000 ± 0.0013"
    assert spread(Mean(3, 1177.0, 6.04, 0.0, 1.0), "distinct_top10") == "1177.0 ± 6.0"


def test_sides_are_named_by_what_tells_them_apart(study):
    question = study.config.questions[0]
    a, b = (question.side(Selector(tower=tower), "width") for tower in ("a", "b"))
    clicks = question.side(Selector(tower="a", objective="clicks"), "width")
    first_stage = question.side(Selector(tower="a", who="multi_class_stage"), "width")
    baseline = question.side(Selector(tower="a", who="own_history"), "width")

    assert side_labels(a, b) == ("`a`", "`b`")
    assert side_labels(a, clicks) == ("`a` `both`", "`a` `clicks`")
    assert side_labels(a, first_stage) == ("`a` as served", "`a` without second stage")
    assert side_labels(a, baseline) == ("`a`", "own history")


# --- the table ---


def test_table_has_means_deviations_sizes_and_baselines():
    header, rows = result_table(make_results(BY_CELL), METRICS)

    assert header == [
        *("tower", "objective", "budget", "P@10", "click GAUC", "distinct"),
        *("parameters", "width", "examples/s"),
    ]
    by_name = {(row[0], row[2]): row for row in rows}
    assert by_name["a", "width"][1:] == [
        *("both", "width", "0.7100 ± 0.0100", "0.6100 ± 0.0100", "7.0"),
        *("1,000", "512", "2,001"),
    ]
    assert by_name["b", "parameters"][3] == "0.6100 ± 0.0100"
    assert by_name["popularity", "-"][1:] == ["-", "-", "0.2500", "-", "1.0", "-", "-", "-"]


def test_table_names_data_set_and_budget_only_where_they_differ():
    header, rows = result_table(make_results({A: BY_CELL[A], B: BY_CELL[B]}), METRICS[:1])
    assert header[:3] == ["tower", "objective", "P@10"]
    assert [row[0] for row in rows[:2]] == ["a", "b"]

    other = Cell("a", "both", data_set="recent")
    header, rows = result_table(make_results({A: BY_CELL[A], other: BY_CELL[A]}), METRICS[:1])
    assert header[:3] == ["tower", "objective", "data set"]
    # The baselines of a data set follow its cells.
    assert [(row[0], row[2]) for row in rows if row[0] in ("a", "popularity")] == [
        ("a", "base"),
        ("popularity", "base"),
        ("a", "recent"),
        ("popularity", "recent"),
    ]


def test_figure_that_one_seed_lacks_is_not_averaged_over_the_others():
    runs = [
        make_run(A, seed, {"model.precision_at_10": value})
        for seed, value in enumerate([0.5, None, 0.7])
    ]

    _, rows = result_table(Results(tuple(runs)), METRICS[:1])

    assert rows[0][2] == "-"


def test_markdown_table_aligns_numbers_to_the_right():
    text = markdown_table(["a", "b"], [["x", "1"]], num_words=1)

    assert text.splitlines() == ["| a | b |", "| --- | ---: |", "| x | 1 |"]


# --- the report ---


@pytest.fixture(scope="module")
def report(study):
    results = make_results(BY_CELL)
    answers = answer(study.config.questions, results)
    plots = [("P@10 by cell", "study-precision-at-10.png")]
    return build_report(study, results, answers, plots, ["Mind the gap."])


def test_report_says_that_trials_are_equal_and_over_what(report):
    first = report.splitlines()[0]

    assert "seeds 0, 1, 2, 9 trainings" in first
    assert "4 test users with a truth" in first
    assert "No tower is tuned for itself." in first
    assert "The state kept is the best by mean of NDCG@10 and novel NDCG@10 (`both`)." in report
    assert "as many parameters outside the embedding tables as `a` has" in report
    assert "Mind the gap." in report


def test_report_has_table_plots_and_answers(report):
    assert "| a | both | width | 0.7100 ± 0.0100 |" in report
    assert "![P@10 by cell](study-precision-at-10.png)" in report
    assert "**Does a beat b?** P@10 above in 1 of 1; click GAUC above in 1 of 1." in report
    row = next(line for line in report.splitlines() if line.startswith("| `a` | `b` | P@10 |"))
    assert row.startswith("| `a` | `b` | P@10 | 0.7100 ± 0.0100 | 0.5133 ± 0.0153 | +0.1967 (+")
    assert row.endswith("| - | above |")
    assert "adjusted for all 2 comparisons (Holm)" in report


def test_report_is_valid_markdown_tables(report):
    blocks = [block for block in report.split("\n\n") if block.startswith("|")]

    assert len(blocks) == 2
    for block in blocks:
        assert len({line.count("|") for line in block.splitlines()}) == 1


# --- the runs ---


def test_runs_have_the_keys_that_were_promised():
    results = make_results(BY_CELL)

    runs = [run.to_json(METRICS) for run in results.runs]

    assert json.loads(json.dumps(runs, allow_nan=False)) == runs
    assert len(runs) == 9
    first = runs[0]
    assert (first["interaction"], first["objective"], first["seed"]) == ("utpm", "both", 0)
    assert (first["tower"], first["data_set"], first["budget"]) == ("a", "base", "width")
    assert first["parameters"] == 1_000
    assert first["examples_per_second"] == 2_000.0
    assert first["metrics"]["eval.model.precision_at_10"] == 0.70
    assert first["metrics"]["eval_validation.model.precision_at_10"] == 0.125
    assert first["metrics"]["eval.popularity.precision_at_10"] == 0.25
    assert first["metrics"]["eval.popularity.click_gauc"] is None
    assert undocumented_keys(first["metrics"]) == []


def test_runs_have_of_other_stages_only_the_metrics_that_the_study_names():
    figures = {
        "model.precision_at_10": 0.5,
        "model.recall_at_50": 0.4,
        "click_stage.precision_at_10": 0.3,
        "click_stage.recall_at_50": 0.2,
    }

    metrics = make_run(A, 0, figures).to_json(("precision_at_10",))["metrics"]

    assert "eval.model.recall_at_50" in metrics
    assert metrics["eval.click_stage.precision_at_10"] == 0.3
    assert "eval.click_stage.recall_at_50" not in metrics
    assert "eval_validation.click_stage.precision_at_10" not in metrics


# --- the plots ---


def is_drawn(path):
    """Whether an image has the size of a figure and is not of one colour."""
    image = matplotlib.image.imread(path)
    return image.shape[0] > 100 and image.shape[1] > 500 and float(np.std(image)) > 0.01


def test_plots_are_written_as_images(tmp_path):
    other = Cell("a", "clicks", data_set="recent")

    plots = write_plots(tmp_path, make_results({**BY_CELL, other: (0.5, 0.6, 0.7)}), METRICS[:2])

    assert [name for name, _ in plots] == [
        "P@10 by cell",
        "click GAUC by cell",
        "P@10 against click GAUC",
        "P@10 by parameters outside the embedding tables",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path for _, path in plots)
    assert all(is_drawn(tmp_path / path) for _, path in plots)


def test_plots_of_the_same_results_are_the_same_files(tmp_path):
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        write_plots(tmp_path / name, make_results(BY_CELL), METRICS[:1])

    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "other" / path.name).read_bytes()


def test_metric_without_a_figure_has_no_plot(tmp_path):
    runs = [make_run(A, seed, {"model.precision_at_10": 0.5 + seed / 10}) for seed in range(2)]

    plots = write_plots(tmp_path, Results(tuple(runs)), METRICS[:2])

    assert [path for _, path in plots] == ["study-precision-at-10.png", "study-parameters.png"]


def test_bulk_leaves_out_what_is_far_off():
    values = [0.71, 0.72, 0.725, 0.73, 0.735]

    assert bulk([0.05, *values]) == (0.71, 0.735)
    assert bulk(values) == (0.71, 0.735)
    assert bulk([0.05, 0.7]) == (0.05, 0.7)
    assert bulk([0.7]) == (0.7, 0.7)


def texts(figure):
    """All words of a figure's only axes."""
    (axes,) = figure.axes
    legend = axes.get_legend()
    found = [text.get_text() for text in axes.texts]
    return found + ([text.get_text() for text in legend.get_texts()] if legend else [])


def test_cell_far_off_is_named_at_the_edge_and_does_not_stretch_the_axis():
    cells = {Cell(name, "both"): (0.7 + i / 100, 0.7 + i / 100) for i, name in enumerate("abcde")}
    far = Cell("a", "clicks")
    results = make_results({**cells, far: (0.05, 0.05)})

    intervals = plot_intervals(results, "precision_at_10")
    assert "\N{LEFTWARDS ARROW} 0.050" in texts(intervals)
    assert intervals.axes[0].get_xlim()[0] > 0.2

    trade_off = plot_trade_off(results, "precision_at_10", "click_gauc")
    assert "far off: a \N{MIDDLE DOT} clicks: 0.050, -0.050" in texts(trade_off)
    assert trade_off.axes[0].get_xlim()[0] > 0.6


def test_single_seed_is_plotted_without_intervals(tmp_path):
    plots = write_plots(tmp_path, make_results({A: (0.7,), B: (0.5,)}), METRICS[:2])

    assert all(is_drawn(tmp_path / path) for _, path in plots)


# --- the page ---


def test_part_of_a_page_is_replaced_and_the_rest_stays(tmp_path):
    page = tmp_path / "results.md"
    page.write_text(f"# Results\n\nMine.\n\n{BEGIN}\nold\n{END}\n\nAlso mine.\n")

    check_page(page)
    write_page(page, "new\n")

    assert page.read_text() == f"# Results\n\nMine.\n\n{BEGIN}\nnew\n{END}\n\nAlso mine.\n"


def test_page_without_markers_gets_the_part_at_its_end(tmp_path):
    page = tmp_path / "results.md"
    page.write_text("# Results\n")

    for text in ("first", "second"):
        check_page(page)
        write_page(page, text)

    assert page.read_text() == f"# Results\n\n{BEGIN}\nsecond\n{END}\n"


def test_page_that_is_not_there_is_made(tmp_path):
    page = tmp_path / "results.md"

    check_page(page)
    write_page(page, "text")

    assert page.read_text() == f"{BEGIN}\ntext\n{END}\n"


@pytest.mark.parametrize("text", [BEGIN, END, f"{END}\n{BEGIN}", f"{BEGIN}{END}{BEGIN}{END}"])
def test_page_with_broken_markers_is_refused(tmp_path, text):
    page = tmp_path / "results.md"
    page.write_text(text)

    with pytest.raises(ValueError, match="`page` must have"):
        check_page(page)


def test_page_in_no_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`page` must be in a folder that exists"):
        check_page(tmp_path / "no" / "results.md")
