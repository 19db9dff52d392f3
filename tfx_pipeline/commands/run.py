"""`tagtower run`: the pipeline, from tables to a pushed version."""

import argparse
import os

from tfx_pipeline.console import Console, quiet_libraries

EXIT_NOT_PUSHED = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    parser.add_argument(
        "--config",
        required=True,
        help="a YAML file, or the name of a configuration that comes with tagtower",
    )
    parser.add_argument("--output", help="output folder (default: the configuration's)")
    parser.add_argument(
        "--seed", type=int, help="of initialisation, training order and the random baseline"
    )


def run(arguments: argparse.Namespace) -> int:
    """Runs the pipeline and prints the report."""
    from tfx_pipeline.config import load_local_config

    config = load_local_config(arguments.config, output=arguments.output, seed=arguments.seed)
    with quiet_libraries(os.path.join(config.output_dir, "logs", "run.log")) as console:
        return exit_status(run_and_report(config, console))


def exit_status(result) -> int:
    """0 if a version was pushed, 3 if a gate held it."""
    return 0 if result.is_pushed else EXIT_NOT_PUSHED


def run_and_report(config, console: Console):
    """Runs a configuration; prints tables and verdict.

    Args:
      config: A `PipelineConfig`.
      console: Where to print.

    Returns:
      The `tfx_pipeline.run.RunResult`.
    """
    console.line(
        f"{config.name}: output in {config.output_dir}, library logs in {config.output_dir}/logs"
    )
    console.line("loading TFX ...")
    from tfx_pipeline.report import INFERENCE_LINK
    from tfx_pipeline.report_tables import quality_table, summary_lines
    from tfx_pipeline.run import REPORT_FILE, run_pipeline

    result = run_pipeline(config, console)
    console.line()
    console.line(quality_table(result.report))
    console.line()
    for line in summary_lines(result.report):
        console.line(line)
    console.line(f"report     {os.path.join(config.output_dir, REPORT_FILE)}")
    inference = os.path.join(config.output_dir, INFERENCE_LINK)
    if os.path.isdir(inference):
        console.line(f"inferred   prediction logs of every user now in {inference}")
    if result.is_pushed:
        console.line(f"pushed     version {result.report['push.version']} in {config.base_path}")
    else:
        console.line("NOT pushed, a gate held it:")
        for check in result.failed_checks:
            console.line(f"  - {check}")
    return result
