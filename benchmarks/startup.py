"""Start-up of commands and imports in fresh processes, beside what the libraries themselves take.

Nothing but a pipeline run may import TFX, which takes longer than all the rest, and nothing that
only asks may import TensorFlow: that is looked at here as well, on what a process imports in fact,
not on what the source says.
"""

import dataclasses
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.registry import Figures, Progress
from tfx_pipeline.report_tables import format_table

_NUM_RUNS = 3
# What is looked for.
_HEAVY = ("tfx", "tensorflow")
_TAGTOWER = str(Path(sys.executable).with_name("tagtower"))


@dataclasses.dataclass(frozen=True)
class Start:
    """One thing that is started.

    Attributes:
      key: Its part of the keys `startup.<key>_seconds`, `startup.<key>_imports_tfx` and
        `startup.<key>_imports_tensorflow`.
      arguments: Of the Python interpreter.
      is_floor: Whether it is somebody else's: what our own can at best come down to. What it
        imports is not looked at.
      may_import: Which heavy packages it is meant to.
    """

    key: str
    arguments: tuple[str, ...]
    is_floor: bool = False
    may_import: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """What a person would type."""
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
    Start("batch_predict", ("-c", "import serving.batch_predict"), may_import=("tensorflow",)),
    Start("model_server", ("-c", "import serving.model_server.server"), may_import=("tensorflow",)),
    Start("run", ("-c", "import tfx_pipeline.run"), may_import=_HEAVY),
)
OWN_STARTS = tuple(start for start in STARTS if not start.is_floor)


def run(progress: Progress) -> Figures:
    """Starts everything several times; see `benchmarks.registry.Benchmark`."""
    figures: Figures = {}
    for start in OWN_STARTS:
        progress(f"what `{start.title}` imports")
        import_times = _start(start, "-X", "importtime")
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
    return figures


def table(figures: Figures) -> str:
    """A row for each start, those that import TFX or TensorFlow marked."""
    rows = [
        [
            start.title + (" (floor)" if start.is_floor else ""),
            figures[f"startup.{start.key}_seconds"],
            *(_yes_or_no(figures.get(f"startup.{start.key}_imports_{name}")) for name in _HEAVY),
        ]
        for start in STARTS
    ]
    return format_table(["start-up", "seconds", *(f"imports {name}" for name in _HEAVY)], rows)


def faults(figures: Figures) -> list[str]:
    """Whatever imports TFX or TensorFlow without need."""
    return [
        f"`{start.title}` must not import {package}."
        for start in OWN_STARTS
        for package in _HEAVY
        if figures[f"startup.{start.key}_imports_{package}"] and package not in start.may_import
    ]


def is_imported(package: str, import_times: str) -> bool:
    """Whether a package itself is among what `python -X importtime` lists.

    A module below it does not count: `serving.serving_api` loads messages of TensorFlow's without
    the package.
    """
    return any(
        line.startswith("import time:") and line.rpartition("|")[2].strip() == package
        for line in import_times.splitlines()
    )


def _yes_or_no(value: Any) -> str | None:
    return None if value is None else "yes" if value else "no"


def _start(start: Start, *interpreter_options: str) -> str:
    """Runs one process to its end; returns what it printed to standard error."""
    finished = subprocess.run(
        [sys.executable, *interpreter_options, *start.arguments],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if finished.returncode:
        reason = finished.stderr.strip().splitlines()[-1:] or ["no message"]
        raise ValueError(f"`{start.title}` must start. Received: {reason[0]}")
    return finished.stderr
