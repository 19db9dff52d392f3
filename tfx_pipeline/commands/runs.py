"""`tagtower runs`: which runs there were, on what data, with which figures, pushed or why not."""

import argparse
import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from tfx_pipeline.commands.config_flags import add_config_flag, add_output_flag
from trainer.contract.metric_registry import (
    CLICK_GAUC,
    COVERAGE,
    DISTINCT_LISTS,
    NDCG,
    NOVEL,
    NUM_USERS,
    PRECISION,
    label,
)

_COLUMNS = (
    ("run", "run.id"),
    ("first day", "window.first_day"),
    ("day", "window.day"),
    ("rows", "rows.read.interactions"),
    *(
        (label(name), f"eval_validation.model.{name}")
        for name in (PRECISION.at(10), PRECISION.at(10, NOVEL), CLICK_GAUC.name)
    ),
    ("drift", "drift.num_violations"),
    ("version", "push.version"),
    ("state", "run.state"),
)
# Keys of a comparison: those that the gate checks, and those on the data.
_COMPARED = (
    "run.started",
    "run.state",
    "run.reason",
    "push.version",
    "window.",
    "rows.",
    "users.",
    "examples.",
    "drift.",
    "eval_validation.model.",
    *(
        f"eval_validation.{who}.{PRECISION.at(10)}"
        for who in ("blend", "ease_own_history", "last_blessed")
    ),
    "index.",
    "train.",
    "time.total_seconds",
)
# Metrics without those of slices of users and truths, which only --json prints.
_MAIN_METRICS = (
    PRECISION.at(10),
    PRECISION.at(10, NOVEL),
    NDCG.at(10),
    CLICK_GAUC.name,
    DISTINCT_LISTS.name,
    COVERAGE.at(10),
    NUM_USERS.name,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    parser.add_argument(
        "words",
        nargs="*",
        metavar="compare A B",
        help="two runs beside each other, each by its id or its day (default: list all)",
    )
    add_config_flag(parser, is_required=False)
    add_output_flag(parser)
    parser.add_argument(
        "--json", action="store_true", help="print the whole reports as JSON instead of tables"
    )


def run(arguments: argparse.Namespace) -> int:
    """Prints one line per run, newest first, or compares two runs."""
    from tfx_pipeline.run_log.log import find_run, read_runs

    output = _output_dir(arguments)
    if arguments.words:
        if arguments.words[0] != "compare" or len(arguments.words) != 3:
            raise ValueError(
                "`runs` must be followed by nothing, or by compare and two runs. "
                f"Received: {' '.join(arguments.words)}."
            )
        reports = [find_run(output, name) for name in arguments.words[1:]]
        print(_as_json(reports) if arguments.json else compare(*reports))
        return 0
    reports = read_runs(output)[::-1]
    if not reports:
        raise ValueError(f"`output` must hold a run. Received: {output} without any.")
    print(_as_json(reports) if arguments.json else list_runs(reports))
    return 0


def list_runs(reports: Sequence[Mapping[str, Any]]) -> str:
    """Returns a table of runs, and below it the reasons why nothing was pushed."""
    from tfx_pipeline.terminal.tables import format_table

    rows = [[_cell(report.get(key)) for _, key in _COLUMNS] for report in reports]
    lines = [format_table([title for title, _ in _COLUMNS], rows)]
    for report in reports:
        if report["run.reason"]:
            lines.append(f"{report['run.id']} {report['run.state']}: {report['run.reason']}")
    return "\n".join(lines)


def compare(first: Mapping[str, Any], second: Mapping[str, Any]) -> str:
    """Returns a table of two runs' figures, one per row, with the difference of numbers."""
    from tfx_pipeline.terminal.tables import format_table

    keys = [key for key in {**first, **second} if _is_compared(key)]
    keys.sort(key=lambda key: next(i for i, p in enumerate(_COMPARED) if key.startswith(p)))
    rows = []
    for key in keys:
        one, other = first.get(key), second.get(key)
        difference = None
        if _is_number(one) and _is_number(other):
            difference = _cell(other - one)
        rows.append([key, _cell(one), _cell(other), difference])
    return format_table(["figure", first["run.id"], second["run.id"], "difference"], rows)


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_compared(key: str) -> bool:
    if key.startswith("eval_validation.model."):
        return key.removeprefix("eval_validation.model.") in _MAIN_METRICS
    return key.startswith(_COMPARED)


def _output_dir(arguments: argparse.Namespace) -> str:
    if arguments.config is not None:
        from tfx_pipeline.config.pipeline import load_config

        return load_config(arguments.config, output=arguments.output).output_dir
    if arguments.output is None:
        raise ValueError("give --config, --output or both.")
    return arguments.output


def _as_json(reports: Sequence[Mapping[str, Any]]) -> str:
    return json.dumps(reports, ensure_ascii=False, indent=1)


def _cell(value: Any) -> Any:
    return f"{value:.4f}" if isinstance(value, float) else None if value is None else str(value)
