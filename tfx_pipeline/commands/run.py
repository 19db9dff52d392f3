"""`tagtower run`: the pipeline, from tables to a pushed version."""

import argparse
import dataclasses
import os
from typing import TYPE_CHECKING

from tfx_pipeline.commands.config_flags import add_config_flag, add_output_flag
from tfx_pipeline.terminal.console import Console, quiet_libraries
from tfx_pipeline.terminal.refusals import EXIT_NOT_PUSHED
from trainer.contract.file_system import is_folder, make_folders

if TYPE_CHECKING:
    from tfx_pipeline.config.pipeline import PipelineConfig
    from tfx_pipeline.run_log.log import Report
    from tfx_pipeline.runs.reindex import ReindexResult
    from tfx_pipeline.runs.run import RunResult


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    add_config_flag(parser)
    add_output_flag(parser)
    parser.add_argument(
        "--seed", type=int, help="seed of initialisation, training order and the random baseline"
    )
    parser.add_argument(
        "--day",
        metavar="DATE",
        help="last day of data.window: a date, or latest, the newest that is complete "
        "(default: the configuration's)",
    )
    parser.add_argument(
        "--again", action="store_true", help="run the day again, although it is done"
    )
    parser.add_argument(
        "--accept_drift",
        action="store_true",
        help="in this run, warn of drift beyond a threshold of validation.drift instead of "
        "stopping",
    )


def run(arguments: argparse.Namespace) -> int:
    """Runs the pipeline and prints the report."""
    from tfx_pipeline.config.pipeline import load_local_config
    from tfx_pipeline.runs.finished_run import finished_run
    from tfx_pipeline.tables.daily_window import with_day

    config = load_local_config(arguments.config, output=arguments.output, seed=arguments.seed)
    if arguments.day is not None:
        config = dataclasses.replace(config, data=with_day(config.data, arguments.day))
    if arguments.accept_drift:
        config = accepting_drift(config)
    elif not arguments.again:
        finished = finished_run(config)
        if finished is not None:
            return _say_finished(finished, config)
    with quiet_libraries(os.path.join(config.output_dir, "logs", "run.log")) as console:
        return exit_status(run_and_report(config, console))


def exit_status(result: "RunResult | ReindexResult") -> int:
    """Returns 0 if a version was pushed, 3 if a gate held it."""
    return 0 if result.is_pushed else EXIT_NOT_PUSHED


def run_and_report(config: "PipelineConfig", console: Console) -> "RunResult":
    """Runs a configuration while holding its output folder; prints tables and verdict.

    Args:
      config: Configuration, a `PipelineConfig`.
      console: Console for the output.

    Returns:
      The `tfx_pipeline.runs.run.RunResult`.
    """
    from tfx_pipeline.artifacts.metadata_store import check_store
    from tfx_pipeline.run_log.lock import only_run
    from tfx_pipeline.run_log.log import logged_run
    from tfx_pipeline.runs.early_checks import check_inputs
    from tfx_pipeline.runs.leftovers import remove_leftovers
    from tfx_pipeline.terminal.full_disk import in_one_line

    console.line(
        f"{config.name}: output in {config.output_dir}, library logs in {config.output_dir}/logs"
    )
    make_folders(config.output_dir)
    output, base_paths = config.output_dir, [config.base_path, config.exact_base_path]
    with (
        only_run(output),
        in_one_line(output),
        logged_run(config) as logged,
        in_one_line(output, config.base_path),
    ):
        cleared = remove_leftovers(output, filter(None, base_paths))
        if cleared:
            console.line(f"cleared    {', '.join(cleared)}, which killed runs had left")
        check_store(output)
        if "window.day" in logged.report:
            console.line(window_line(logged.report))
        check_inputs(logged.config)
        console.line("loading TFX ...")
        from tfx_pipeline.runs.run import run_pipeline

        result = run_pipeline(logged.config, console)
        logged.end(result.report, result.failed_checks)
    _say_result(result, config, console)
    return result


def _say_result(result: "RunResult", config: "PipelineConfig", console: Console) -> None:
    """Prints tables, where files are, and the verdict."""
    from tfx_pipeline.pipeline import REJECTED_DIR
    from tfx_pipeline.run_log.log import REPORT_FILE
    from tfx_pipeline.runs.outcome import INFERENCE_LINK
    from tfx_pipeline.terminal.tables import quality_table, summary_lines

    console.line()
    console.line(quality_table(result.report))
    console.line()
    for line in summary_lines(result.report):
        console.line(line)
    rejected = os.path.join(config.output_dir, REJECTED_DIR)
    if is_folder(rejected):
        console.line(f"set aside  rows that are not used, in {rejected}")
    console.line(f"report     {os.path.join(config.output_dir, REPORT_FILE)}")
    inference = os.path.join(config.output_dir, INFERENCE_LINK)
    if is_folder(inference):
        console.line(f"inferred   prediction logs of every user now in {inference}")
    if result.is_pushed:
        console.line(f"pushed     version {result.report['push.version']} in {config.base_path}")
    else:
        console.line("NOT pushed, a gate held it:")
        for check in result.failed_checks:
            console.line(f"  - {check}")


def window_line(report: "Report") -> str:
    """Returns a line with the days that a run reads."""
    missing = report["window.num_missing_days"]
    return (
        f"day        {report['window.day']}, with the log from {report['window.first_day']} on: "
        f"{report['window.num_days']} days" + (f", {missing} missing" if missing else "")
    )


def _say_finished(report: "Report", config: "PipelineConfig") -> int:
    from tfx_pipeline.run_log.log import PUSHED

    day, name = report["window.day"], report["run.id"]
    if report["run.state"] == PUSHED:
        print(
            f"{day} is done: version {report['push.version']} in {config.base_path} was pushed "
            f"by run {name}, and nothing has changed (--again runs it again)"
        )
        return 0
    print(
        f"{day} is done: run {name} pushed nothing, and nothing has changed "
        f"(--again runs it again): {report['run.reason']}"
    )
    return EXIT_NOT_PUSHED


def accepting_drift(config: "PipelineConfig") -> "PipelineConfig":
    """Returns the configuration with drift that only causes a warning."""
    drift = {
        feature: dataclasses.replace(threshold, on_violation="warn")
        for feature, threshold in config.validation.drift.items()
    }
    validation = dataclasses.replace(config.validation, drift=drift)
    return dataclasses.replace(config, validation=validation)
