"""`tagtower study`: towers, objectives and seeds compared on one set of prepared examples."""

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tfx_pipeline.terminal.console import Console, quiet_libraries
from trainer.contract.config_loader import require
from trainer.contract.given_paths import path_flag

# Tables, each with header and rows, and the written files.
_Outcome = tuple[list[Any], Sequence[Path]]

STOPPED = "stopped; the same command goes on after the last finished trial"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    parser.add_argument(
        "--config",
        type=path_flag("config"),
        required=True,
        help="a YAML file, or the name of a study that comes with tagtower",
    )
    parser.add_argument(
        "--output",
        type=path_flag("output"),
        help="folder of report, runs, plots and finished trials (default: the configuration's); "
        "with this flag no page is written",
    )
    parser.add_argument(
        "--seeds", type=int, nargs="+", help="seeds, in place of the configuration's"
    )
    parser.add_argument(
        "--logs",
        nargs="+",
        help="logs of a study of defaults (default: all of the configuration's)",
    )
    parser.add_argument(
        "--accept_changed_code",
        action="store_true",
        help="use finished trials of another version of the code as they are; the report says so",
    )


def run(arguments: argparse.Namespace) -> int:
    """Runs the study and prints its report."""
    from tfx_pipeline.config.pipeline import load_yaml
    from tfx_pipeline.study.early_checks import check_study
    from tfx_pipeline.study.grid.defaults_config import is_of_defaults
    from tfx_pipeline.study.grid.definition import FOLDER, load_study

    if is_of_defaults(load_yaml(arguments.config, FOLDER)):
        return _run_defaults(arguments)
    require(arguments.logs is None, "logs", "be left out where the study has none", arguments.logs)
    study = load_study(arguments.config, output=arguments.output, seeds=arguments.seeds)
    check_study(study)

    def run_and_tabulate(console: Console) -> _Outcome:
        from tfx_pipeline.study.report.new_tags_table import new_tags_table
        from tfx_pipeline.study.report.tables import result_table
        from tfx_pipeline.study.run import run_study

        outcome = run_study(study, console, arguments.accept_changed_code)
        tables = [result_table(outcome.results, study.config.metrics)]
        if outcome.new_tags is not None:
            tables.append(new_tags_table(outcome.new_tags))
        return tables, outcome.files

    return _run(study.config.name, study.config.output_dir, run_and_tabulate)


def _run_defaults(arguments: argparse.Namespace) -> int:
    """Runs a study of defaults and prints its results over all logs."""
    from tfx_pipeline.study.early_checks import check_defaults
    from tfx_pipeline.study.grid.defaults_definition import load_defaults

    study = load_defaults(
        arguments.config, output=arguments.output, seeds=arguments.seeds, logs=arguments.logs
    )
    check_defaults(study)

    def run_and_tabulate(console: Console) -> _Outcome:
        from tfx_pipeline.study.defaults_run import run_defaults
        from tfx_pipeline.study.report.defaults_report import summary_table

        outcome = run_defaults(study, console, arguments.accept_changed_code)
        return [summary_table(outcome.results)], outcome.files

    return _run(study.config.name, study.config.output_dir, run_and_tabulate)


def _run(name: str, output: str, run_and_tabulate: Callable[[Console], _Outcome]) -> int:
    """Runs a study of either kind, and prints its tables and the paths of the written files."""
    with quiet_libraries(os.path.join(output, "logs", "study.log")) as console:
        console.line(f"{name}: output in {output}, library logs in {output}/logs")
        console.line("loading TFX ...")
        from tfx_pipeline.terminal.tables import format_table

        try:
            tables, files = run_and_tabulate(console)
        except KeyboardInterrupt:
            console.line(STOPPED)
            raise
        console.line()
        for table in tables:
            console.line(format_table(*table))
            console.line()
        for path in files:
            console.line(f"written    {path}")
    return 0
