"""The flags of the commands that work on a Beam engine without being a node of the pipeline."""

import argparse
import dataclasses
import shlex

from tfx_pipeline.config.beam import BeamConfig
from trainer.contract.given_paths import path_flag


@dataclasses.dataclass(frozen=True)
class Engine:
    """An engine as chosen by the flags.

    Attributes:
      runner: Value of `beam.runner`; None if Beam's own command line was given.
      pipeline_args: Arguments of Beam's command line.
    """

    runner: str | None
    pipeline_args: list[str]


def add_engine_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that `chosen_engine` reads."""
    parser.add_argument(
        "--config",
        type=path_flag("config"),
        help="configuration whose section `beam` names the engine (default: local)",
    )
    parser.add_argument(
        "--runner",
        choices=("local", "multi_process"),
        help="an engine of this machine, in place of --config's",
    )
    parser.add_argument(
        "--num_workers",
        type=int,
        default=2,
        help="number of worker processes of multi_process (default: 2)",
    )
    parser.add_argument(
        "--beam_pipeline_args",
        metavar="ARGS",
        help="Beam's own options in place of both, for any engine: "
        "--beam_pipeline_args='--runner=PortableRunner --job_endpoint=localhost:8099'",
    )


def chosen_engine(arguments: argparse.Namespace) -> Engine:
    """Returns the engine that the flags choose.

    Args:
      arguments: Parsed flags of `add_engine_flags`.

    Returns:
      The chosen engine.

    Raises:
      ValueError: The configuration or a flag is invalid.
    """
    section = BeamConfig(arguments.runner or "local", arguments.num_workers)
    if arguments.config is not None and arguments.runner is None:
        from tfx_pipeline.config.pipeline import load_config

        section = load_config(arguments.config).beam
    if arguments.beam_pipeline_args is not None:
        return Engine(None, _split(arguments.beam_pipeline_args))
    return Engine(section.runner, section.pipeline_args())


def _split(command_line: str) -> list[str]:
    try:
        return shlex.split(command_line)
    except ValueError as error:
        raise ValueError(
            "`beam_pipeline_args` must be a command line whose quotes are closed. "
            f"Received: {command_line!r}."
        ) from error
