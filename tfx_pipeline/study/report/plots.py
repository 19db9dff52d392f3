"""A study's results as PNG files, without windows and without global state of matplotlib.

A click loss by itself ranks rare tags first, and one tower trained so would squeeze all others
together: the axes cover the bulk of the cells, and a distant cell is named at the edge with its
value.
"""

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tfx_pipeline.study.grid.config import Cell, Side
from tfx_pipeline.study.report.labels import cell_label
from tfx_pipeline.study.statistics import Mean
from tfx_pipeline.study.trials.results import Results
from trainer.contract.metric_registry import label
from trainer.evaluation.baselines_config import BASELINES

_MARKERS = "osD^vP*X<>hp"
_DPI = 110


def write_plots(folder: Path, results: Results, metrics: Sequence[str]) -> list[tuple[str, str]]:
    """Writes every plot that the results allow.

    Args:
      folder: Folder to write to.
      results: Results of the study.
      metrics: Metrics to plot: each by cell, the first against the second and by parameters.

    Returns:
      Titles and file names, the most interesting first.
    """
    written = []

    def save(figure: Figure, name: str, path: str) -> None:
        # Without the version of the library, so that equal results give equal files.
        FigureCanvasAgg(figure).print_png(str(folder / path), metadata={"Software": None})
        written.append((name, path))

    for metric in metrics:
        if any(results.mean(Side(cell), metric) for cell in results.cells):
            file_name = f"study-{metric.replace('_', '-')}.png"
            save(plot_intervals(results, metric), f"{label(metric)} by cell", file_name)
    if len(metrics) > 1 and _points(results, *metrics[:2]):
        name = f"{label(metrics[0])} against {label(metrics[1])}"
        save(plot_trade_off(results, metrics[0], metrics[1]), name, "study-trade-off.png")
    if _points(results, metrics[0]):
        name = f"{label(metrics[0])} by parameters outside the embedding tables"
        save(plot_parameters(results, metrics[0]), name, "study-parameters.png")
    return written


def bulk(values: Sequence[float]) -> tuple[float, float]:
    """Returns the range of most values, to three quartile distances beyond the quartiles (Tukey).

    Args:
      values: Values, at least one.

    Returns:
      The smallest and the largest value in the range.
    """
    low, high = np.quantile(values, [0.25, 0.75])
    reach = 3 * (high - low)
    inside = [value for value in values if low - reach <= value <= high + reach]
    return min(inside), max(inside)


def plot_intervals(results: Results, metric: str) -> Figure:
    """Plots a metric of every cell: mean and 95 % interval, baselines as lines."""
    means = {cell: results.mean(Side(cell), metric) for cell in results.cells}
    shown = [(cell, mean) for cell, mean in means.items() if mean is not None]
    low, high = bulk([mean.mean for _, mean in shown])
    figure = Figure(figsize=(9, 1.6 + 0.26 * len(shown)), dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    colours = _colours(cell.tower for cell, _ in shown)
    for place, (cell, mean) in enumerate(shown):
        colour = colours[cell.tower]
        if low <= mean.mean <= high:
            axes.errorbar(mean.mean, place, xerr=_half(mean), fmt="o", capsize=3, color=colour)
        else:
            is_left = mean.mean < low
            axes.text(
                0.01 if is_left else 0.99,
                place,
                f"\N{LEFTWARDS ARROW} {mean.mean:.3f}"
                if is_left
                else f"{mean.mean:.3f} \N{RIGHTWARDS ARROW}",
                transform=axes.get_yaxis_transform(),
                ha="left" if is_left else "right",
                va="center",
                fontsize=8,
                color=colour,
            )
    labels = [cell_label(cell, results) for cell, _ in shown]
    axes.set_yticks(range(len(shown)), labels, fontsize=8)
    axes.set_ylim(len(shown) - 0.5, -0.5)
    _draw_baselines(axes, results, metric)
    axes.set_xlabel(f"{label(metric)}, test users; mean and 95 % interval over seeds")
    axes.grid(axis="x", alpha=0.3)
    return figure


def plot_trade_off(results: Results, first: str, second: str) -> Figure:
    """Plots two metrics on the first data set: means, with deviations as bars."""
    points = _points(results, first, second)
    figure = Figure(figsize=(9, 6), dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    colours = _colours(cell.tower for cell in points)
    objectives = list(dict.fromkeys(cell.objective for cell in points))
    markers = {name: _MARKERS[i % len(_MARKERS)] for i, name in enumerate(objectives)}
    (left, right), (low, high) = (
        bulk([means[i].mean for means in points.values()]) for i in range(2)
    )
    beyond = []
    for cell, (x, y) in points.items():
        if left <= x.mean <= right and low <= y.mean <= high:
            axes.errorbar(
                x.mean,
                y.mean,
                xerr=x.deviation or 0.0,
                yerr=y.deviation or 0.0,
                fmt=markers[cell.objective],
                color=colours[cell.tower],
                markerfacecolor=_face(cell),
                capsize=2,
            )
        else:
            name = f"{cell.tower} \N{MIDDLE DOT} {cell.objective}"
            beyond.append(f"{name}: {x.mean:.3f}, {y.mean:.3f}")
    for tower, colour in colours.items():
        axes.plot([], [], "s", color=colour, label=tower)
    for objective, marker in markers.items():
        axes.plot([], [], marker, color="grey", label=objective)
    for text in beyond:
        axes.plot([], [], " ", label=f"far off: {text}")
    axes.set_xlabel(f"{label(first)}, test users; mean and standard deviation over seeds")
    axes.set_ylabel(label(second))
    _finish(axes)
    return figure


def plot_parameters(results: Results, metric: str) -> Figure:
    """Plots a metric by size on the first data set, with intervals and a logarithmic axis."""
    points = _points(results, metric)
    figure = Figure(figsize=(9, 6), dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    low, high = bulk([mean.mean for (mean,) in points.values()])
    inside = {cell: mean for cell, (mean,) in points.items() if low <= mean.mean <= high}
    colours = _colours(cell.tower for cell in inside)
    for cell, mean in inside.items():
        axes.errorbar(
            results.of_cell(cell)[0].outcome.parameters,
            mean.mean,
            yerr=_half(mean),
            fmt="o",
            color=colours[cell.tower],
            markerfacecolor=_face(cell),
            capsize=3,
        )
    for tower, colour in colours.items():
        axes.plot([], [], "o", color=colour, label=tower)
    axes.set_xscale("log")
    axes.set_xlabel("parameters outside the embedding tables (hollow: equal parameters)")
    axes.set_ylabel(f"{label(metric)}, test users; mean and 95 % interval")
    _finish(axes)
    return figure


def _points(results: Results, *metrics: str) -> dict[Cell, tuple[Mean, ...]]:
    """Returns cells of the first data set that have all metrics; others have other examples."""
    points = {}
    for cell in results.cells:
        means = [results.mean(Side(cell), metric) for metric in metrics]
        known = tuple(mean for mean in means if mean is not None)
        if cell.data_set == results.data_sets[0] and len(known) == len(metrics):
            points[cell] = known
    return points


def _draw_baselines(axes: Any, results: Results, metric: str) -> None:
    """Draws the baselines of the first data set, except chance, as lines."""
    styles = itertools.cycle(("--", "-.", ":", (0, (1, 4)), (0, (6, 3)), (0, (3, 1, 1, 1))))
    for who, style in zip(BASELINES[:-1], styles, strict=False):
        mean = results.mean(Side(results.cells[0], who), metric)
        if mean is not None:
            axes.axvline(mean.mean, linestyle=style, color="grey", label=who.replace("_", " "))
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8)


def _finish(axes: Any) -> None:
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _half(mean: Mean) -> float:
    """Returns half of the 95 % interval; 0 for a single seed."""
    return 0.0 if mean.high is None else mean.high - mean.mean


def _face(cell: Cell) -> str | None:
    """Returns the face colour of a marker: hollow for the budget of equal parameters."""
    return None if cell.budget == "width" else "white"


def _colours(names: Iterable[str]) -> dict[str, tuple[float, ...]]:
    # The ten dark colours of the palette first, then the pale ones.
    order = (*range(0, 20, 2), *range(1, 20, 2))
    palette = colormaps["tab20"]
    return {
        name: palette(order[rank % len(order)]) for rank, name in enumerate(dict.fromkeys(names))
    }
