"""The table of a study: every cell, and the baselines, which need no model."""

from collections.abc import Sequence

from tfx_pipeline.study.grid.config import Cell, Side
from tfx_pipeline.study.report.labels import spread
from tfx_pipeline.study.statistics import mean_of
from tfx_pipeline.study.trials.results import Results
from trainer.contract.metric_registry import label
from trainer.evaluation.baselines_config import BASELINES

Rows = list[list[str]]


def result_table(results: Results, metrics: Sequence[str]) -> tuple[list[str], Rows]:
    """Builds the table of means and standard deviations over seeds, on test users.

    Args:
      results: Results of the study.
      metrics: Metrics of the columns.

    Returns:
      Titles of the columns; and rows: the cells of a data set in the order of the grid, then its
      baselines.
    """
    header = ["tower", "objective"]
    header += ["data set"] * results.has_data_sets + ["budget"] * results.has_budgets
    header += [*(label(metric) for metric in metrics), "parameters", "width", "examples/s"]
    rows = []
    for data_set in results.data_sets:
        cells = [cell for cell in results.cells if cell.data_set == data_set]
        rows += [_cell_row(cell, results, metrics) for cell in cells]
        # Baselines depend on the users only, whatever was trained: they are equal for all cells.
        there = results.of_cell(cells[0])[0].baselines
        rows += [
            _baseline_row(who, cells[0], results, metrics) for who in BASELINES if who in there
        ]
    return header, rows


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], num_words: int) -> str:
    """Returns a Markdown table with the first `num_words` columns left-aligned, others right."""
    rules = ["---"] * num_words + ["---:"] * (len(header) - num_words)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, rules, *rows))


def _cell_row(cell: Cell, results: Results, metrics: Sequence[str]) -> list[str]:
    runs = results.of_cell(cell)
    speed = mean_of([run.outcome.examples_per_second for run in runs]).mean
    return [
        cell.tower,
        cell.objective,
        *[cell.data_set] * results.has_data_sets,
        *[cell.budget] * results.has_budgets,
        *(spread(results.mean(Side(cell), metric), metric) for metric in metrics),
        f"{runs[0].outcome.parameters:,}",
        f"{runs[0].hidden_dim:,}",
        f"{speed:,.0f}",
    ]


def _baseline_row(who: str, cell: Cell, results: Results, metrics: Sequence[str]) -> list[str]:
    return [
        who.replace("_", " "),
        "-",
        *[cell.data_set] * results.has_data_sets,
        *["-"] * results.has_budgets,
        *(spread(results.mean(Side(cell, who), metric), metric) for metric in metrics),
        "-",
        "-",
        "-",
    ]
