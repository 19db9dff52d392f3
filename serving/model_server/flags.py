"""The flags of `tagtower serve`, under the real server's names, and what the command does."""

import argparse
import logging
import os
import signal
import threading
import warnings

_DRAIN_S = 30.0
_LOOK_S = 0.2


def add_serve_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags to a command's parser; imports nothing heavy.

    Args:
      parser: The parser of the command.
    """
    parser.add_argument(
        "--model_base_path",
        default="",
        metavar="DIR",
        help="absolute path of the folder with the numbered versions (required)",
    )
    parser.add_argument(
        "--model_name", default="default", help="what requests call the model (default: default)"
    )
    parser.add_argument(
        "--port", type=int, default=8500, help="gRPC port, 0: a free one (default: 8500)"
    )
    parser.add_argument(
        "--rest_api_port", type=int, default=8501, help="REST port, 0: no REST (default: 8501)"
    )
    parser.add_argument(
        "--file_system_poll_wait_seconds",
        type=float,
        default=1.0,
        metavar="SECONDS",
        help="time between two looks for new versions, 0: look once (default: 1)",
    )


def run_server(arguments: argparse.Namespace) -> int:
    """Serves until SIGTERM or SIGINT, then lets the requests under way finish.

    One line is printed when the first version serves. A base path that is not there yet is waited
    for.

    Args:
      arguments: What `add_serve_arguments` parsed.

    Returns:
      The exit status, 0.

    Raises:
      ValueError: If a flag's value is wrong, or a port is taken.
    """
    base_path = arguments.model_base_path
    if not os.path.isabs(base_path):
        raise ValueError(
            "`--model_base_path` must be the absolute path of a folder with numbered versions. "
            f"Received: --model_base_path={base_path!r}."
        )
    if not arguments.model_name:
        raise ValueError("`--model_name` must not be empty. Received: --model_name=''.")
    stopping = threading.Event()

    def on_signal(number: int, frame: object) -> None:
        # A second signal ends the process at once.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        stopping.set()

    previous = {
        number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        _serve(arguments, stopping)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    return 0


def _serve(arguments: argparse.Namespace, stopping: threading.Event) -> None:
    # TensorFlow reads this once, when it is imported; its notices are not the user's.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"google\.api_core")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    from serving.model_server.served_model import ModelConfig
    from serving.model_server.server import ModelServer

    name = arguments.model_name
    server = ModelServer(
        [ModelConfig(name, arguments.model_base_path)],
        port=arguments.port,
        rest_api_port=arguments.rest_api_port or None,
        poll_wait_s=arguments.file_system_poll_wait_seconds,
    )
    server.start()
    try:
        while not stopping.is_set():
            if server.manager.wait_until(
                lambda: all(server.manager.available_versions().values()), _LOOK_S
            ):
                rest = f", REST on {server.rest_api_port}" if server.rest_api_port else ""
                version = server.manager.available_versions()[name][0]
                print(
                    f"Serving {name} version {version}: gRPC on {server.port}{rest}.",
                    flush=True,
                )
                stopping.wait()
    finally:
        server.stop(_DRAIN_S)
