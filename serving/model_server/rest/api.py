"""TensorFlow Serving's REST interface as a function from request to answer, without sockets."""

import dataclasses
import functools
import json
import re
import time
from collections.abc import Mapping
from urllib.parse import unquote

import grpc
import numpy as np
from google.protobuf import json_format, message
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    predict_pb2,
    regression_pb2,
)

from serving.model_server.batching.scheduler import BatchScheduler
from serving.model_server.counts.answered_by import AnsweredBy
from serving.model_server.counts.metrics import Metrics
from serving.model_server.errors import ServingError, invalid_argument
from serving.model_server.models.manager import ModelManager
from serving.model_server.models.model_info import model_metadata, model_status
from serving.model_server.rest.json_examples import (
    classifications_text,
    read_examples,
    regressions_text,
)
from serving.model_server.rest.json_tensor import parse_body, read_inputs, signature_name
from serving.model_server.rest.json_text import columns_text, error_text, rows_text
from serving.model_server.session.inference import Inference
from serving.model_server.session.predict import (
    DEFAULT_SIGNATURE,
    Run,
    existing_signature,
    run_signature,
)
from serving.model_server.session.request_limits import RequestLimits
from serving.model_server.session.servable import Servable
from tagtower_client.tensor_proto import write_numpy

_VERSION_OR_LABEL = r"(?:(?:/versions/(?P<version>\d+))|(?:/labels/(?P<label>[^/:]+)))?"
_PREDICTION = re.compile(
    rf"/v1/models/(?P<name>[^/:]+){_VERSION_OR_LABEL}:(?P<verb>classify|regress|predict)",
    re.IGNORECASE | re.ASCII,
)
_INFORMATION = re.compile(
    rf"/v1/models(?:/(?P<name>[^/:]+))?{_VERSION_OR_LABEL}(?:/(?P<part>metadata))?",
    re.IGNORECASE | re.ASCII,
)
_ANY = re.compile(r"/v1/.*", re.IGNORECASE | re.DOTALL)
_WEB_ORIGIN = re.compile(r"https?://")
_NOT_FOUND = (
    "<HTML><HEAD>\n<TITLE>404 Not Found</TITLE>\n"
    "</HEAD><BODY>\n<H1>Not Found</H1>\n</BODY></HTML>\n"
)
_LARGEST_VERSION = 2**63 - 1
_STRING_BYTES = 48  # of a short string of bytes in Python, with its header

_HTTP_STATUS = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}


@dataclasses.dataclass(frozen=True)
class Answer:
    """The HTTP answer to a request.

    Attributes:
      status: HTTP status code.
      body: Text of the body.
      content_type: Content type of the body.
      headers: Names and values of further headers.
    """

    status: int
    body: str
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()

    def encoded(self) -> bytes:
        """Returns the body as bytes; bytes of strings that are not UTF-8 are restored."""
        return self.body.encode("utf-8", "surrogateescape")


@dataclasses.dataclass
class _Target(AnsweredBy):
    """The model and the verb in a request's path, and what answered it, for the counts."""

    verb: str = ""


class RestApi:
    """The REST interface: answers predict, classify, regress, status, metadata, metrics requests.

    Args:
      manager: Manager of the models.
      metrics: Counts of requests.
      metrics_path: Path where Prometheus reads the counts; empty: no path.
      limits: Limits on the cost of a predict request; None: no limits.
      batching: Scheduler that joins requests; None: each is computed by itself.
    """

    def __init__(
        self,
        manager: ModelManager,
        metrics: Metrics,
        metrics_path: str = "",
        limits: RequestLimits | None = None,
        batching: BatchScheduler | None = None,
    ):
        self._limits = limits
        self._batching = batching
        self._manager = manager
        self._metrics = metrics
        self._metrics_path = metrics_path

    def count_refusal(self, code: grpc.StatusCode = grpc.StatusCode.RESOURCE_EXHAUSTED) -> None:
        """Counts a refused request; the default code means that there are too many."""
        self._metrics.count_error("", code.name)

    def answer(self, method: str, path: str, body: bytes, origin: str = "") -> Answer:
        """Answers one request.

        Args:
          method: HTTP method, `GET`, `POST` or another one.
          path: Path of the request, percent-encoded.
          body: Body of the request, uncompressed.
          origin: Value of the header `Origin`, for `OPTIONS`.

        Returns:
          The answer, which may be an error.
        """
        if path == self._metrics_path:
            return Answer(200, self._metrics.page(), "text/plain")
        if not _ANY.fullmatch(path):
            return Answer(404, _NOT_FOUND, "text/html")
        start = time.perf_counter()
        target = _Target()
        try:
            answer = self._answer(method, path, body, origin, target)
        except ServingError as error:
            self._metrics.count_error(target.model_name, error.code.name)
            if target.verb:
                self._metrics.count_answered_by(target, "REST", error.code.name)
            return Answer(_HTTP_STATUS.get(error.code, 500), error_text(error.message))
        if answer.status == 200:
            seconds = time.perf_counter() - start
            self._metrics.count_answer(target.model_name, target.verb, "REST", seconds)
            if target.verb:
                self._metrics.count_answered_by(target, "REST", "OK", seconds)
        return answer

    def _answer(self, method: str, path: str, body: bytes, origin: str, target: _Target) -> Answer:
        if method == "OPTIONS":
            is_web = _WEB_ORIGIN.search(origin) is not None
            if not is_web:
                self._metrics.count_error("", grpc.StatusCode.FAILED_PRECONDITION.name)
            return Answer(200 if is_web else 400, "", "text/html; charset=ISO-8859-1")
        malformed = invalid_argument(f"Malformed request: {method} {path}")
        pattern = {"POST": _PREDICTION, "GET": _INFORMATION}.get(method)
        match = pattern.fullmatch(path) if pattern else None
        if match is None:
            raise malformed
        spec = _model_spec(match)
        target.model_name = spec.name if spec else unquote(match["name"] or "")
        target.verb = match["verb"] if method == "POST" else ""
        if spec is None:
            self._metrics.count_error(target.model_name, grpc.StatusCode.INVALID_ARGUMENT.name)
            return Answer(400, "")
        if method == "POST":
            if target.verb in ("classify", "regress"):
                text = self._infer(spec, target.verb, body, target)
                return Answer(200, text, headers=target.pairs())
            if target.verb != "predict":  # the pattern ignores case, the verb does not
                raise malformed
            text = self._predict(spec, body, target)
            return Answer(200, text, headers=target.pairs())
        if not spec.name:
            raise invalid_argument("Missing model name in request.")
        # As for the verb, case matters: `/METADATA` matches the pattern, but asks for the status.
        is_metadata = match["part"] == "metadata"
        return Answer(200, self._metadata(spec) if is_metadata else self._status(spec))

    def _predict(self, spec: model_pb2.ModelSpec, body: bytes, target: _Target) -> str:
        document = parse_body(body)
        name = signature_name(document) or DEFAULT_SIGNATURE
        target.label = spec.version_label
        with self._manager.acquire(spec) as lease:
            target.version = str(lease.version)
            signature = lease.servable.signatures.get(name)
            if signature is None:
                raise invalid_argument(
                    f'Serving signature name: "{name}" not found in signature def'
                )
            target.signature = name
            if not signature.inputs:
                given = signature_name(document) or "DEFAULT"
                raise invalid_argument(f"Failed to get input map for signature: {given}")
            if self._limits:
                self._limits.check_rows(signature, document.get("instances"))
            inputs, is_by_row = read_inputs(document, signature)
            run = self._runner(lease.servable, spec.name)
            outputs = run_signature(lease.servable, signature, inputs, limits=self._limits, run=run)
        text = rows_text(outputs) if is_by_row else columns_text(outputs)
        log = self._manager.request_log(spec.name)
        if log is not None and log.is_sampled():
            spec.signature_name = name
            answered = model_pb2.ModelSpec(name=spec.name, signature_name=name)
            answered.version.value = lease.version
            # A view of a batch would keep the rows of all its callers.
            own = {
                name: array if array.base is None else array.copy()
                for name, array in outputs.items()
            }
            messages = functools.partial(_as_messages, spec, answered, inputs, own)
            log.add(answered, messages, len(body) + len(text) + _held_bytes(inputs, outputs))
        return text

    def _infer(self, spec: model_pb2.ModelSpec, verb: str, body: bytes, target: _Target) -> str:
        """Answers a classify or regress request."""
        document = parse_body(body)
        spec.signature_name = signature_name(document)
        examples = read_examples(document)
        target.label = spec.version_label
        with self._manager.acquire(spec) as lease:
            target.version = str(lease.version)
            target.signature = existing_signature(lease.servable, spec.signature_name)
            inference = Inference(
                lease.servable, lease.version, self._limits, self._runner(lease.servable, spec.name)
            )
            if verb == "classify":
                request = classification_pb2.ClassificationRequest(model_spec=spec, input=examples)
                return classifications_text(inference.classify(request).result)
            return regressions_text(
                inference.regress(
                    regression_pb2.RegressionRequest(model_spec=spec, input=examples)
                ).result
            )

    def _runner(self, servable: Servable, model_name: str) -> Run | None:
        if self._batching is None:
            return None
        return self._batching.runner(servable, model_name, lambda: True)

    def _status(self, spec: model_pb2.ModelSpec) -> str:
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=spec)
        return _json(model_status(self._manager, request)) + "\n"

    def _metadata(self, spec: model_pb2.ModelSpec) -> str:
        request = get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=spec, metadata_field=["signature_def"]
        )
        response = model_metadata(self._manager, request)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        document = {
            "model_spec": json.loads(_json(response.model_spec)),
            "metadata": {"signature_def": json.loads(_json(signatures))},
        }
        return json.dumps(document, indent=1) + "\n"


def _model_spec(match: re.Match[str]) -> model_pb2.ModelSpec | None:
    """Returns the model that a path names; None if the version number is too large."""
    spec = model_pb2.ModelSpec(name=unquote(match["name"] or ""))
    if match["version"]:
        digits = match["version"].lstrip("0") or "0"
        # Python refuses to convert numbers with thousands of digits.
        if len(digits) > len(str(_LARGEST_VERSION)) or int(digits) > _LARGEST_VERSION:
            return None
        spec.version.value = int(digits)
    if match["label"]:
        spec.version_label = unquote(match["label"])
    return spec


def _as_messages(
    spec: model_pb2.ModelSpec,
    answered: model_pb2.ModelSpec,
    inputs: Mapping[str, np.ndarray],
    outputs: Mapping[str, np.ndarray],
) -> tuple[bytes, bytes]:
    """Converts a REST request and its answer to gRPC's bytes, for the request log."""
    request = predict_pb2.PredictRequest(model_spec=spec)
    response = predict_pb2.PredictResponse(model_spec=answered)
    for arrays, tensors in ((inputs, request.inputs), (outputs, response.outputs)):
        for name, array in arrays.items():
            write_numpy(tensors[name], array)
    return request.SerializeToString(), response.SerializeToString()


def _held_bytes(*arrays: Mapping[str, np.ndarray]) -> int:
    """Returns the memory that arrays hold, without the characters of their strings."""
    return sum(
        array.nbytes + (_STRING_BYTES * array.size if array.dtype == object else 0)
        for named in arrays
        for array in named.values()
    )


def _json(message: message.Message) -> str:
    return json_format.MessageToJson(
        message, including_default_value_fields=True, preserving_proto_field_name=True, indent=1
    )
