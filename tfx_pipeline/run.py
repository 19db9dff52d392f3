"""One run of the pipeline: nodes, report, verdict.

Imports TFX, hence is itself imported only by the commands that run a pipeline.
"""

import contextlib
import dataclasses
import fcntl
import logging
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tfx import v1 as tfx

from tfx_pipeline.beam_failure import one_line_failures
from tfx_pipeline.config import PipelineConfig
from tfx_pipeline.console import Console
from tfx_pipeline.memory import PeakMemory
from tfx_pipeline.pipeline import create_pipeline
from tfx_pipeline.report import build_report
from tfx_pipeline.report_file import write_report
from tfx_pipeline.runners import NodeRun, ReportingLocalRunner
from trainer.config_loader import require

REPORT_FILE = "report.json"


@dataclasses.dataclass(frozen=True)
class RunResult:
    """What a run ended with.

    Attributes:
      report: The flat report.
      nodes: What each node did.
      failed_checks: Why nothing was pushed; empty if a version was.
      instances_dir: Folder with the instances of *now*.
    """

    report: dict[str, Any]
    nodes: tuple[NodeRun, ...]
    failed_checks: tuple[str, ...]
    instances_dir: str

    @property
    def is_pushed(self) -> bool:
        """Whether model and index were blessed, so that a version was pushed."""
        return not self.failed_checks


def run_pipeline(config: PipelineConfig, console: Console) -> RunResult:
    """Runs the pipeline and writes `report.json` into the output folder.

    Args:
      config: The checked configuration.
      console: Where progress goes.

    Returns:
      The result.

    Raises:
      ValueError: A user's mistake, in one line.
    """
    os.makedirs(config.output_dir, exist_ok=True)
    report_path = Path(config.output_dir) / REPORT_FILE
    with only_run(config.output_dir):
        # A run that fails must not leave the last one's report looking like its own.
        report_path.unlink(missing_ok=True)
        result = _run(config, console)
        write_report(result.report, report_path)
    return result


def _run(config: PipelineConfig, console: Console) -> RunResult:
    started = time.perf_counter()
    planted = config.data.planted
    require(
        planted is None or os.path.isfile(planted), "data.planted", "be a file or null", planted
    )
    pipeline = create_pipeline(config)
    with PeakMemory() as memory:
        nodes = run_nodes(pipeline, console)
        report, failed_checks, instances_dir = build_report(config, nodes)
    report["time.total_seconds"] = time.perf_counter() - started
    report["memory.peak_mb"] = memory.peak_mb
    return RunResult(report, tuple(nodes), tuple(failed_checks), instances_dir)


def run_nodes(pipeline: tfx.dsl.Pipeline, console: Console) -> list[NodeRun]:
    """Runs the nodes of a pipeline, with a line when each begins and ends.

    Args:
      pipeline: The pipeline, whole or its first part.
      console: Where progress goes.

    Returns:
      What each node did.

    Raises:
      ValueError: A user's mistake, in one line that names the node.
    """
    num_nodes = len(pipeline.components)
    begun: list[str] = []

    def on_start(node: str) -> None:
        begun.append(node)
        console.line(f"[{len(begun):2d}/{num_nodes}] {node} ...")

    def on_end(run: NodeRun) -> None:
        seconds = "cached" if run.is_cached else f"{run.seconds:.1f} s"
        console.line(f"        {run.node} done: {seconds}")

    runner = ReportingLocalRunner(on_start, on_end)
    try:
        with one_line_failures(console.log_path):
            return runner.run(pipeline)
    except (ValueError, RuntimeError) as error:
        logging.getLogger(__name__).exception("%s failed", begun[-1] if begun else "pipeline")
        message = _user_message(error)
        if message is None:
            raise
        raise ValueError(f"{begun[-1]}: {message}" if begun else message) from error


@contextlib.contextmanager
def only_run(output_dir: str) -> Iterator[None]:
    """Two runs in one output folder would write each other's files: the second is refused."""
    with open(os.path.join(output_dir, ".lock"), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(
                f"`output` must be a folder that no other run is using. Received: {output_dir}."
            ) from error
        yield


def _user_message(error: Exception) -> str | None:
    """The text of a user's mistake; None for anything else.

    Beam wraps what a function raises and adds where it was running; the mistake itself is a
    `ValueError` in the project's one form.
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ValueError):
        cause = cause.__cause__
    text = str(cause or error)
    text = re.sub(r"\s*\[while running '[^']*'\]", "", text)
    is_mistake = isinstance(cause, ValueError) and "\n" not in text.strip()
    return text.strip() if is_mistake else None
