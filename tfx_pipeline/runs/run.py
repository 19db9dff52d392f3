"""One run of the pipeline: nodes, report, verdict. `run_log` stores its records.

The module imports TFX, hence only the commands that run a pipeline import it.
"""

import contextlib
import dataclasses
import logging
import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from tfx import v1 as tfx

from tfx_pipeline.artifacts.metadata_store import check_store
from tfx_pipeline.config.pipeline import PipelineConfig
from tfx_pipeline.engines.beam_failure import one_line_failures, without_place
from tfx_pipeline.examples.notes import read_summary
from tfx_pipeline.pipeline import create_pipeline
from tfx_pipeline.pipeline_inputs import find_inputs
from tfx_pipeline.runs.early_checks import check_inputs
from tfx_pipeline.runs.local_runner import NodeRun, ReportingLocalRunner
from tfx_pipeline.runs.memory import PeakMemory
from tfx_pipeline.runs.outcome import ensure_pushed, link_outputs
from tfx_pipeline.runs.report import NodeOutputs, build_report, planted_rows
from tfx_pipeline.tables.inputs import check_skips
from tfx_pipeline.terminal import interrupts
from tfx_pipeline.terminal.console import Console
from tfx_pipeline.terminal.full_disk import FullDiskError, full_disk
from tfx_pipeline.terminal.refusals import NotPushed, OutputInUse
from trainer.contract.file_system import is_remote


@dataclasses.dataclass(frozen=True)
class RunResult:
    """The report and the verdict with which a run ended.

    Attributes:
      report: Flat report of the run.
      nodes: Results of the nodes.
      failed_checks: Reasons why nothing was pushed; empty if a version was pushed.
      instances_dir: Folder with the instances of the split `now`.
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
    """Runs the pipeline, pushes its version and builds the report.

    Args:
      config: Checked configuration. The caller holds the lock of its output folder.
      console: Console for progress.

    Returns:
      The report and the verdict.

    Raises:
      NotPushed: The data do not meet a threshold.
      ValueError: A user's mistake, in one line.
    """
    started = time.perf_counter()
    check_inputs(config)
    pipeline = create_pipeline(config, find_inputs(config))
    with PeakMemory() as memory:
        nodes = run_nodes(pipeline, console, partial(_check_node, config))
        outputs = NodeOutputs(nodes)
        report, failed_checks = build_report(config, outputs)
        recall = report[f"index.validation_recall_at_{config.index.k}"]
        report["push.version"], held_by = ensure_pushed(config, outputs, not failed_checks, recall)
        failed_checks += [held_by] if held_by else []
        link_outputs(config, outputs, report["gate.is_model_blessed"])
        report |= planted_rows(config, outputs)
    report["time.total_seconds"] = time.perf_counter() - started
    report["memory.peak_mb"] = memory.peak_mb
    instances_dir = outputs.uri("ExampleGen", "instances")
    return RunResult(report, tuple(nodes), tuple(failed_checks), instances_dir)


def _check_node(config: PipelineConfig, run: NodeRun) -> None:
    """Checks a node's output for the needs of later nodes, before these start."""
    if run.node == "ExampleGen":
        counts, _ = read_summary(run.outputs["summary"][0].uri)
        check_skips(counts, config.training)


def run_nodes(
    pipeline: tfx.dsl.Pipeline,
    console: Console,
    check: Callable[[NodeRun], None] | None = None,
) -> list[NodeRun]:
    """Runs the nodes of a pipeline, with a line when each starts and ends.

    Args:
      pipeline: The pipeline, whole or its first part.
      console: Console for progress.
      check: Function called after each node, also if it is cached; its errors end the run.

    Returns:
      The result of each node.

    Raises:
      NotPushed: The data do not meet a threshold. The line names the node.
      ValueError: A user's mistake, in one line that names the node.
    """
    num_nodes = len(pipeline.components)
    begun: list[str] = []

    def on_start(node: str) -> None:
        interrupts.check()
        begun.append(node)
        console.line(f"[{len(begun):2d}/{num_nodes}] {node} ...")

    def on_end(run: NodeRun) -> None:
        seconds = "cached" if run.is_cached else f"{run.seconds:.1f} s"
        console.line(f"        {run.node} done: {seconds}")
        if check is not None:
            check(run)

    output_dir = os.path.dirname(pipeline.pipeline_info.pipeline_root)
    if not is_remote(output_dir):
        check_store(output_dir)

    def on_damage(line: str) -> None:
        console.line(f"        {line}")

    runner = ReportingLocalRunner(on_start, on_end, on_damage)
    try:
        with one_line_failures(console.log_path):
            return runner.run(pipeline)
    except Exception as error:
        # The log may be on the disk that is full.
        with contextlib.suppress(OSError):
            logging.getLogger(__name__).exception("%s failed", begun[-1] if begun else "pipeline")
        mistake = _mistake(error, output_dir)
        if mistake is None:
            raise
        has_status = isinstance(mistake, NotPushed | OutputInUse | FullDiskError)
        kind = type(mistake) if has_status else ValueError
        message = without_place(str(mistake))
        raise kind(f"{begun[-1]}: {message}" if begun else message) from error


def _mistake(error: Exception, output_dir: str) -> ValueError | None:
    """Returns the user's mistake behind an error, a one-line `ValueError`; None: there is none."""
    is_full = full_disk(error, [] if is_remote(output_dir) else [output_dir])
    if is_full is not None:
        return FullDiskError(is_full)
    if not isinstance(error, ValueError | RuntimeError):
        return None
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ValueError):
        cause = cause.__cause__
    return cause if cause is not None and "\n" not in without_place(str(cause)) else None
