"""`tagtower serve`: the local model server, under the real server's flags."""

import argparse
import logging

from serving.model_server.flags import add_serve_arguments, run_server
from tfx_pipeline.console import PROGRESS_LOGGER
from trainer.file_system import absolute


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    add_serve_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Serves until it is told to stop."""
    if arguments.model_base_path:
        # The real server wants an absolute path; on a command line a relative one is meant from
        # here.
        arguments.model_base_path = absolute(arguments.model_base_path)
    # Versions that come, go or fail to load, on the terminal of whoever started the server.
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    progress = logging.getLogger(PROGRESS_LOGGER)
    progress.addHandler(handler)
    progress.setLevel(logging.INFO)
    progress.propagate = False
    try:
        return run_server(arguments)
    finally:
        progress.removeHandler(handler)
        progress.propagate = True
