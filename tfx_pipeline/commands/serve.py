"""`tagtower serve`: the local model server, under the real server's flags."""

import argparse
import os

from serving.model_server.flags import add_serve_arguments, run_server
from serving.model_server.server_log import server_log
from trainer.contract.file_system import absolute


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    add_serve_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Serves until it is told to stop."""
    if arguments.model_base_path:
        # The real server wants an absolute path; on a command line a relative one is meant from
        # here.
        arguments.model_base_path = absolute(arguments.model_base_path)
    # gRPC's core writes a line past every log for each connection that it cannot take, or whose
    # TLS fails.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # Versions that come, go or fail to load, on the terminal of whoever started the server.
    with server_log():
        return run_server(arguments)
