"""Measures the start of commands and imports in fresh processes, beside that of the libraries.

Only a pipeline run may import TFX, which takes longer than all the rest, and a command that only
sends requests may not import TensorFlow: the benchmark checks this on what a process really
imports, not on the source.
"""

import dataclasses
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import startup_stages
from benchmarks.registry import Figures, Progress
from benchmarks.serving import DEFAULT_BASE_PATH, latest_version
from tfx_pipeline.terminal.tables import format_table

_NUM_RUNS = 3
_STAGES = {"serve": startup_stages.SERVE_STAGES, "query": startup_stages.QUERY_STAGES}
_STAGE_KINDS = ("seconds", "cpu_seconds")
# Packages whose import is checked.
_HEAVY = ("tfx", "tensorflow")
_TAGTOWER = str(Path(sys.executable).with_name("tagtower"))


@dataclasses.dataclass(frozen=True)
class Start:
    """A command or import that is started.

    Attributes:
      key: Part of the keys `startup.<key>_seconds`, `startup.<key>_imports_tfx` and
        `startup.<key>_imports_tensorflow`.
      arguments: Arguments of the Python interpreter.
      is_floor: Whether it is a library's own start, a lower bound of tagtower's. Its imports are
        not checked.
      may_import: Heavy packages that it may import.
    """

    key: str
    arguments: tuple[str, ...]
    is_floor: bool = False
    may_import: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The command as a person would type it."""
        first, *rest = self.arguments
        if first == _TAGTOWER:
            return " ".join(["tagtower", *rest])
        return rest[-1] if rest[-1].startswith("import") else f"python {' '.join(self.arguments)}"


STARTS = (
    Start("python", ("-c", "pass"), is_floor=True),
    Start("tensorflow", ("-c", "import tensorflow"), is_floor=True),
    Start("apache_beam", ("-c", "import apache_beam"), is_floor=True),
    Start("version", (_TAGTOWER, "--version")),
    Start("query_help", (_TAGTOWER, "query", "--help")),
    Start("client", ("-c", "import serving.client")),
    Start(
        "batch_predict", ("-c", "import serving.batch.batch_predict"), may_import=("tensorflow",)
    ),
    Start("model_server", ("-c", "import serving.model_server.server"), may_import=("tensorflow",)),
    Start("run", ("-c", "import tfx_pipeline.runs.run"), may_import=_HEAVY),
)
OWN_STARTS = tuple(start for start in STARTS if not start.is_floor)


def run(progress: Progress) -> Figures:
    """Starts everything several times; see `benchmarks.registry.Benchmark`."""
    figures: Figures = {}
    for start in OWN_STARTS:
        progress(f"what `{start.title}` imports")
        import_times = _start(start, "-X", "importtime").stderr
        for package in _HEAVY:
            key = f"startup.{start.key}_imports_{package}"
            figures[key] = is_imported(package, import_times)
    seconds: dict[str, list[float]] = {start.key: [] for start in STARTS}
    # Round by round, so that a busy moment of the machine does not fall on one of them alone.
    for round_number in range(1, _NUM_RUNS + 1):
        progress(f"round {round_number} of {_NUM_RUNS}")
        for start in STARTS:
            began = time.perf_counter()
            _start(start)
            seconds[start.key].append(time.perf_counter() - began)
    for key, values in seconds.items():
        figures[f"startup.{key}_seconds"] = statistics.median(values)
    return figures | _stage_figures(progress)


def table(figures: Figures) -> str:
    """Formats a table with a row for each start, and marks imports of TFX or TensorFlow."""
    rows = [
        [
            start.title + (" (floor)" if start.is_floor else ""),
            figures[f"startup.{start.key}_seconds"],
            *(_yes_or_no(figures.get(f"startup.{start.key}_imports_{name}")) for name in _HEAVY),
        ]
        for start in STARTS
    ]
    starts = format_table(["start-up", "seconds", *(f"imports {name}" for name in _HEAVY)], rows)
    stages = [
        [command, stage, *(figures.get(_stage_key(command, stage, kind)) for kind in _STAGE_KINDS)]
        for command, names in _STAGES.items()
        for stage in names
    ]
    return f"{starts}\n\n{format_table(['of', 'stage', 'seconds', 'on a processor'], stages)}"


def faults(figures: Figures) -> list[str]:
    """Reports starts that import TFX or TensorFlow without need."""
    return [
        f"`{start.title}` must not import {package}."
        for start in OWN_STARTS
        for package in _HEAVY
        if figures[f"startup.{start.key}_imports_{package}"] and package not in start.may_import
    ]


def is_imported(package: str, import_times: str) -> bool:
    """Returns whether `python -X importtime` lists a package itself.

    A module below it does not count, nor a package whose name begins alike.
    """
    return any(
        line.startswith("import time:") and line.rpartition("|")[2].strip() == package
        for line in import_times.splitlines()
    )


def _stage_figures(progress: Progress) -> Figures:
    """Measures stages of the starts; a server's only where there is a version to load."""
    figures: Figures = {}
    base_path = Path(os.environ.get("MODEL_BASE_PATH", DEFAULT_BASE_PATH))
    for command, names in _STAGES.items():
        arguments = ["-m", startup_stages.__name__, command]
        if command == "serve":
            try:
                arguments.append(str(latest_version(base_path)))
            except ValueError as error:
                progress(f"the stages of a server are left out: {error}")
                continue
        progress(f"stages of {command}")
        stages = json.loads(_start(Start(command, tuple(arguments))).stdout)
        for name in names:
            for kind in _STAGE_KINDS:
                figures[_stage_key(command, name, kind)] = stages[name][kind]
    return figures


def _stage_key(command: str, stage: str, kind: str) -> str:
    return f"startup.{command}.{stage}_{kind}"


def _yes_or_no(value: Any) -> str | None:
    return None if value is None else "yes" if value else "no"


def _start(start: Start, *interpreter_options: str) -> "subprocess.CompletedProcess[str]":
    """Runs one process to its end; returns what it printed."""
    finished = subprocess.run(
        [sys.executable, *interpreter_options, *start.arguments],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode:
        reason = finished.stderr.strip().splitlines()[-1:] or ["no message"]
        raise ValueError(f"`{start.title}` must start. Received: {reason[0]}")
    return finished
