"""Kills whole runs at random moments and restarts them until they are done, to see what is lost.

The counts are saved after each run, and the same command resumes there. The moments of a run follow
from its number alone, as shares of the time that an undisturbed run takes.
"""

import dataclasses
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from benchmarks.registry import Figures, Progress
from tfx_pipeline.terminal.report_file import write_report
from tfx_pipeline.versions.base_path_lock import LOCK_FILE

_MOST_KILLS_OF_A_RUN = 6
_NUM_SHOWN = 5
# Keys that may differ between two runs of one configuration: time, place, duration, memory.
_MAY_DIFFER_BEGINS = ("run.", "time.", "memory.", "cached.", "push.version")
_MAY_DIFFER_PARTS = ("second", "latency", "_mb")

Start = Callable[[Path], subprocess.Popen[bytes]]


@dataclasses.dataclass
class Kills:
    """Counts of kills and runs so far.

    Attributes:
      seconds: Seconds that an undisturbed run takes.
      kills: Number of kills.
      runs: Number of runs that ended or failed.
      equal: Number of runs whose report equals that of an undisturbed run.
      failed: Number of runs that could not be completed.
      different: Number of runs with another report.
      said: Descriptions of faults in runs that differ or failed.
    """

    seconds: float
    kills: int = 0
    runs: int = 0
    equal: int = 0
    failed: int = 0
    different: int = 0
    said: list[str] = dataclasses.field(default_factory=list)


def compared(report: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the part of a report that must be equal in two runs."""
    return {
        key: value
        for key, value in report.items()
        if not key.startswith(_MAY_DIFFER_BEGINS)
        and not any(part in key for part in _MAY_DIFFER_PARTS)
    }


def kill_runs(num_kills: int, folder: Path, start: Start, progress: Progress) -> Kills:
    """Kills runs until a number of kills is reached.

    Args:
      num_kills: Number of kills, with those of earlier calls.
      folder: Folder of the runs and of the counts.
      start: Function that starts a run with an output folder, in a session of its own, and resumes
        a run in the same folder. The run leaves `report.json`.
      progress: Function that shows a line for every run.

    Returns:
      The counts.

    Raises:
      ValueError: The undisturbed run fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = _load(folder) or _undisturbed(folder, start, progress)
    expected = compared(_report(folder / "undisturbed"))
    while found.kills < num_kills:
        output = folder / f"run-{found.runs}"
        # A run that an interrupted benchmark left begins anew: its moments are drawn once.
        shutil.rmtree(output, ignore_errors=True)
        most = min(_MOST_KILLS_OF_A_RUN, num_kills - found.kills)
        num, wrong = _bring_to_its_end(found, output, most, start)
        if wrong:
            found.failed += 1
        else:
            wrong = _difference(expected, compared(_report(output))) or _left_behind(output)
            found.different += bool(wrong)
            found.equal += not wrong
        if wrong:
            found.said.append(f"run {found.runs}, killed {num} times: {wrong}; it is in {output}")
        else:
            shutil.rmtree(output)
        found.kills += num
        found.runs += 1
        write_report(dataclasses.asdict(found), folder / "kills.json")
        progress(
            f"{found.kills} of {num_kills} kills, {found.runs} runs: {found.equal} equal, "
            f"{found.different} different, {found.failed} failed"
        )
    return found


def _load(folder: Path) -> Kills | None:
    try:
        return Kills(**json.loads((folder / "kills.json").read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


def _undisturbed(folder: Path, start: Start, progress: Progress) -> Kills:
    progress("a run without kills ...")
    output = folder / "undisturbed"
    shutil.rmtree(output, ignore_errors=True)
    began = time.monotonic()
    status = _wait(start(output), None)
    if status != 0:
        raise ValueError(f"the run without kills must succeed. Received: exit status {status}.")
    found = Kills(time.monotonic() - began)
    write_report(dataclasses.asdict(found), folder / "kills.json")
    return found


def _bring_to_its_end(found: Kills, output: Path, most: int, start: Start) -> tuple[int, str]:
    """Kills a run and restarts it until it ends by itself.

    Returns:
      Number of kills, and a description of the fault; "": there is none.
    """
    rng = random.Random(found.runs)
    num = 0
    while True:
        moment = rng.uniform(0, found.seconds) if num < most else None
        status = _wait(start(output), moment)
        if status is None:
            num += 1
        elif num == 0 and status == 0:
            # The run ended before it was killed: another moment is drawn.
            shutil.rmtree(output, ignore_errors=True)
        else:
            return num, "" if status == 0 else f"exit status {status}"


def _wait(process: subprocess.Popen[bytes], seconds: float | None) -> int | None:
    """Returns the exit status; None: the process and its children were killed after `seconds`."""
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _report(output: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((output / "report.json").read_text(encoding="utf-8"))
    return report


def _difference(expected: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    keys = [key for key in sorted({*expected, *report}) if expected.get(key) != report.get(key)]
    if not keys:
        return ""
    shown = [f"{key} {expected.get(key)!r} {report.get(key)!r}" for key in keys[:_NUM_SHOWN]]
    return f"{len(keys)} keys of the report differ ({'; '.join(shown)})"


def _left_behind(output: Path) -> str:
    """Lists entries in the folder of versions that are no versions."""
    base_path = output / "serving"
    names = sorted(path.name for path in base_path.iterdir()) if base_path.is_dir() else []
    odd = [
        name
        for name in names
        if not name.isdecimal() and name != LOCK_FILE and not name.startswith("pushed")
    ]
    return f"{base_path} has {', '.join(odd)}" if odd else ""


def small_run(folder: Path) -> Start:
    """Writes a small log and its configuration; returns the starter of `tagtower run` with them."""
    from tfx_pipeline.datasets.demo import prepare_demo
    from tfx_pipeline.datasets.demo_config import DemoConfig

    tables, config = folder / "tables", folder / "config.yaml"
    if not config.exists():
        log = DemoConfig(
            num_users=300,
            num_tags=120,
            num_items=600,
            num_categories=6,
            events_per_user=40,
            interests_per_user=3,
            seed=3,
        )
        prepare_demo(str(tables), log)
        config.write_text(yaml.safe_dump(_configuration(tables)), encoding="utf-8")

    def start(output: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tfx_pipeline.cli", "run"]
        with open(folder / "runs.log", "ab") as log:
            return subprocess.Popen(
                [*command, "--config", str(config), "--output", str(output)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    return start


def _configuration(tables: Path) -> dict[str, Any]:
    return {
        "name": "small",
        "output": str(tables.parent / "unused"),
        "data": {
            "interactions": str(tables / "interactions"),
            "items": str(tables / "items.parquet"),
            "users": str(tables / "users.parquet"),
        },
        "features": {
            "profile": [{"name": "segment"}, {"name": "age_band"}],
            "domains": [{"name": "clicked_tags", "max_values": 120}],
        },
        "examples": {"snapshots_per_user": 3, "num_shards": 2},
        "model": {"embedding_dim": 16, "hidden_dim": 32, "output_dim": 16, "interaction": "bag"},
        "training": {"max_epochs": 8, "batch_size": 32, "budget_steps": 0, "min_steps": 0},
        # The gates only have to run: a toy model need not be good.
        "gate": {
            "min_relative_gain": -0.9,
            "min_relative_novel_gain": -0.9,
            "min_click_gauc": 0.0,
            "min_relative_distinct": 0.0,
            "min_relative_coverage": 0.0,
            "too_few_users": "warn",
            "max_relative_loss": 0.9,
        },
        "index": {"kind": "scann", "k": 20},
    }


def kill_figures(found: Kills) -> Figures:
    """Returns the figures of the kills by key."""
    return {
        "hostile.kills.tried": found.kills,
        "hostile.kills.runs": found.runs,
        "hostile.kills.equal": found.equal,
        "hostile.kills.different": found.different,
        "hostile.kills.failed": found.failed,
        "hostile.kills.undisturbed_seconds": round(found.seconds, 1),
    }
