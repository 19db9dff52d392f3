"""The model server: a model manager behind a gRPC port and a REST port."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from serving.model_server.batching.parameters import BatchingParameters
from serving.model_server.batching.scheduler import BatchScheduler
from serving.model_server.callers.reload_guard import ReloadGuard
from serving.model_server.callers.transport_security import TransportSecurity
from serving.model_server.counts.metrics import DEFAULT_PATH, Metrics
from serving.model_server.grpc.server import GrpcLimits, GrpcServer
from serving.model_server.grpc.service import service_methods
from serving.model_server.models.load_memory import LoadMemory
from serving.model_server.models.manager import ModelManager
from serving.model_server.models.model_config import ModelConfig
from serving.model_server.ports import (
    DEFAULT_HOST,
    check_range,
    numeric_address,
    port_taken,
)
from serving.model_server.rest.api import RestApi
from serving.model_server.rest.server import RestServer
from serving.model_server.session.log_options import RequestLogOptions
from serving.model_server.session.request_limits import MAX_BATCH_SIZE, RequestLimits

# Largest size of a message that gRPC supports.
_MOST_MESSAGE_BYTES = 2**31 - 1
MAX_MESSAGE_BYTES = 32 << 20
MAX_REQUEST_MEMORY_MB = 512
MAX_REQUESTS = 1000
NUM_THREADS = 16
READ_TIMEOUT_S = 20.0
# Seconds that a running load has when the server stops; it gives up at its next step.
_LOAD_GRACE_S = 5.0


class ModelServer:
    """A server of models over gRPC and REST; also a context manager that starts and stops it.

    Both ports are open from `start` on: requests for a model whose first version is still loading
    get NOT_FOUND, and callers can ask for the model's state.

    Args:
      models: Configurations of the models.
      port: gRPC port; 0: the operating system chooses one.
      rest_api_port: REST port; 0: the operating system chooses one; None: no REST.
      host: Address to listen on; `0.0.0.0` and `::` mean all addresses.
      poll_wait_s: Seconds between two checks for new versions; 0: a single check.
      max_workers: Number of gRPC requests answered at a time.
      max_rest_workers: Number of REST requests answered at a time; None: as for gRPC.
      max_requests: Maximum number of requests that run or wait, for each of gRPC and REST; further
        ones are refused.
      max_message_bytes: Maximum size of an uncompressed request; larger ones are refused.
      max_request_memory_mb: Memory for running requests, for each of gRPC and REST.
      max_batch_size: Maximum number of examples of a request; larger requests are refused.
      request_read_timeout_s: Seconds within which the message of a gRPC call must arrive.
      metrics_path: Path on the REST port where Prometheus reads the counts; empty: no path.
      has_health_service: Whether the server has the standard gRPC health service.
      has_reflection: Whether gRPC callers can ask for the list of methods.
      channel_arguments: Options of the gRPC library, such as `grpc.max_connection_age_ms`.
      allows_labels_for_unavailable: Whether a new label may name a version that is not available.
      security: Certificates and tokens of callers; None: every caller is allowed.
      allows_reload: Whether HandleReloadConfigRequest is answered.
      model_roots: Folders below which a reload may load models; empty: the base paths of `models`.
      max_load_memory_mb: Estimated megabytes that a load may take; None: the memory that is
        available at that time; 0: no limit.
      log_options: Size and age of the request logs' files, and what becomes of user ids; None: the
        defaults.
      batching: How requests are joined into batches; None: they are not.

    Attributes:
      manager: Manager of the models and their states.

    Raises:
      ValueError: If an argument is out of its range.
    """

    def __init__(
        self,
        models: Sequence[ModelConfig],
        *,
        port: int = 0,
        rest_api_port: int | None = None,
        host: str = DEFAULT_HOST,
        poll_wait_s: float = 1.0,
        max_workers: int = NUM_THREADS,
        max_rest_workers: int | None = None,
        max_requests: int = MAX_REQUESTS,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        max_request_memory_mb: int = MAX_REQUEST_MEMORY_MB,
        max_batch_size: int = MAX_BATCH_SIZE,
        request_read_timeout_s: float = READ_TIMEOUT_S,
        metrics_path: str = DEFAULT_PATH,
        has_health_service: bool = True,
        has_reflection: bool = False,
        channel_arguments: Sequence[tuple[str, int | str]] = (),
        allows_labels_for_unavailable: bool = False,
        security: TransportSecurity | None = None,
        allows_reload: bool = False,
        model_roots: Sequence[str] = (),
        max_load_memory_mb: float | None = None,
        log_options: RequestLogOptions | None = None,
        batching: BatchingParameters | None = None,
    ):
        _check_ports(port, rest_api_port)
        _check_sizes(max_message_bytes, max_request_memory_mb)
        metrics = Metrics()
        self.manager = ModelManager(
            models,
            poll_wait_s,
            metrics=metrics,
            allows_labels_for_unavailable=allows_labels_for_unavailable,
            memory=LoadMemory(max_load_memory_mb),
            log_options=log_options,
        )
        limits = RequestLimits(max_batch_size)
        guard = ReloadGuard(allows_reload, model_roots, models)
        self._batching = BatchScheduler(batching, metrics) if batching else None
        self._methods = service_methods(self.manager, metrics, limits, guard, self._batching)
        self._rest_api = RestApi(self.manager, metrics, metrics_path, limits, self._batching)
        self._host = numeric_address(host)
        self._security = security or TransportSecurity()
        self._port = port
        self._rest_api_port = rest_api_port
        self._grpc_limits = GrpcLimits(
            max_workers=max_workers,
            max_requests=max_requests,
            max_message_bytes=max_message_bytes,
            max_memory_bytes=max_request_memory_mb << 20,
            read_timeout_s=request_read_timeout_s,
        )
        self._has_health_service = has_health_service
        self._has_reflection = has_reflection
        self._channel_arguments = channel_arguments
        self._max_rest_workers = max_rest_workers or max_workers
        self._grpc_server: GrpcServer | None = None
        self._rest_server: RestServer | None = None

    @property
    def port(self) -> int:
        """Returns the gRPC port; after `start` the chosen port, if it was 0."""
        return self._port

    @property
    def rest_api_port(self) -> int | None:
        """Returns the REST port; after `start` the chosen port, if it was 0; None: no REST."""
        return self._rest_api_port

    def start(self) -> None:
        """Opens the ports and starts to load the models; returns at once.

        Raises:
          ValueError: If a port is taken.
        """
        try:
            grpc_server = self._new_grpc_server()
        except RuntimeError as error:
            raise port_taken("port", self._port) from error
        self._port = grpc_server.port
        if self._rest_api_port is not None:
            try:
                self._rest_server = RestServer(
                    self._rest_api,
                    self._host,
                    self._rest_api_port,
                    max_workers=self._max_rest_workers,
                    max_requests=self._grpc_limits.max_requests,
                    max_body_bytes=self._grpc_limits.max_message_bytes,
                    max_memory_bytes=self._grpc_limits.max_memory_bytes,
                    security=self._security,
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
        """Waits until every model has an available version.

        Args:
          timeout_s: Maximum number of seconds to wait.

        Returns:
          Highest available version of each model, by model name.

        Raises:
          ServingError: If the configuration cannot be served.
          TimeoutError: If a model has no available version in time; the text says why.
        """
        return self.manager.wait_until_available(timeout_s)

    def stop(self, grace_s: float = 5.0) -> bool:
        """Refuses new requests, waits for running ones, closes the ports and unloads all models.

        A second call does nothing; a stopped server cannot be started again.

        Args:
          grace_s: Seconds that running requests have; then they are cut off.

        Returns:
          Whether all running requests were answered.
        """
        grpc_server, self._grpc_server = self._grpc_server, None
        rest_server, self._rest_server = self._rest_server, None
        if self._batching:
            self._batching.close()
        with ThreadPoolExecutor(2) as stopping:  # both servers at once, within one grace period
            stops = [
                stopping.submit(server.stop, grace_s)
                for server in (grpc_server, rest_server)
                if server
            ]
            is_drained = all([stop.result() for stop in stops])
        self.manager.stop(min(grace_s, _LOAD_GRACE_S))
        return is_drained and not self.manager.has_requests

    def _new_grpc_server(self) -> GrpcServer:
        return GrpcServer(
            self._methods,
            (self._host, self._port),
            self._grpc_limits,
            has_health_service=self._has_health_service,
            has_reflection=self._has_reflection,
            channel_arguments=self._channel_arguments,
            credentials=self._security.grpc_credentials(),
            authorize=self._security.authorize,
        )

    def __enter__(self) -> "ModelServer":
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()


def _check_ports(port: int, rest_api_port: int | None) -> None:
    for name, value in (("port", port), ("rest_api_port", rest_api_port)):
        if value is not None:
            check_range(name, value)


def _check_sizes(max_message_bytes: int, max_request_memory_mb: int) -> None:
    if not 0 < max_message_bytes <= _MOST_MESSAGE_BYTES:
        raise ValueError(
            f"`max_message_bytes` must be between 1 and {_MOST_MESSAGE_BYTES}. Received: "
            f"max_message_bytes={max_message_bytes}."
        )
    if max_request_memory_mb << 20 < max_message_bytes:
        raise ValueError(
            "`max_request_memory_mb` must hold a request of "
            f"max_message_bytes={max_message_bytes}. Received: "
            f"max_request_memory_mb={max_request_memory_mb}."
        )
