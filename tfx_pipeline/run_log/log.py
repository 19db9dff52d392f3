"""What runs have been in an output folder: `runs/ID/report.json`, one flat report each.

A run's report is there from its beginning, with its state, and ends with why nothing was pushed or
with everything it measured. Files alone, and nothing of TFX: who looks waits for no library.
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
from trainer.contract.whole_files import DamagedFileError, read_json

REPORT_FILE = "report.json"
RUNS_DIR = "runs"

# States of a run. `killed` is one that says `running` and whose process is no more; the next run
# writes it down. `damaged` is one whose report cannot be read.
RUNNING, PUSHED, NOT_PUSHED, FAILED, KILLED, DAMAGED = (
    "running",
    "pushed",
    "not pushed",
    "failed",
    "killed",
    "damaged",
)
_REMEDY = "remove it, and the run is forgotten; other runs go on without it"
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
    """A run that is under way.

    Attributes:
      config: Its configuration, with the window's last day as a date.
      report: What is known of it.
    """

    config: PipelineConfig
    report: Report

    def end(self, report: Mapping[str, Any], reasons: Sequence[str]) -> None:
        """Ends the run, and leaves the report in the output folder.

        Args:
          report: What it measured.
          reasons: Why nothing was pushed; empty: a version was.
        """
        state = NOT_PUSHED if reasons else PUSHED
        self.report |= report
        self.report |= {"run.state": state, "run.reason": "; ".join(reasons) or None}
        self._write_end()
        write_report(self.report, Path(self.config.output_dir, REPORT_FILE))

    def fail(self, error: BaseException) -> None:
        """Ends the run with what stopped it."""
        state = NOT_PUSHED if isinstance(error, NotPushed) else FAILED
        self.report |= {"run.state": state, "run.reason": _in_one_line(error)}
        # On a full disk the error says more than that its report cannot be written.
        with contextlib.suppress(OSError):
            self._write_end()

    def write(self) -> None:
        """Writes what is known."""
        folder = runs_folder(self.config.output_dir)
        write_report(self.report, folder / self.report["run.id"] / REPORT_FILE)

    def _write_end(self) -> None:
        self.report["run.ended"] = utc_text(int(time.time()))
        self.write()


@contextlib.contextmanager
def logged_run(config: PipelineConfig) -> Iterator[LoggedRun]:
    """Keeps the log of one run; `LoggedRun.end` ends it, and so does an exception.

    Args:
      config: Its configuration. The caller holds the lock of the output folder.

    Yields:
      The run.

    Raises:
      ValueError: The window's days are not there.
    """
    # A run that fails must not leave the last one's report looking like its own.
    Path(config.output_dir, REPORT_FILE).unlink(missing_ok=True)
    for report in _read_reports(config.output_dir):
        if report["run.state"] == RUNNING:  # the lock is ours: it runs no more
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
    """The reports of all runs of an output folder, in the order of their beginnings."""
    reports = _read_reports(output_dir)
    for report in reports:
        if report["run.state"] == RUNNING and not _is_alive(report):
            report["run.state"] = KILLED
    return reports


def find_run(output_dir: str, name: str) -> Report:
    """One run of an output folder.

    Args:
      output_dir: The folder.
      name: Its id, or a day, which is the last run of that day.

    Returns:
      Its report.

    Raises:
      ValueError: There is none.
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
    """Where the runs of an output folder are."""
    return Path(output_dir, RUNS_DIR)


def _read_reports(output_dir: str) -> list[Report]:
    return [_read_report(p) for p in sorted(runs_folder(output_dir).glob(f"*/{REPORT_FILE}"))]


def _read_report(path: Path) -> Report:
    """A run's report; of one that is damaged its id, and what is wrong as the reason."""
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
    while (folder / run_id).exists():  # of the same second
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
    """Whether a run's process is there; of another machine's nobody knows, so it may be."""
    if report["run.host"] != socket.gethostname():
        return True
    try:
        os.kill(report["run.process"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def _in_one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, KeyboardInterrupt) or interrupts.requested():
        return "interrupted"
    if isinstance(error, ValueError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
