"""The flags of the commands that work with a configuration and its output folder."""

import argparse

from trainer.contract.given_paths import path_flag


def add_config_flag(parser: argparse.ArgumentParser, is_required: bool = True) -> None:
    """Adds the flag `--config`."""
    parser.add_argument(
        "--config",
        type=path_flag("config"),
        required=is_required,
        help="a YAML file, or the name of a configuration that comes with tagtower",
    )


def add_output_flag(parser: argparse.ArgumentParser) -> None:
    """Adds `--output`, which replaces the output folder of the configuration."""
    parser.add_argument(
        "--output", type=path_flag("output"), help="output folder (default: the configuration's)"
    )
