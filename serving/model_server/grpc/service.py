"""TensorFlow Serving's two gRPC services, as functions from messages to answers."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_pb2,
    predict_pb2,
    regression_pb2,
)

from serving.model_server.batching.scheduler import BatchScheduler
from serving.model_server.callers.reload_guard import ReloadGuard
from serving.model_server.counts.answered_by import AnsweredBy
from serving.model_server.counts.metrics import Metrics
from serving.model_server.errors import ServingError, invalid_argument, unimplemented
from serving.model_server.grpc.message_cost import predict_request_cost, worst_cost
from serving.model_server.models.manager import ModelManager
from serving.model_server.models.model_config import read_model_configs
from serving.model_server.models.model_info import model_metadata, model_status
from serving.model_server.session.inference import Inference
from serving.model_server.session.predict import Run, existing_signature, predict
from serving.model_server.session.request_limits import RequestLimits
from serving.model_server.session.servable import Servable
from tagtower_client.tensor_proto import COMPACT_ANSWER, write_compact, write_numpy

PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"


class Call:
    """A gRPC call, as a method sees it beside the message.

    Attributes:
      metadata: Metadata of the call, pairs of key and value.
      is_active: Whether the caller still waits for the answer.
      answer_metadata: Metadata of the answer, sent after it.
      on_answered: Function that gets the bytes of the message and of its answer; None: nobody
        wants them.
    """

    def __init__(self, metadata: Sequence[tuple[str, str | bytes]]):
        self.metadata = metadata
        self.is_active = True
        self.answer_metadata: Sequence[tuple[str, str]] = ()
        self.on_answered: Callable[[bytes, bytes], None] | None = None


@dataclasses.dataclass(frozen=True)
class Method:
    """A gRPC method with one message and one answer.

    Attributes:
      request_type: Class of the method's message.
      answer: Function that returns the answer to a message; it may raise a `ServingError`.
      is_slow: Whether the method takes minutes, so that it has its own threads.
      max_bytes: Maximum size of the method's message, in addition to the limit of all messages.
      cost: Function that computes the memory that a message takes, from its bytes.
    """

    request_type: Any
    answer: Callable[[Any, Call], Any]
    is_slow: bool = False
    max_bytes: int = 1 << 20
    cost: Callable[[bytes], int] = worst_cost


def service_methods(
    manager: ModelManager,
    metrics: Metrics,
    limits: RequestLimits,
    guard: ReloadGuard,
    batching: BatchScheduler | None = None,
) -> dict[str, Method]:
    """Returns the methods of both services.

    Args:
      manager: Manager of the models.
      metrics: Counts of requests.
      limits: Limits on the cost of a Predict request.
      guard: Guard that checks reloads.
      batching: Scheduler that joins requests; None: each is computed by itself.

    Returns:
      Methods by full name, such as `/tensorflow.serving.ModelService/GetModelStatus`.
    """
    prediction = _PredictionService(manager, metrics, limits, batching)
    model = _ModelService(manager, guard)
    services: Mapping[str, Mapping[str, Method]] = {
        PREDICTION_SERVICE: {
            "Predict": Method(
                predict_pb2.PredictRequest,
                prediction.predict,
                max_bytes=2**31 - 1,
                cost=predict_request_cost,
            ),
            "GetModelMetadata": Method(
                get_model_metadata_pb2.GetModelMetadataRequest, prediction.metadata
            ),
            "Classify": Method(classification_pb2.ClassificationRequest, prediction.classify),
            "Regress": Method(regression_pb2.RegressionRequest, prediction.regress),
            "MultiInference": Method(inference_pb2.MultiInferenceRequest, prediction.infer),
        },
        MODEL_SERVICE: {
            "GetModelStatus": Method(get_model_status_pb2.GetModelStatusRequest, model.status),
            "HandleReloadConfigRequest": Method(
                model_management_pb2.ReloadConfigRequest, model.reload, is_slow=True
            ),
        },
    }
    return {
        f"/{service}/{name}": method
        for service, methods in services.items()
        for name, method in methods.items()
    }


class _PredictionService:
    """Answers Predict, GetModelMetadata, and the calls that take tf.Example."""

    def __init__(
        self,
        manager: ModelManager,
        metrics: Metrics,
        limits: RequestLimits,
        batching: BatchScheduler | None,
    ):
        self._manager = manager
        self._metrics = metrics
        self._limits = limits
        self._batching = batching

    def predict(self, request: predict_pb2.PredictRequest, call: Call) -> Any:
        """Runs a signature on the request's tensors."""
        start = time.perf_counter()
        spec = request.model_spec
        is_compact = COMPACT_ANSWER in call.metadata
        write = write_compact if is_compact else write_numpy
        by = AnsweredBy(spec.name, spec.version_label)
        try:
            if not request.HasField("model_spec"):
                raise invalid_argument("Missing ModelSpec")
            with self._manager.acquire(spec) as lease:
                by.version = str(lease.version)
                by.signature = existing_signature(lease.servable, spec.signature_name)
                run = self._runner(lease.servable, spec.name, call)
                response = predict(lease.servable, lease.version, request, write, self._limits, run)
        except ServingError as error:
            self._metrics.count_error(spec.name, error.code.name)
            self._metrics.count_answered_by(by, "GRPC", error.code.name)
            raise
        seconds = time.perf_counter() - start
        self._metrics.count_answer(spec.name, "Predict", "GRPC", seconds)
        self._metrics.count_answered_by(by, "GRPC", "OK", seconds)
        call.answer_metadata = by.pairs()
        call.on_answered = self._logging(response.model_spec)
        return response

    def _logging(self, spec: model_pb2.ModelSpec) -> Callable[[bytes, bytes], None] | None:
        """Returns a function that logs an answered request; None: it is not logged."""
        log = self._manager.request_log(spec.name)
        if log is None or not log.is_sampled():
            return None
        answered = model_pb2.ModelSpec()  # a copy, as a part keeps the whole answer in memory
        answered.CopyFrom(spec)
        return lambda request, response: log.add(
            answered, lambda: (request, response), len(request) + len(response)
        )

    def classify(self, request: Any, call: Call) -> Any:
        """Runs a signature that classifies on the request's examples."""
        return self._infer("Classify", request, request, call, Inference.classify)

    def regress(self, request: Any, call: Call) -> Any:
        """Runs a signature that regresses on the request's examples."""
        return self._infer("Regress", request, request, call, Inference.regress)

    def infer(self, request: Any, call: Call) -> Any:
        """Runs several signatures on the request's examples."""
        first = inference_pb2.InferenceTask(model_spec={})
        if request.tasks and request.tasks[0].HasField("model_spec"):
            first = request.tasks[0]
        return self._infer("MultiInference", request, first, call, Inference.infer)

    def _infer(
        self,
        api: str,
        request: Any,
        named: Any,
        call: Call,
        answer: Callable[[Inference, Any], Any],
    ) -> Any:
        """Answers a request for examples with the version that `named.model_spec` names."""
        start = time.perf_counter()
        spec = named.model_spec
        by = AnsweredBy(spec.name, spec.version_label)
        try:
            if not named.HasField("model_spec"):
                raise invalid_argument("Missing ModelSpec")
            with self._manager.acquire(spec) as lease:
                by.version = str(lease.version)
                by.signature = existing_signature(lease.servable, spec.signature_name)
                run = self._runner(lease.servable, spec.name, call)
                inference = Inference(lease.servable, lease.version, self._limits, run)
                response = answer(inference, request)
        except ServingError as error:
            self._metrics.count_error(spec.name, error.code.name)
            self._metrics.count_answered_by(by, "GRPC", error.code.name)
            raise
        seconds = time.perf_counter() - start
        self._metrics.count_answer(spec.name, api, "GRPC", seconds)
        self._metrics.count_answered_by(by, "GRPC", "OK", seconds)
        call.answer_metadata = by.pairs()
        return response

    def _runner(self, servable: Servable, model_name: str, call: Call) -> Run | None:
        if self._batching is None:
            return None
        return self._batching.runner(servable, model_name, lambda: call.is_active)

    def metadata(self, request: Any, call: Call) -> Any:
        """Returns the signatures of a model."""
        return model_metadata(self._manager, request)


class _ModelService:
    """Answers GetModelStatus and HandleReloadConfigRequest, which changes the served models."""

    def __init__(self, manager: ModelManager, guard: ReloadGuard):
        self._manager = manager
        self._guard = guard

    def status(self, request: Any, call: Call) -> Any:
        """Returns the states of a model's versions."""
        return model_status(self._manager, request)

    def reload(self, request: Any, call: Call) -> Any:
        """Replaces the configuration; answers when its new models are available."""
        self._guard.check_allowed()
        if request.metric_names:
            raise unimplemented(
                "`metric_names` must be left out, as this local model server does not report "
                f"metrics here. Received: {', '.join(request.metric_names)}."
            )
        configs = read_model_configs(request.config)
        self._guard.check(configs)
        self._manager.reload(configs, lambda: call.is_active)
        response = model_management_pb2.ReloadConfigResponse()
        response.status.SetInParent()
        return response
