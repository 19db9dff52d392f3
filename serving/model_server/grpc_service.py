"""TensorFlow Serving's two gRPC services over a model manager."""

import contextlib
from collections.abc import Iterator

import grpc
from tensorflow_serving.apis import (
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)

from serving.model_server.errors import ServingError, invalid_argument, unimplemented
from serving.model_server.manager import ModelManager
from serving.model_server.model_info import model_metadata, model_status
from serving.model_server.predict import predict

_MAX_MESSAGE_LENGTH = 1024


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict and GetModelMetadata; the calls that take tf.Example are not implemented yet."""

    def __init__(self, manager: ModelManager):
        self._manager = manager

    def Predict(self, request, context):  # noqa: N802
        """Runs a signature on the request's tensors."""
        with _errors_to(context):
            if not request.HasField("model_spec"):
                raise invalid_argument("Missing ModelSpec")
            with self._manager.acquire(request.model_spec) as lease:
                return predict(lease.servable, lease.version, request)

    def GetModelMetadata(self, request, context):  # noqa: N802
        """Says which signatures a model has."""
        with _errors_to(context):
            return model_metadata(self._manager, request)

    def Classify(self, request, context):  # noqa: N802
        """Not implemented."""
        with _errors_to(context):
            raise _not_here("Classify")

    def Regress(self, request, context):  # noqa: N802
        """Not implemented."""
        with _errors_to(context):
            raise _not_here("Regress")

    def MultiInference(self, request, context):  # noqa: N802
        """Not implemented."""
        with _errors_to(context):
            raise _not_here("MultiInference")


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """GetModelStatus; changing what is served while serving is not implemented yet."""

    def __init__(self, manager: ModelManager):
        self._manager = manager

    def GetModelStatus(self, request, context):  # noqa: N802
        """Says in which state the versions of a model are."""
        with _errors_to(context):
            return model_status(self._manager, request)

    def HandleReloadConfigRequest(self, request, context):  # noqa: N802
        """Not implemented."""
        with _errors_to(context):
            raise _not_here("HandleReloadConfigRequest")


def _not_here(call: str) -> ServingError:
    return unimplemented(f"{call} is not implemented by this local model server.")


@contextlib.contextmanager
def _errors_to(context: grpc.ServicerContext) -> Iterator[None]:
    """Ends the call with a serving error's code and message."""
    try:
        yield
    except ServingError as error:
        message = error.message
        if len(message) > _MAX_MESSAGE_LENGTH:  # messages travel in a header, whose size is limited
            message = message[:_MAX_MESSAGE_LENGTH] + "...TRUNCATED"
        context.abort(error.code, message)
