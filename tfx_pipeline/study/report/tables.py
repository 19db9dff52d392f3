"""The one table of a study: every cell, and the baselines that need no model."""

from collections.abc import Sequence

from tfx_pipeline.study.grid.config import Cell, Side
from tfx_pipeline.study.report.labels import spread, title
from tfx_pipeline.study.statistics import mean_of
from tfx_pipeline.study.trials.results import Results
from trainer.evaluation.baselines_config import BASELINES

Rows = list[list[str]]


def result_table(results: Results, metrics: Sequence[str]) -> tuple[list[str], Rows]:
    """Means and standard deviations over seeds, test users.

    Args:
      results: Of the study.
      metrics: The columns.

    Returns:
      Titles of the columns; rows, the cells of a data set in the order of the grid and then its
      baselines.
    """
    header = ["tower", "objective"]
    header += ["data set"] * results.has_data_sets + ["budget"] * results.has_budgets
    header += [*(title(metric) for metric in metrics), "parameters", "width", "examples/s"]
    rows = []
    for data_set in results.data_sets:
        cells = [cell for cell in results.cells if cell.data_set == data_set]
        rows += [_cell_row(cell, results, metrics) for cell in cells]
        # Baselines belong to the users, whatever was trained: every cell has the same.
        there = results.of_cell(cells[0])[0].baselines
        rows += [
            _baseline_row(who, cells[0], results, metrics) for who in BASELINES if who in there
        ]
    return header, rows


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], num_words: int) -> str:
    """A table in Markdown; `num_words` columns to the left, the others to the right."""
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
