"""`tagtower study`: towers, objectives and seeds compared on one set of prepared examples."""

import argparse
import os

from tfx_pipeline.console import quiet_libraries
from trainer.given_paths import path_flag


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    parser.add_argument(
        "--config",
        type=path_flag("config"),
        required=True,
        help="a YAML file, or the name of a study that comes with tagtower",
    )
    parser.add_argument(
        "--output",
        type=path_flag("output"),
        help="folder of report, runs, plots and finished trials (default: the configuration's; "
        "with it no page is written)",
    )
    parser.add_argument("--seeds", type=int, nargs="+", help="in place of the configuration's")
    parser.add_argument(
        "--accept_changed_code",
        action="store_true",
        help="take finished trials of another version of the code as they are; the report says so",
    )


def run(arguments: argparse.Namespace) -> int:
    """Runs the study and prints its report."""
    from tfx_pipeline.study.definition import load_study

    study = load_study(arguments.config, output=arguments.output, seeds=arguments.seeds)
    output = study.config.output_dir
    with quiet_libraries(os.path.join(output, "logs", "study.log")) as console:
        console.line(f"{study.config.name}: output in {output}, library logs in {output}/logs")
        console.line("loading TFX ...")
        from tfx_pipeline.report_tables import format_table
        from tfx_pipeline.study.new_tags_table import new_tags_table
        from tfx_pipeline.study.run import run_study
        from tfx_pipeline.study.tables import result_table

        try:
            outcome = run_study(study, console, arguments.accept_changed_code)
        except KeyboardInterrupt:
            console.line("stopped; the same command goes on after the last finished trial")
            raise
        console.line()
        console.line(format_table(*result_table(outcome.results, study.config.metrics)))
        console.line()
        if outcome.new_tags is not None:
            console.line(format_table(*new_tags_table(outcome.new_tags)))
            console.line()
        for path in outcome.files:
            console.line(f"written    {path}")
    return 0
