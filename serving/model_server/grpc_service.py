"""TensorFlow Serving's two gRPC services over a model manager."""

import contextlib
import time
from collections.abc import Iterator
from typing import NoReturn

import grpc
from tensorflow_serving.apis import (
    model_management_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)

from serving.model_server.errors import ServingError, invalid_argument, unimplemented
from serving.model_server.manager import ModelManager
from serving.model_server.metrics import Metrics
from serving.model_server.model_config import read_model_configs
from serving.model_server.model_info import model_metadata, model_status
from serving.model_server.predict import predict
from serving.model_server.reload_guard import ReloadGuard
from serving.serving_api import COMPACT_ANSWER
from serving.tensor_proto import write_compact, write_numpy

_MAX_MESSAGE_BYTES = 1024


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict and GetModelMetadata; the calls that take tf.Example are not implemented.

    Args:
      manager: The models.
      metrics: Where requests are counted.
    """

    def __init__(self, manager: ModelManager, metrics: Metrics):
        self._manager = manager
        self._metrics = metrics

    def Predict(self, request, context):  # noqa: N802
        """Runs a signature on the request's tensors."""
        start = time.perf_counter()
        spec = request.model_spec
        is_compact = COMPACT_ANSWER in context.invocation_metadata()
        write = write_compact if is_compact else write_numpy
        try:
            if not request.HasField("model_spec"):
                raise invalid_argument("Missing ModelSpec")
            with self._manager.acquire(spec) as lease:
                response = predict(lease.servable, lease.version, request, write)
        except ServingError as error:
            self._metrics.count_error(spec.name, error.code.name)
            _abort(context, error)
        self._metrics.count_answer(spec.name, "Predict", "GRPC", time.perf_counter() - start)
        log = self._manager.request_log(spec.name)
        if log is not None and log.is_sampled():
            log.add(request, response)
        return response

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
    """GetModelStatus, and HandleReloadConfigRequest, which changes what is served.

    Args:
      manager: The models.
      guard: What a reload may do.
    """

    def __init__(self, manager: ModelManager, guard: ReloadGuard):
        self._manager = manager
        self._guard = guard

    def GetModelStatus(self, request, context):  # noqa: N802
        """Says in which state the versions of a model are."""
        with _errors_to(context):
            return model_status(self._manager, request)

    def HandleReloadConfigRequest(self, request, context):  # noqa: N802
        """Replaces the configuration; answers when its new models can be asked."""
        with _errors_to(context):
            self._guard.check_allowed()
            if request.metric_names:
                raise unimplemented(
                    "`metric_names` must be left out, as this local model server does not report "
                    f"metrics here. Received: {', '.join(request.metric_names)}."
                )
            configs = read_model_configs(request.config)
            self._guard.check(configs)
            self._manager.reload(configs, context.is_active)
        response = model_management_pb2.ReloadConfigResponse()
        response.status.SetInParent()
        return response


def _not_here(call: str) -> ServingError:
    return unimplemented(f"{call} is not implemented by this local model server.")


@contextlib.contextmanager
def _errors_to(context: grpc.ServicerContext) -> Iterator[None]:
    """Ends the call with a serving error's code and message."""
    try:
        yield
    except ServingError as error:
        _abort(context, error)


def _abort(context: grpc.ServicerContext, error: ServingError) -> NoReturn:
    message = error.message.encode("utf-8", "replace")
    if len(message) > _MAX_MESSAGE_BYTES:  # messages travel in a header, whose size is limited
        message = message[:_MAX_MESSAGE_BYTES] + b"...TRUNCATED"
    context.abort(error.code, message.decode("utf-8", "replace"))
    raise AssertionError("`abort` does not return.")
