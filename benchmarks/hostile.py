"""Tests damaged files, damaged requests and killed runs: counts what was tried, survived, lost.

`SIZE=FILES,REQUESTS,KILLS` sets the numbers; one that is left out is not tried. Kills resume where
an interrupted benchmark stopped; to begin anew, remove `build/bench/hostile-kills`.
"""

import os
import tempfile
from pathlib import Path

from benchmarks.hostile_files import file_figures, read_mutated
from benchmarks.hostile_kills import kill_figures, kill_runs, small_run
from benchmarks.hostile_reader import OVER_MEMORY, TRACEBACK, UNCLEAR
from benchmarks.hostile_requests import request_figures, request_outcomes
from benchmarks.registry import Figures, Progress
from benchmarks.results import OUTPUT_DIR
from benchmarks.size_option import sizes
from tfx_pipeline.terminal.tables import format_table

DEFAULT_SIZES = (10_000, 100_000, 100)
# Allowed growth of the server: its buffers and pools grow at first and do not shrink.
_MOST_GROWTH_MB = 300.0
_BAD_FILES = (UNCLEAR, TRACEBACK, OVER_MEMORY, "crash", "hang")


def run(progress: Progress) -> Figures:
    """Tries files, requests and kills; see `benchmarks.registry.Benchmark`."""
    wanted = sizes(DEFAULT_SIZES)
    if len(wanted) > len(DEFAULT_SIZES):
        raise ValueError(
            "`SIZE` must be numbers of files, requests and kills. "
            f"Received: SIZE={os.environ['SIZE']!r}."
        )
    figures: Figures = {}
    figures |= file_figures(read_mutated(wanted[0], OUTPUT_DIR / "hostile-files", progress))
    if len(wanted) > 1:
        with tempfile.TemporaryDirectory(prefix="hostile-") as models:
            found = request_outcomes(wanted[1], Path(models), progress)
        for said in found.said[:20]:
            progress(said)
        figures |= request_figures(found)
    if len(wanted) > 2:
        folder = OUTPUT_DIR / "hostile-kills"
        folder.mkdir(parents=True, exist_ok=True)
        kills = kill_runs(wanted[2], folder, small_run(folder), progress)
        for said in kills.said:
            progress(said)
        figures |= kill_figures(kills)
    return figures


def table(figures: Figures) -> str:
    """Formats a table with a row each for files, requests and kills."""

    def number(key: str) -> int:
        return int(figures.get(f"hostile.{key}") or 0)

    rows = [
        [
            "damaged files",
            number("files.tried"),
            number("files.read") + number("files.refused"),
            sum(number(f"files.{name}") for name in _BAD_FILES),
        ]
    ]
    if "hostile.requests.tried" in figures:
        lost = sum(number(f"requests.{name}") for name in ("grpc.fault", "rest.fault"))
        tried = number("requests.tried")
        rows.append(["damaged requests", tried, tried - lost, lost])
        rows.append(
            ["servers", 1, 1 - number("requests.servers_lost"), number("requests.servers_lost")]
        )
    if "hostile.kills.tried" in figures:
        bad = number("kills.different") + number("kills.failed")
        rows.append(["kills", number("kills.tried"), "", ""])
        rows.append(["killed runs", number("kills.runs"), number("kills.equal"), bad])
    return format_table(["", "tried", "survived", "lost"], rows)


def faults(figures: Figures) -> list[str]:
    """Reports everything that was lost."""
    found = []
    words = {
        **{f"files.{name}": f"files ended as {name}" for name in _BAD_FILES},
        "requests.grpc.fault": "requests over gRPC had no answer, or a server error",
        "requests.rest.fault": "requests over REST had no answer, or a server error",
        "requests.wrong": "valid requests in between had wrong answers",
        "requests.servers_lost": "server processes were lost",
        "kills.different": "killed runs ended with another report",
        "kills.failed": "killed runs could not be completed",
    }
    for key, what in words.items():
        number = figures.get(f"hostile.{key}")
        if number:
            found.append(f"{number} {what}.")
    first, last = (figures.get(f"hostile.requests.memory_mb_{n}") for n in ("first", "last"))
    if isinstance(first, float) and isinstance(last, float) and last - first > _MOST_GROWTH_MB:
        found.append(f"the server grew from {first:.0f} to {last:.0f} MB.")
    return found
