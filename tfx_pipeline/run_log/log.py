"""The log of the runs in an output folder: `runs/ID/report.json`, one flat report each.

A run's report exists from its start, with its state, and ends with the reason why nothing was
pushed or with all measurements. The module uses files alone and nothing of TFX, so that listing
runs loads no library.
"""

import contextlib
import dataclasses
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfx_pipeline.config.pipeline import PipelineConfig
from tfx_pipeline.config.utc_times import utc_text
from tfx_pipeline.run_log.inputs import inputs_fingerprint
from tfx_pipeline.tables.daily_window import find_window, with_day
from tfx_pipeline.terminal import interrupts
from tfx_pipeline.terminal.refusals import NotPushed
from tfx_pipeline.terminal.report_file import write_report
from trainer.contract.file_system import remove_file
from trainer.contract.whole_files import DamagedFileError, read_json

REPORT_FILE = "report.json"
RUNS_DIR = "runs"

# States of a run. `killed` is the state of a run that was `running` and whose process has ended;
# the next run records it. `damaged` is the state of a run whose report cannot be read.
RUNNING, PUSHED, NOT_PUSHED, FAILED, KILLED, DAMAGED = (
    "running",
    "pushed",
    "not pushed",
    "failed",
    "killed",
    "damaged",
)
_REMEDY = "remove it: the log then lacks this run, and other runs go on"
_REQUIRED: dict[str, type | tuple[type, ...]] = {
    "run.id": str,
    "run.state": str,
    "run.reason": (str, type(None)),
    "run.process": int,
    "run.host": str,
}

Report = dict[str, Any]


@dataclasses.dataclass
class LoggedRun:
    """A run in progress, with its report so far.

    Attributes:
      config: Configuration of the run, with the window's last day as a date.
      report: Report of the run so far.
    """

    config: PipelineConfig
    report: Report

    def end(self, report: Mapping[str, Any], reasons: Sequence[str]) -> None:
        """Ends the run, and writes its report to the output folder.

        Args:
          report: Measurements of the run.
          reasons: Reasons why nothing was pushed; empty: a version was pushed.
        """
        state = NOT_PUSHED if reasons else PUSHED
        self.report |= report
        self.report |= {"run.state": state, "run.reason": "; ".join(reasons) or None}
        self._write_end()
        write_report(self.report, Path(self.config.output_dir, REPORT_FILE))

    def fail(self, error: BaseException) -> None:
        """Ends the run with the error that stopped it."""
        state = NOT_PUSHED if isinstance(error, NotPushed) else FAILED
        self.report |= {"run.state": state, "run.reason": _in_one_line(error)}
        # On a full disk the original error says more than the failure to write the report.
        with contextlib.suppress(OSError):
            self._write_end()

    def write(self) -> None:
        """Writes the report so far."""
        folder = runs_folder(self.config.output_dir)
        write_report(self.report, folder / self.report["run.id"] / REPORT_FILE)

    def _write_end(self) -> None:
        self.report["run.ended"] = utc_text(int(time.time()))
        self.write()


@contextlib.contextmanager
def logged_run(config: PipelineConfig) -> Iterator[LoggedRun]:
    """Logs one run; `LoggedRun.end` or an exception ends it.

    Args:
      config: Configuration of the run. The caller holds the lock of the output folder.

    Yields:
      The run in progress.

    Raises:
      ValueError: The window's days do not exist.
    """
    # The report of the last run must not look like that of a run that fails.
    remove_file(os.path.join(config.output_dir, REPORT_FILE), missing_ok=True)
    for report in _read_reports(config.output_dir):
        if report["run.state"] == RUNNING:  # this process holds the lock, so that run has ended
            LoggedRun(config, report | {"run.state": KILLED}).write()
    run = LoggedRun(config, _beginning(config))
    run.write()
    try:
        window = find_window(config.data)
        if window is not None:
            data = with_day(config.data, window.day)
            run.config = dataclasses.replace(config, data=data)
            run.report |= window.facts()
            run.report["run.inputs"] = inputs_fingerprint(run.config)
            run.write()
        yield run
    except BaseException as error:
        run.fail(error)
        raise


def read_runs(output_dir: str) -> list[Report]:
    """Reads the reports of all runs in an output folder, in the order of their starts."""
    reports = _read_reports(output_dir)
    for report in reports:
        if report["run.state"] == RUNNING and not _is_alive(report):
            report["run.state"] = KILLED
    return reports


def find_run(output_dir: str, name: str) -> Report:
    """Finds one run of an output folder by id or day.

    Args:
      output_dir: Output folder.
      name: Id of the run, or a day, which stands for the last run of that day.

    Returns:
      The report of the run.

    Raises:
      ValueError: There is no run of that name, or its report is damaged.
    """
    reports = read_runs(output_dir)
    named = [r for r in reports if name in (r["run.id"], r.get("window.day"))]
    if not named:
        raise ValueError(
            f"`compare` must name runs of {output_dir}, by id or day. Received: {name!r} "
            f"({len(reports)} runs; `tagtower runs` lists them)."
        )
    if named[-1]["run.state"] == DAMAGED:
        raise ValueError(named[-1]["run.reason"])
    return named[-1]


def runs_folder(output_dir: str) -> Path:
    """Returns the folder of the runs in an output folder."""
    return Path(output_dir, RUNS_DIR)


def _read_reports(output_dir: str) -> list[Report]:
    return [_read_report(p) for p in sorted(runs_folder(output_dir).glob(f"*/{REPORT_FILE}"))]


def _read_report(path: Path) -> Report:
    """Reads a run's report; for a damaged one returns its id, and the fault as the reason."""
    run_id = path.parent.name
    try:
        report = read_json(str(path), _REMEDY, required=_REQUIRED)
    except DamagedFileError as error:
        return {"run.id": run_id, "run.state": DAMAGED, "run.reason": str(error)}
    return report | {"run.id": run_id}


def _beginning(config: PipelineConfig) -> Report:
    now = int(time.time())
    folder = runs_folder(config.output_dir)
    first = utc_text(now).replace("-", "").replace(":", "")
    run_id, number = first, 1
    while (folder / run_id).exists():  # a run of the same second
        number += 1
        run_id = f"{first}-{number}"
    return {
        "run.id": run_id,
        "run.name": config.name,
        "run.seed": config.seed,
        "run.started": utc_text(now),
        "run.ended": None,
        "run.state": RUNNING,
        "run.reason": None,
        "run.process": os.getpid(),
        "run.host": socket.gethostname(),
    }


def _is_alive(report: Report) -> bool:
    """Returns whether a run's process is alive; one on another machine may be, so it counts."""
    if report["run.host"] != socket.gethostname():
        return True
    try:
        os.kill(report["run.process"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # a process of another account
        return True
    return True


def _in_one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, KeyboardInterrupt) or interrupts.requested():
        return "interrupted"
    if isinstance(error, ValueError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
