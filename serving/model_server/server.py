"""The model server: a model manager behind a gRPC port and a REST port."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import grpc
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from tensorflow_serving.apis import (
    model_service_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2,
    prediction_service_pb2_grpc,
)

from serving.model_server.grpc_service import ModelService, PredictionService
from serving.model_server.health import HealthService
from serving.model_server.load_memory import LoadMemory
from serving.model_server.malformed_requests import MalformedRequestInterceptor
from serving.model_server.manager import ModelManager
from serving.model_server.metrics import DEFAULT_PATH, Metrics
from serving.model_server.model_config import ModelConfig
from serving.model_server.ports import check_range, port_taken
from serving.model_server.rest_api import RestApi
from serving.model_server.rest_server import RestServer

MAX_MESSAGE_BYTES = 2**31 - 1
MAX_REQUESTS = 1000
NUM_THREADS = 16
# A load that is under way when the server stops gives up at its next step.
_LOAD_GRACE_S = 5.0


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
      max_workers: Requests answered at a time over gRPC.
      max_rest_workers: Requests answered at a time over REST; None: as over gRPC.
      max_requests: Requests under way or waiting, for each of gRPC and REST; more are refused.
      max_message_bytes: Size of a request, over gRPC also of an answer; larger ones are refused.
      metrics_path: Where Prometheus reads the counts, on the REST port; empty: nowhere.
      has_health_service: Whether it has the standard gRPC health service.
      allows_labels_for_unavailable: Whether a new label may name a version that is not available.
      max_load_memory_mb: Megabytes that loading a version may take by estimate; None: what is
        available at the time; 0: any.

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
        max_workers: int = NUM_THREADS,
        max_rest_workers: int | None = None,
        max_requests: int = MAX_REQUESTS,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        metrics_path: str = DEFAULT_PATH,
        has_health_service: bool = True,
        allows_labels_for_unavailable: bool = False,
        max_load_memory_mb: float | None = None,
    ):
        for name, value in (("port", port), ("rest_api_port", rest_api_port)):
            if value is not None:
                check_range(name, value)
        if not 0 < max_message_bytes <= MAX_MESSAGE_BYTES:
            raise ValueError(
                f"`max_message_bytes` must be between 1 and {MAX_MESSAGE_BYTES}. Received: "
                f"max_message_bytes={max_message_bytes}."
            )
        metrics = Metrics()
        self.manager = ModelManager(
            models,
            poll_wait_s,
            metrics=metrics,
            allows_labels_for_unavailable=allows_labels_for_unavailable,
            memory=LoadMemory(max_load_memory_mb),
        )
        self._prediction_service = PredictionService(self.manager, metrics)
        self._rest_api = RestApi(self.manager, metrics, metrics_path)
        self._health_service = HealthService() if has_health_service else None
        self._host = host
        self._port = port
        self._rest_api_port = rest_api_port
        self._max_workers = max_workers
        self._max_rest_workers = max_rest_workers or max_workers
        self._max_requests = max_requests
        self._max_message_bytes = max_message_bytes
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
        grpc_server = self._new_grpc_server()
        try:
            self._port = grpc_server.add_insecure_port(f"{self._host}:{self._port}")
        except RuntimeError as error:
            raise port_taken("port", self._port) from error
        if self._rest_api_port is not None:
            try:
                self._rest_server = RestServer(
                    self._rest_api,
                    self._host,
                    self._rest_api_port,
                    max_workers=self._max_rest_workers,
                    max_requests=self._max_requests,
                    max_body_bytes=self._max_message_bytes,
                )
            except OSError as error:
                grpc_server.stop(0)
                raise port_taken("rest_api_port", self._rest_api_port) from error
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
          ServingError: If the configuration cannot be served.
          TimeoutError: If a model has no version by then; the text says why.
        """
        return self.manager.wait_until_available(timeout_s)

    def stop(self, grace_s: float = 5.0) -> bool:
        """Takes no more requests, lets those under way finish, closes the ports and unloads all.

        Stopping twice does no harm; a stopped server does not start again.

        Args:
          grace_s: Seconds the requests under way have; then they are cut off.

        Returns:
          Whether all requests under way were answered.
        """
        grpc_server, self._grpc_server = self._grpc_server, None
        rest_server, self._rest_server = self._rest_server, None
        if self._health_service:
            self._health_service.stop()
        stopped = grpc_server.stop(grace_s) if grpc_server else None
        is_drained = rest_server.stop(grace_s) if rest_server else True
        if stopped:
            stopped.wait()
        self.manager.stop(min(grace_s, _LOAD_GRACE_S))
        return is_drained and not self.manager.has_requests

    def _new_grpc_server(self) -> grpc.Server:
        server = grpc.server(
            ThreadPoolExecutor(self._max_workers, thread_name_prefix="grpc"),
            interceptors=[MalformedRequestInterceptor()],
            maximum_concurrent_rpcs=self._max_requests,
            options=[
                ("grpc.max_receive_message_length", self._max_message_bytes),
                ("grpc.max_send_message_length", self._max_message_bytes),
                # Otherwise a second server on the same port starts without a word, and each gets
                # half the requests.
                ("grpc.so_reuseport", 0),
            ],
        )
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            self._prediction_service, server
        )
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(
            ModelService(self.manager), server
        )
        services = [
            prediction_service_pb2.DESCRIPTOR.services_by_name["PredictionService"].full_name,
            model_service_pb2.DESCRIPTOR.services_by_name["ModelService"].full_name,
            reflection.SERVICE_NAME,
        ]
        if self._health_service:
            health_pb2_grpc.add_HealthServicer_to_server(self._health_service, server)
            services.append(health.SERVICE_NAME)
        reflection.enable_server_reflection(services, server)
        return server

    def __enter__(self) -> "ModelServer":
        self.start()
        return self

    def __exit__(self, *exception) -> None:
        self.stop()
