"""`tagtower compile`: the pipeline as a specification for Kubeflow Pipelines and Vertex AI."""

import argparse
import dataclasses
from typing import TYPE_CHECKING

from tfx_pipeline.commands.config_flags import add_config_flag
from tfx_pipeline.terminal.console import quiet_libraries, temporary_log
from trainer.contract.given_paths import path_flag
from trainer.contract.whole_files import write_json

if TYPE_CHECKING:
    from tfx_pipeline.config.pipeline import PipelineConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    add_config_flag(parser)
    parser.add_argument(
        "--output",
        type=path_flag("output"),
        required=True,
        help="file to write, such as pipeline.json",
    )
    parser.add_argument(
        "--root",
        type=path_flag("root"),
        help="output folder of the runs, such as gs://BUCKET/FOLDER (default: the configuration's "
        "`output`)",
    )
    parser.add_argument("--image", help="image of the nodes (default: `vertex.image`)")


def run(arguments: argparse.Namespace) -> int:
    """Compiles the pipeline; prints the path of the file."""
    from tfx_pipeline.config.paths import check_written
    from tfx_pipeline.config.pipeline import load_config
    from tfx_pipeline.runs.early_checks import check_compilable, check_new_file
    from tfx_pipeline.tables.inputs import find_tables

    config = load_config(arguments.config, output=arguments.root)
    check_written(config)
    if arguments.image is not None:
        image = dataclasses.replace(config.vertex, image=arguments.image)
        config = dataclasses.replace(config, vertex=image)
    check_compilable(config)
    check_new_file("output", arguments.output)
    find_tables(config.data, config.features)
    with temporary_log("compile.log") as log_path:
        _compile(config, arguments.output, log_path)
    return 0


def _compile(config: "PipelineConfig", output: str, log_path: str) -> None:
    with quiet_libraries(log_path) as console:
        console.line("loading TFX ...")
        from tfx_pipeline.runs.vertex import compile_pipeline

        job = compile_pipeline(config)
        write_json(output, job)
        tasks = job["pipelineSpec"]["root"]["dag"]["tasks"]
        console.line(
            f"compiled   {config.name}, {len(tasks)} tasks, for the tables as they are now, into "
            f"{output}"
        )
