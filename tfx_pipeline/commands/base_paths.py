"""Flags of the commands that look after pushed versions: where these lie."""

import argparse

from tfx_pipeline.commands.config_flags import add_config_flag, add_output_flag
from trainer.contract.given_paths import path_flag


def add_base_path_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds `--config` with `--output`, or `--model_base_path` with `--exact_base_path`."""
    add_config_flag(parser, is_required=False)
    add_output_flag(parser)
    parser.add_argument(
        "--model_base_path",
        type=path_flag("model_base_path"),
        help="folder of the numbered versions, in place of --config",
    )
    parser.add_argument(
        "--exact_base_path",
        type=path_flag("exact_base_path"),
        help="folder of the versions with an exact index (default: the configuration's, or "
        "MODEL_BASE_PATH_exact where it exists; empty: none)",
    )


def base_paths(arguments: argparse.Namespace) -> list[str]:
    """Returns the folders of versions, first the one that defines which version serves.

    Args:
      arguments: Parsed flags of the command.

    Returns:
      One or two absolute paths; the second one only if its folder exists.

    Raises:
      ValueError: Neither or both of `config` and `model_base_path` are given.
    """
    from tfx_pipeline.config.pipeline import exact_twin, load_config
    from trainer.contract.file_system import absolute, is_folder

    if (arguments.config is None) == (arguments.model_base_path is None):
        raise ValueError("give one of --config and --model_base_path.")
    if arguments.config is not None:
        config = load_config(arguments.config, output=arguments.output)
        main, exact = config.base_path, config.exact_base_path
    else:
        main = arguments.model_base_path
        exact = exact_twin(main)
    if arguments.exact_base_path is not None:
        exact = arguments.exact_base_path
    paths = [main, exact] if exact and is_folder(exact) else [main]
    return [absolute(path) for path in paths]
