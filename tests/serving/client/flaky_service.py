"""A prediction service without a model that misbehaves on purpose."""

import contextlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from tagtower_client.tensor_proto import to_numpy, write_numpy


class FlakyService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Fails the first calls with a code, then answers; or answers late.

    Attributes:
      times: Arrival of each call, `time.monotonic()`.
      peers: Connection of each call.
      metadata: Metadata of each call.
      ended: Set when a call is over for gRPC, answered or not.
    """

    def __init__(self):
        self.num_failures = 0
        self.code = grpc.StatusCode.UNAVAILABLE
        self.times = []
        self.peers = []
        self.metadata = []
        self.ended = threading.Event()
        self.release = threading.Event()
        self.release.set()

    def Predict(self, request, context):  # noqa: N802
        self.times.append(time.monotonic())
        self.peers.append(context.peer())
        self.metadata.append(context.invocation_metadata())
        context.add_callback(self.ended.set)
        self.release.wait(30)
        if len(self.times) <= self.num_failures:
            context.abort(self.code, "not now")
        response = predict_pb2.PredictResponse()
        # A server without compact answers answers so.
        write_numpy(response.outputs["y"], to_numpy(request.inputs["x"]))
        response.model_spec.version.value = 7
        return response


@contextlib.contextmanager
def serve(
    service: FlakyService, credentials: grpc.ServerCredentials | None = None, port: int = 0
) -> Iterator[FlakyService]:
    """Runs a server of the service, at a free port or the given one; `service.target` says it."""
    server = grpc.server(ThreadPoolExecutor(2))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(service, server)
    service.port = (
        server.add_insecure_port(f"127.0.0.1:{port}")
        if credentials is None
        else server.add_secure_port(f"127.0.0.1:{port}", credentials)
    )
    service.target = f"127.0.0.1:{service.port}"
    server.start()
    try:
        yield service
    finally:
        service.release.set()
        server.stop(0).wait()
