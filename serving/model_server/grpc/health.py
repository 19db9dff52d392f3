"""The standard gRPC health service: it reports on the process, not on its models.

It runs on the event loop, so that neither a check nor a watch stream needs a thread.
"""

import asyncio

import grpc
from grpc_health.v1 import health_pb2

from serving.model_server.errors import ServingError, not_found

# Services of TensorFlow Serving. GetModelStatus tells whether a model is available.
_SERVICES = ("", "ModelService", "PredictionService")
MAX_WATCHERS = 1000

_Response = health_pb2.HealthCheckResponse


class HealthService:
    """The health service: SERVING for the server and its two services until the server stops.

    Args:
      max_watchers: Maximum number of watch streams at a time.
    """

    def __init__(self, max_watchers: int = MAX_WATCHERS) -> None:
        self._max_watchers = max_watchers
        self._num_watchers = 0
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Reports NOT_SERVING to all watch streams and ends them; call it on the event loop."""
        self._stopping.set()

    def check(self, request: health_pb2.HealthCheckRequest) -> health_pb2.HealthCheckResponse:
        """Returns the state of a service.

        Raises:
          ServingError: NOT_FOUND if the service is unknown.
        """
        if request.service not in _SERVICES:
            raise not_found("")
        return _Response(status=self._status())

    async def watch(
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext
    ) -> None:
        """Writes the state of a service now and when it changes, until the server stops.

        Raises:
          ServingError: RESOURCE_EXHAUSTED if there are too many watch streams.
        """
        if self._num_watchers >= self._max_watchers:
            raise ServingError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"More than {self._max_watchers} callers watch the health.",
            )
        is_known = request.service in _SERVICES
        self._num_watchers += 1
        try:
            first = self._status() if is_known else _Response.SERVICE_UNKNOWN
            await context.write(_Response(status=first).SerializeToString())
            await self._stopping.wait()
            if is_known and first != _Response.NOT_SERVING:
                last = _Response(status=_Response.NOT_SERVING)
                await context.write(last.SerializeToString())
        finally:
            self._num_watchers -= 1

    def _status(self) -> int:
        return _Response.NOT_SERVING if self._stopping.is_set() else _Response.SERVING
