"""The flags of `tagtower serve`, with TensorFlow Serving's names, and the run of the command."""

import argparse
import contextlib
import logging
import os
import signal
import sys
import threading
import warnings
from typing import TYPE_CHECKING, Any

from serving.inference_environment import prefer_small_batches
from serving.model_server.callers.limit_flags import (
    add_limit_flags,
    add_switch,
    check_limit_flags,
    limit_arguments,
)
from serving.model_server.callers.request_log_flags import (
    add_request_log_flags,
    check_request_log_flags,
    request_log_options,
)
from serving.model_server.callers.security_flags import (
    add_security_arguments,
    check_security,
    load_security,
)
from serving.model_server.ports import check_port
from trainer.contract.file_system import open_file
from trainer.contract.given_paths import path_flag, require_no_pattern

if TYPE_CHECKING:
    from serving.model_server.batching.parameters import BatchingParameters
    from serving.model_server.callers.transport_security import TransportSecurity
    from serving.model_server.server import ModelServer

_logger = logging.getLogger("tagtower.model_server")

_LOOK_S = 0.2
_NUM_THREADS = 16
# A caller whose request waits for its batch holds a thread.
_MOST_BATCHING_THREADS = 128
# Seconds after which a thread that computes in Python must release the GIL to the event loops:
# Python's default of 5 ms is longer than most requests take.
_SWITCH_S = 2e-4


def add_serve_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags to a command's parser; imports no large library.

    Args:
      parser: Parser of the command.
    """
    parser.add_argument(
        "--port", type=int, default=8500, help="gRPC port, 0: a free one (default: %(default)s)"
    )
    parser.add_argument(
        "--rest_api_port",
        type=int,
        default=8501,
        help="REST port, 0: no REST (default: %(default)s)",
    )
    _add_model_flags(parser)
    parser.add_argument(
        "--monitoring_config_file",
        type=path_flag("monitoring_config_file"),
        default="",
        metavar="FILE",
        help="file with a MonitoringConfig as text: whether and where Prometheus reads metrics",
    )
    add_switch(
        parser,
        "--allow_version_labels_for_unavailable_models",
        False,
        "let a new label name a version that is not loaded yet",
    )
    add_switch(parser, "--enable_grpc_healthcheck_service", True, "the gRPC health service")
    _add_batching_flags(parser)
    _add_thread_flags(parser)
    add_limit_flags(parser)
    add_request_log_flags(parser)
    add_security_arguments(parser, add_switch)


def _add_model_flags(parser: argparse.ArgumentParser) -> None:
    """Which models are loaded, and when."""
    parser.add_argument(
        "--model_name",
        default="default",
        help="name of the model in requests (default: %(default)s)",
    )
    parser.add_argument(
        "--model_base_path",
        type=path_flag("model_base_path"),
        default="",
        metavar="DIR",
        help="absolute path of the folder with the numbered versions",
    )
    parser.add_argument(
        "--model_config_file",
        type=path_flag("model_config_file"),
        default="",
        metavar="FILE",
        help="file with a ModelServerConfig as text, for several models; --model_name and "
        "--model_base_path are then ignored",
    )
    parser.add_argument(
        "--model_config_file_poll_wait_seconds",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="time between two reads of --model_config_file, 0: read it once (default: "
        "%(default)s)",
    )
    parser.add_argument(
        "--file_system_poll_wait_seconds",
        type=float,
        default=1.0,
        metavar="SECONDS",
        help="time between two searches for new versions, 0: search once (default: %(default)s)",
    )
    parser.add_argument(
        "--max_load_memory_mb",
        type=float,
        metavar="MB",
        help="memory that loading a version may take, as estimated, beside what is loaded; 0: "
        "any amount (default: what is available)",
    )


def _add_batching_flags(parser: argparse.ArgumentParser) -> None:
    """Whether and how requests of several callers share a call."""
    add_switch(parser, "--enable_batching", False, "join requests that come at a time")
    parser.add_argument(
        "--batching_parameters_file",
        type=path_flag("batching_parameters_file"),
        default="",
        metavar="FILE",
        help="file with a BatchingParameters as text, for --enable_batching",
    )


def _add_thread_flags(parser: argparse.ArgumentParser) -> None:
    """How much is done at a time."""
    parser.add_argument(
        "--grpc_max_threads",
        type=int,
        help=f"requests answered at a time over gRPC (default: {_NUM_THREADS}; with "
        f"--enable_batching two batches, at most {_MOST_BATCHING_THREADS})",
    )
    parser.add_argument(
        "--rest_api_num_threads",
        type=int,
        help=f"requests answered at a time over REST (default: {_NUM_THREADS}, with "
        "--enable_batching as for gRPC)",
    )
    parser.add_argument(
        "--tensorflow_intra_op_parallelism",
        type=int,
        default=1,
        metavar="THREADS",
        help="threads of one operation, 0: one for each core; more than one pays off for an "
        "exact index over very many tags (default: %(default)s)",
    )


def run_server(arguments: argparse.Namespace) -> int:
    """Serves until SIGTERM, SIGINT or SIGHUP, then waits for running requests.

    The server prints one line when all models are available. If a base path does not exist yet, the
    server waits for it.

    Args:
      arguments: Parsed flags of `add_serve_arguments`.

    Returns:
      The exit status: 0 after SIGTERM, 129 after SIGHUP.

    Raises:
      ValueError: If a flag's value or a file is wrong, or a port is taken.
      OSError: If a file cannot be read.
      KeyboardInterrupt: After SIGINT, once running requests are answered.
    """
    _check(arguments)
    server = _load_server(arguments, load_security(arguments))
    stopping = _Stopping()
    try:
        _serve(server, arguments, stopping)
    finally:
        stopping.restore()
    if stopping.number == signal.SIGINT:
        raise KeyboardInterrupt
    return _status_after(stopping)


def _status_after(stopping: "_Stopping") -> int:
    """Prints which signal ended the server, and returns the exit status."""
    number = stopping.number or signal.SIGTERM
    with contextlib.suppress(OSError):  # the terminal may be gone
        print(f"Stopped by {signal.Signals(number).name}.", flush=True)
    return 128 + signal.SIGHUP if number == signal.SIGHUP else 0


class _Stopping(threading.Event):
    """An event set by the first SIGTERM, SIGINT or SIGHUP; a second one ends the process at once.

    Attributes:
      number: Number of the signal; None before one has come.
    """

    number: int | None = None

    def __init__(self) -> None:
        super().__init__()
        self._previous = {
            number: signal.signal(number, self._on_signal)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
            # SIGHUP stays ignored if `nohup` has ignored it.
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN
        }

    def restore(self) -> None:
        """Restores the previous signal handlers."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: object) -> None:
        for heeded in self._previous:
            signal.signal(heeded, signal.SIG_DFL)
        self.number = number
        self.set()


def _check(arguments: argparse.Namespace) -> None:
    base_path = arguments.model_base_path
    if not arguments.model_config_file:
        if not os.path.isabs(base_path):
            raise ValueError(
                "`--model_base_path` must be the absolute path of a folder with numbered versions. "
                f"Received: --model_base_path={base_path!r}."
            )
        require_no_pattern(base_path, "--model_base_path")
        if not arguments.model_name:
            raise ValueError("`--model_name` must not be empty. Received: --model_name=''.")
    check_limit_flags(arguments)
    for name in ("grpc_max_threads", "rest_api_num_threads"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise ValueError(f"`--{name}` must be positive. Received: --{name}={value}.")
    for name in (
        "model_config_file_poll_wait_seconds",
        "tensorflow_intra_op_parallelism",
    ):
        value = getattr(arguments, name)
        if value < 0:
            raise ValueError(f"`--{name}` must not be negative. Received: --{name}={value}.")
    check_request_log_flags(arguments)
    check_security(arguments)
    for name in ("port", "rest_api_port"):
        check_port(name, getattr(arguments, name), arguments.host)
    if arguments.batching_parameters_file and not arguments.enable_batching:
        raise ValueError(
            "`--batching_parameters_file` must come with --enable_batching. Received: "
            f"--batching_parameters_file={arguments.batching_parameters_file}."
        )
    for name in ("model_config_file", "monitoring_config_file", "batching_parameters_file"):
        if path := getattr(arguments, name):
            open_file(path).close()


def _load_server(arguments: argparse.Namespace, security: "TransportSecurity") -> "ModelServer":
    # TensorFlow reads these variables once, when it is imported. Its notices do not help the user.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    prefer_small_batches(arguments.tensorflow_intra_op_parallelism)
    sys.setswitchinterval(_SWITCH_S)
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"google\.api_core")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    _logger.info("Loading TensorFlow ...")
    from serving.model_server.errors import ServingError
    from serving.model_server.models.config_file import read_config_file
    from serving.model_server.models.model_config import ModelConfig
    from serving.model_server.server import ModelServer

    config_file = arguments.model_config_file
    log_options = request_log_options(arguments)
    try:
        models = (
            read_config_file(config_file)
            if config_file
            else [ModelConfig(arguments.model_name, arguments.model_base_path)]
        )
    except ServingError as error:
        raise ValueError(f"{config_file}: {error.message}") from error
    batching = _batching(arguments)
    num_threads = _num_threads(batching)
    return ModelServer(
        models,
        port=arguments.port,
        rest_api_port=arguments.rest_api_port or None,
        host=arguments.host,
        security=security,
        allows_reload=arguments.allow_reload,
        model_roots=arguments.model_roots,
        poll_wait_s=arguments.file_system_poll_wait_seconds,
        max_load_memory_mb=arguments.max_load_memory_mb,
        log_options=log_options,
        max_workers=arguments.grpc_max_threads or num_threads,
        max_rest_workers=arguments.rest_api_num_threads or num_threads,
        batching=batching,
        **limit_arguments(arguments),
        metrics_path=_metrics_path(arguments.monitoring_config_file),
        has_health_service=arguments.enable_grpc_healthcheck_service,
        allows_labels_for_unavailable=arguments.allow_version_labels_for_unavailable_models,
    )


def _batching(arguments: argparse.Namespace) -> "BatchingParameters | None":
    from serving.model_server.batching.parameters import (
        BatchingParameters,
        read_batching_parameters,
    )

    if not arguments.enable_batching:
        return None
    path = arguments.batching_parameters_file
    return read_batching_parameters(path) if path else BatchingParameters()


def _num_threads(batching: "BatchingParameters | None") -> int:
    """Returns the number of threads that answer requests, unless the user says it."""
    if batching is None:
        return _NUM_THREADS
    return max(_NUM_THREADS, min(2 * batching.most_rows, _MOST_BATCHING_THREADS))


def _serve(server: "ModelServer", arguments: argparse.Namespace, stopping: _Stopping) -> None:
    from serving.model_server.models.config_file import ConfigFileWatcher

    is_drained = True
    server.start()
    try:
        with contextlib.ExitStack() as stack:
            if arguments.model_config_file and arguments.model_config_file_poll_wait_seconds:
                watcher = ConfigFileWatcher(
                    arguments.model_config_file,
                    server.manager,
                    arguments.model_config_file_poll_wait_seconds,
                )
                watcher.start()
                stack.callback(watcher.stop)
            _wait(server, stopping)
    finally:
        has_served = any(server.manager.available_versions().values())
        # If no version is available, there is no request to wait for, only a load.
        is_drained = server.stop(arguments.drain_seconds if has_served else 0.0)
    if has_served and not is_drained:
        _logger.warning(
            "Requests were cut off after --drain_seconds=%s.", f"{arguments.drain_seconds:g}"
        )
    is_busy = not is_drained or server.manager.is_loading
    if is_busy and stopping.number in (signal.SIGTERM, signal.SIGHUP):
        # The threads of a request or a load would keep the process alive until they end, or run on
        # while it exits.
        os._exit(_status_after(stopping))


def _wait(server: "ModelServer", stopping: threading.Event) -> None:
    manager = server.manager
    while not stopping.is_set():
        if manager.failure is not None:
            raise ValueError(manager.failure.message)
        if manager.wait_until(lambda: manager.is_ready, _LOOK_S):
            models = ", ".join(
                f"{name} version {versions[0]}"
                for name, versions in sorted(manager.available_versions().items())
            )
            rest = f", REST on {server.rest_api_port}" if server.rest_api_port else ""
            print(f"Serving {models or 'no model'}: gRPC on {server.port}{rest}.", flush=True)
            stopping.wait()


def _metrics_path(config_file: str) -> str:
    from serving.model_server.counts.metrics import DEFAULT_PATH
    from serving.model_server.models.text_proto import new_monitoring_config, read_text_proto

    if not config_file:
        return DEFAULT_PATH
    config: Any = read_text_proto("monitoring_config_file", config_file, new_monitoring_config())
    if not config.prometheus_config.enable:
        return ""
    return config.prometheus_config.path or DEFAULT_PATH
