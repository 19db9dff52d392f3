"""The standard health service: the process answers, whatever its models do.

It runs on the event loop: a check waits for no thread, and whoever watches holds none.
"""

import asyncio

import grpc
from grpc_health.v1 import health_pb2

from serving.model_server.errors import ServingError, not_found

# Those of the real server. Whether a model can be asked is for GetModelStatus to say.
_SERVICES = ("", "ModelService", "PredictionService")
MAX_WATCHERS = 1000

_Response = health_pb2.HealthCheckResponse


class HealthService:
    """SERVING for the server and its two services, until it stops.

    Args:
      max_watchers: Watch streams at a time.
    """

    def __init__(self, max_watchers: int = MAX_WATCHERS) -> None:
        self._max_watchers = max_watchers
        self._num_watchers = 0
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Tells those who watch that the server goes, and ends their streams; on the event loop."""
        self._stopping.set()

    def check(self, request: health_pb2.HealthCheckRequest) -> health_pb2.HealthCheckResponse:
        """The state of a service.

        Raises:
          ServingError: NOT_FOUND.
        """
        if request.service not in _SERVICES:
            raise not_found("")
        return _Response(status=self._status())

    async def watch(
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext
    ) -> None:
        """Writes the state of a service, now and whenever it changes; returns when the server goes.

        Raises:
          ServingError: RESOURCE_EXHAUSTED if too many watch.
        """
        if self._num_watchers >= self._max_watchers:
            raise ServingError(
                grpc.StatusCode.RESOURCE_EXHAUSTED, f"More than {self._max_watchers} watch."
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
