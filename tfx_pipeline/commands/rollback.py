"""`tagtower rollback`: the version before serves again, or any other one; nothing is lost."""

import argparse

from tfx_pipeline.commands.base_paths import add_base_path_arguments, base_paths


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    add_base_path_arguments(parser)
    parser.add_argument(
        "--to",
        type=int,
        metavar="VERSION",
        help="the version that is to serve, withdrawn or not (default: the one before)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Withdraws newer versions; brings the chosen one back if it was withdrawn."""
    from tfx_pipeline.versions.base_path_lock import locked
    from tfx_pipeline.versions.pushed_versions import WITHDRAWN_DIR, roll_back, version_before
    from trainer.contract.file_system import is_folder

    paths = base_paths(arguments)
    # Chosen before waiting for a lock: the user wants to withdraw the version that serves now.
    version = version_before(paths[0]) if arguments.to is None else arguments.to
    with locked(path for path in paths if is_folder(path)):
        withdrawn = roll_back(paths, version)
    for path in paths:
        print(f"serves     version {version} in {path}")
    if withdrawn:
        print(f"withdrawn  {', '.join(map(str, withdrawn))}, now in {WITHDRAWN_DIR}/ there")
        print(f"to undo    tagtower rollback --to {withdrawn[-1]}")
    return 0
