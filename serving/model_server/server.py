"""The model server: a model manager behind a gRPC port and a REST port."""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import grpc
from tensorflow_serving.apis import (
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)

from serving.model_server.grpc_service import ModelService, PredictionService
from serving.model_server.manager import ModelManager
from serving.model_server.rest_api import RestApi
from serving.model_server.rest_server import RestServer
from serving.model_server.served_model import ModelConfig

_logger = logging.getLogger("tagtower.model_server")

_MAX_MESSAGE_BYTES = 2**31 - 1
_OPTIONS = [
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
    # Otherwise a second server on the same port starts without a word, and each gets half the
    # requests.
    ("grpc.so_reuseport", 0),
]


class ModelServer:
    """Serves models over gRPC and REST; also a context manager that starts and stops.

    Both ports are open from `start` on: a model whose first version is still loading is NOT_FOUND,
    and its state can be asked for.

    Args:
      models: The models.
      port: For gRPC; 0: one the operating system chooses.
      rest_api_port: For REST; 0: one the operating system chooses; None: no REST.
      host: Address to listen on.
      poll_wait_s: Seconds between two looks for new versions; 0: look once.
      max_workers: Requests answered at a time by each of gRPC and REST.

    Attributes:
      manager: The models and their states.

    Raises:
      ValueError: If an argument is out of its range.
    """

    def __init__(
        self,
        models: Sequence[ModelConfig],
        *,
        port: int = 0,
        rest_api_port: int | None = None,
        host: str = "0.0.0.0",
        poll_wait_s: float = 1.0,
        max_workers: int = 16,
    ):
        for name, value in (("port", port), ("rest_api_port", rest_api_port)):
            if value is not None and not 0 <= value <= 65535:
                raise ValueError(f"`{name}` must be between 0 and 65535. Received: {name}={value}.")
        self.manager = ModelManager(models, poll_wait_s)
        self._host = host
        self._port = port
        self._rest_api_port = rest_api_port
        self._max_workers = max_workers
        self._grpc_server: grpc.Server | None = None
        self._rest_server: RestServer | None = None

    @property
    def port(self) -> int:
        """The gRPC port; after `start` the one chosen, if it was 0."""
        return self._port

    @property
    def rest_api_port(self) -> int | None:
        """The REST port; after `start` the one chosen, if it was 0; None: no REST."""
        return self._rest_api_port

    def start(self) -> None:
        """Opens the ports and starts to load; returns at once.

        Raises:
          ValueError: If a port is taken.
        """
        grpc_server = grpc.server(
            ThreadPoolExecutor(self._max_workers, thread_name_prefix="grpc"), options=_OPTIONS
        )
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            PredictionService(self.manager), grpc_server
        )
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(
            ModelService(self.manager), grpc_server
        )
        try:
            self._port = grpc_server.add_insecure_port(f"{self._host}:{self._port}")
        except RuntimeError as error:
            raise _port_taken("port", self._port) from error
        if self._rest_api_port is not None:
            try:
                self._rest_server = RestServer(
                    RestApi(self.manager), self._host, self._rest_api_port, self._max_workers
                )
            except OSError as error:
                grpc_server.stop(0)
                raise _port_taken("rest_api_port", self._rest_api_port) from error
            self._rest_api_port = self._rest_server.port
            self._rest_server.start()
        self._grpc_server = grpc_server
        grpc_server.start()
        self.manager.start()

    def wait_until_available(self, timeout_s: float = 60.0) -> dict[str, int]:
        """Waits until every model has a version that serves.

        Args:
          timeout_s: Seconds to wait at most.

        Returns:
          Model name -> its highest available version.

        Raises:
          TimeoutError: If one has none by then; the text says why.
        """
        return self.manager.wait_until_available(timeout_s)

    def stop(self, grace_s: float = 5.0) -> None:
        """Takes no more requests, lets those under way finish, closes the ports and unloads all.

        Stopping twice does no harm; a stopped server does not start again.

        Args:
          grace_s: Seconds the requests under way have; then they are cut off.
        """
        grpc_server, self._grpc_server = self._grpc_server, None
        rest_server, self._rest_server = self._rest_server, None
        drained = grpc_server.stop(grace_s) if grpc_server else None
        if rest_server:
            rest_server.stop(grace_s)
        if drained:
            drained.wait()
        self.manager.stop()

    def __enter__(self) -> "ModelServer":
        self.start()
        return self

    def __exit__(self, *exception) -> None:
        self.stop()


def _port_taken(name: str, port: int) -> ValueError:
    return ValueError(
        f"`{name}` must be a free port of this machine; something listens on it already, or it is "
        f"reserved. Received: {name}={port}."
    )
