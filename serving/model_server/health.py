"""The standard health service: the process answers, whatever its models do."""

from grpc_health.v1 import health, health_pb2

# Those of the real server. Whether a model can be asked is for GetModelStatus to say.
_SERVICES = ("", "ModelService", "PredictionService")


class HealthService(health.HealthServicer):
    """SERVING for the server and its two services, until it stops."""

    def __init__(self) -> None:
        super().__init__()
        for service in _SERVICES:
            self.set(service, health_pb2.HealthCheckResponse.SERVING)

    def stop(self) -> None:
        """Tells those who watch that the server goes, and ends their streams."""
        self.enter_graceful_shutdown()
        with self._lock:
            watchers = [send for sends in self._send_response_callbacks.values() for send in sends]
        for send in watchers:
            send(None)
