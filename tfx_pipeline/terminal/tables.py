"""A report as tables for people. Knows the keys of docs/report.md and nothing of TFX."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tabulate import SEPARATING_LINE, DataRow, Line, TableFormat, tabulate

from tfx_pipeline.terminal.row_summary import row_lines
from trainer.contract.metric_registry import (
    CLICK_GAUC,
    DISTINCT_LISTS,
    ITEM_RECALL,
    NDCG,
    NOVEL,
    NUM_ITEMS,
    PRECISION,
    TAG_CTR,
    TAGGED_IMPRESSIONS,
    label,
)
from trainer.evaluation.baselines_config import BASELINES

STAGES = ("multi_class_stage", "click_stage", "mix_stage")
WITHOUT_MEMORY = "without_memory_stage"
WHO = ("model", WITHOUT_MEMORY, *STAGES, *BASELINES[:-1], "popular_items", "random")
# Metrics of the quality table.
QUALITY = (
    PRECISION.at(1),
    PRECISION.at(10),
    PRECISION.at(20),
    NDCG.at(10),
    PRECISION.at(10, NOVEL),
    PRECISION.at(20, NOVEL),
    ITEM_RECALL.at(NUM_ITEMS),
    CLICK_GAUC.name,
    TAGGED_IMPRESSIONS.at(3),
    TAG_CTR.at(3),
    DISTINCT_LISTS.name,
)

# The format has two spaces between columns, a rule below the titles, and no frame.
_PLAIN = TableFormat(
    lineabove=None,
    linebelowheader=Line("", "-", "  ", ""),
    linebetweenrows=None,
    linebelow=None,
    headerrow=DataRow("", "  ", ""),
    datarow=DataRow("", "  ", ""),
    padding=0,
    with_header_hide=None,
)
# Numbers may also be text: `1,024`, `0.512 ± 0.004`, `12 of 20`.
_NUMBER = re.compile(r"[-+]?\.?\d")


def format_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Returns a plain table whose columns are as wide as a terminal shows their characters.

    Args:
      header: Titles of the columns.
      rows: Cells of the rows; None is shown as -. The first column and columns with more words than
        numbers are aligned left, the others right.

    Returns:
      The lines, without trailing spaces.
    """
    cells = [[_cell(value) for value in row] for row in rows]
    # The titles are an ordinary row: as headers they would widen their columns by two.
    return tabulate(
        [list(map(str, header)), SEPARATING_LINE, *cells],
        tablefmt=_PLAIN,
        colalign=_alignments(len(header), rows),
        # A tag may look like a number, and must stay text.
        disable_numparse=True,
        preserve_whitespace=True,
    )


def stage_weights(mix_weight: float | None, has_click_head: bool = True) -> dict[str, float]:
    """Returns the weight w of each second stage that exists, by its name."""
    weights = dict(zip(STAGES, (0.0, 1.0, mix_weight), strict=True))
    return {
        name: weight
        for name, weight in weights.items()
        if weight is not None and (has_click_head or not weight)
    }


def has_figures(report: Mapping[str, Any], who: str) -> bool:
    """Returns whether a report has any main figure of `who`, defined or not."""
    return any(f"eval.{who}.{name}" in report for name in QUALITY)


def quality_table(report: Mapping[str, Any]) -> str:
    """Returns the protocol's main figures on test users, for the model and the baselines.

    The served second stage is in the model's row; if it has memory, the same w without memory has
    its own row.
    """
    weights = stage_weights(report.get("eval.mix_weight"))
    served = {name for name, weight in weights.items() if weight == report.get("eval.click_weight")}
    rows = [
        [who.replace("_", " ")] + [report.get(f"eval.{who}.{name}") for name in QUALITY]
        for who in WHO
        if has_figures(report, who) and who not in served
    ]
    return format_table(["test users", *map(label, QUALITY)], rows)


def summary_lines(report: Mapping[str, Any]) -> list[str]:
    """Returns one line each on index, training, rows, time and memory."""
    recall = next(key for key in report if key.startswith("index.recall_at_"))
    lines = [
        f"index      {report['index.kind']} over {report['index.num_tags']:,} tags, "
        f"recall@{recall.rsplit('_', 1)[1]} {report[recall]:.4f}, "
        f"{report['index.latency_ms_p50_batch_1']:.2f} ms a query, "
        f"{report['index.queries_per_second_batch_64']:,.0f} queries/s in batches of 64",
        f"training   {report['train.steps']:,} of {report['train.budget_steps']:,} steps "
        f"({report['train.epochs']:.1f} epochs; best: step {report['train.best_step']:,}), "
        f"{report['train.examples_per_second']:,.0f} snapshots/s",
        *skipped_lines(report),
        *(f"unsure     {line}" for line in (report.get("gate.warnings") or "").splitlines()),
        *budget_lines(report),
        *row_lines(report),
        f"time       {report['time.total_seconds']:.0f} s, "
        f"peak memory {report['memory.peak_mb'] / 1000:.1f} GB",
    ]
    if report.get("demo.planted_precision") is not None:
        lines.insert(
            0,
            f"planted    {report['demo.planted_precision']:.3f} of the interests planted in "
            f"test users come back first "
            f"(own history: {_cell(report['demo.planted_precision_own_history'])}, "
            f"shown: {_cell(report.get('demo.planted_precision_shown'))}, "
            f"chance: {report['demo.planted_precision_random']:.4f})",
        )
    return lines


def skipped_lines(report: Mapping[str, Any]) -> list[str]:
    """Returns lines with the baselines that are not in the table, by reason."""
    by_reason: dict[str, list[str]] = {}
    for who in BASELINES:
        if f"eval.{who}_skipped" in report:
            by_reason.setdefault(report[f"eval.{who}_skipped"], []).append(who.replace("_", " "))
    return [f"left out   {', '.join(who)}: {reason}" for reason, who in by_reason.items()]


def budget_lines(report: Mapping[str, Any]) -> list[str]:
    """Returns a note if training ended by its budget; nothing if it stopped by itself."""
    if not report["train.is_improving"]:
        return []
    return [
        "           validation users still improved when the budget ended: a higher "
        "`training.max_epochs` or `training.budget_steps` may bring more"
    ]


def _alignments(num_columns: int, rows: Sequence[Sequence[Any]]) -> list[str]:
    """Returns the alignment of each column: `left` or `right`."""
    balances = [0] * num_columns
    for row in rows:
        for i, value in enumerate(row):
            if value not in (None, "", "-"):
                balances[i] += 1 if _NUMBER.match(str(value)) else -1
    return ["left" if i == 0 or more < 0 else "right" for i, more in enumerate(balances)]


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) < 100 else f"{value:.0f}"
    return str(value)
