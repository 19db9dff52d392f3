"""`tagtower serve`: the local model server, under the real server's flags."""

import argparse
import os

from serving.model_server.flags import add_serve_arguments, run_server
from serving.model_server.server_log import server_log
from trainer.contract.file_system import absolute


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    add_serve_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Serves until the process is stopped."""
    if arguments.model_base_path:
        # The real server requires an absolute path; on a command line a relative one is meant from
        # the working folder.
        arguments.model_base_path = absolute(arguments.model_base_path)
    # gRPC's core writes a line to the terminal, past every log, for each refused connection and
    # each failed TLS handshake.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # Shows versions that are loaded, removed or fail to load on the terminal of the server.
    with server_log():
        return run_server(arguments)
