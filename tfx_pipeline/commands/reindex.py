"""`tagtower reindex`: new, retired and re-weighted tags make a new version, without training."""

import argparse
import os

from tfx_pipeline.commands.config_flags import add_config_flag, add_output_flag
from tfx_pipeline.commands.run import exit_status
from tfx_pipeline.terminal.console import quiet_libraries
from trainer.contract.given_paths import path_flag


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    add_config_flag(parser)
    add_output_flag(parser)
    parser.add_argument(
        "--tags",
        type=path_flag("tags"),
        required=True,
        metavar="FILE",
        help="CSV, Parquet or JSON lines with the column tag and, where needed, category, "
        "vector, weight, retired: the changes to the tags that the towers were trained with",
    )
    parser.add_argument(
        "--complete",
        action="store_true",
        help="the file is the whole catalogue: tags that it does not name are retired",
    )


def run(arguments: argparse.Namespace) -> int:
    """Reindexes and prints the result."""
    from tfx_pipeline.config.pipeline import load_local_config
    from tfx_pipeline.runs.reindex_source import reindexed_version
    from tfx_pipeline.tables.table_files import list_files
    from trainer.contract.file_system import absolute, is_folder

    config = load_local_config(arguments.config, output=arguments.output)
    if not is_folder(config.output_dir):
        raise ValueError(
            f"`output` must be the folder of a run. Received: {config.output_dir}, which is not "
            "there."
        )
    reindexed_version(absolute(config.base_path), config.output_dir)
    list_files(arguments.tags)
    log = os.path.join(config.output_dir, "logs", "reindex.log")
    with quiet_libraries(log) as console:
        console.line(f"{config.name}: loading TensorFlow and TFX ...")
        from tfx_pipeline.runs.tag_file import read_tag_file

        read_tag_file(arguments.tags, config.data)  # TFX takes longer than to read it twice
        from tfx_pipeline.runs.reindex import REJECTED_FILE, WORK_DIR, reindex

        result = reindex(config, arguments.tags, arguments.complete, console)
        facts = result.provenance
        if result.num_rejected:
            path = os.path.join(config.output_dir, WORK_DIR, REJECTED_FILE)
            console.line(f"rows       {result.num_rejected} set aside, in {path}")
        console.line(
            f"index      {facts['index']} over {facts['num_tags']:,} tags, "
            f"recall {facts['recall']:.4f} on validation users"
        )
        if result.is_pushed:
            console.line(f"pushed     version {result.version} in {config.base_path}")
        else:
            console.line("NOT pushed, a gate held it:")
            for check in result.failed_checks:
                console.line(f"  - {check}")
        return exit_status(result)
