"""Sends damaged requests to a running server, over gRPC and REST, and checks memory and answers.

The model is made here: `y = x / 2`. Each request is a good one with damaged bytes, which depend on
its number alone. Good requests are sent in between, and must be answered correctly.
"""

import collections
import dataclasses
import http.client
import json
import random
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.hostile_mutations import mutated
from benchmarks.registry import Figures, Progress
from benchmarks.results import OUTPUT_DIR
from tfx_pipeline.runs.local_server import LocalServer, ServerNotUp, local_server

_MODEL = "default"
_AT_ONCE = 16  # concurrent requests over gRPC
_TIMEOUT_S = 120.0
_TOLD_EVERY = 2_000
_METHODS = ("Predict", "Predict", "Predict", "GetModelMetadata", "Classify")
_SERVICE = "/tensorflow.serving.PredictionService/"
# Statuses for a mistake in a request, or for its size.
_REFUSALS = frozenset(
    "INVALID_ARGUMENT NOT_FOUND FAILED_PRECONDITION OUT_OF_RANGE UNIMPLEMENTED RESOURCE_EXHAUSTED "
    "PERMISSION_DENIED UNAUTHENTICATED".split()
)
# TensorFlow Serving answers 501 to requests that it does not support.
_REFUSED_STATUSES = {*range(400, 500), 501}


@dataclasses.dataclass
class RequestOutcomes:
    """Outcomes of damaged requests.

    Attributes:
      counts: Numbers by interface and outcome: `grpc.answered`, `rest.refused`, `rest.fault`.
      wrong: Number of good requests in between that were not answered correctly.
      lost: Whether the server had ended before the benchmark did.
      memory_mb: Resident memory of the server before and after.
      said: Descriptions of the first few faults.
    """

    counts: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    wrong: int = 0
    lost: bool = False
    memory_mb: tuple[float, float] = (0.0, 0.0)
    said: list[str] = dataclasses.field(default_factory=list)


def save_half(folder: Path) -> None:
    """Writes the model, with one signature for numbers and one for texts."""
    import tensorflow as tf

    class Half(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def half(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"y": x / 2.0}

        @tf.function(
            input_signature=[
                tf.TensorSpec([None, None], tf.string, name="s"),
                tf.TensorSpec([None], tf.int64, name="n"),
            ]
        )
        def texts(self, s: tf.Tensor, n: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"s": tf.strings.upper(s), "n": n + 1}

    model = Half()
    signatures = {"serving_default": model.half, "texts": model.texts}
    tf.saved_model.save(model, str(folder), signatures=signatures)


def _good_messages() -> dict[str, list[bytes]]:
    """Returns good requests by gRPC method."""
    import tensorflow as tf
    from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2

    half = predict_pb2.PredictRequest()
    half.model_spec.name = _MODEL
    half.inputs["x"].CopyFrom(tf.make_tensor_proto(np.array([1.0, -3.0], np.float32)))
    content = predict_pb2.PredictRequest()
    content.model_spec.name = _MODEL
    content.inputs["x"].CopyFrom(tf.make_tensor_proto(np.arange(8, dtype=np.float32)))
    texts = predict_pb2.PredictRequest()
    texts.model_spec.name = _MODEL
    texts.model_spec.signature_name = "texts"
    texts.model_spec.version.value = 1
    texts.inputs["s"].CopyFrom(tf.make_tensor_proto([["a", "é"], ["", "b"]]))
    texts.inputs["n"].CopyFrom(tf.make_tensor_proto(np.array([1, -1], np.int64)))
    texts.output_filter.append("s")
    metadata = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    metadata.model_spec.name = _MODEL
    predicts = [each.SerializeToString() for each in (half, content, texts)]
    return {
        "Predict": predicts,
        "GetModelMetadata": [metadata.SerializeToString()],
        "Classify": predicts[:1],
    }


_BODIES: tuple[bytes, ...] = tuple(
    json.dumps(body).encode()
    for body in (
        {"instances": [1.0, -3.0]},
        {"inputs": {"x": [1.0, 2.0]}, "signature_name": "serving_default"},
        {
            "signature_name": "texts",
            "instances": [{"s": ["a", "é"], "n": 1}, {"s": ["", {"b64": "YQ=="}], "n": -1}],
        },
        {"instances": [[[[1]]], {"x": None}, True, 1e400, "\u0000"]},
    )
)


def send_mutated(server: LocalServer, num_requests: int, progress: Progress) -> RequestOutcomes:
    """Damages requests and sends them, half over gRPC and half over REST.

    Args:
      server: Server of the model that `save_half` wrote.
      num_requests: Number of requests.
      progress: Function that shows a line from time to time.

    Returns:
      The outcomes.
    """
    import grpc

    found = RequestOutcomes()
    good = _good_messages()
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(server.target, options=options) as channel:
        rest = _Rest(server)
        before = server.memory_mb
        for first in range(0, num_requests, 2 * _AT_ONCE):
            numbers = range(first, min(first + 2 * _AT_ONCE, num_requests))
            _send_grpc(channel, good, numbers[::2], found)
            for number in numbers[1::2]:
                rest.send(number, found)
            found.wrong += not _is_right(channel, good["Predict"][0])
            if server.exit_status is not None:
                found.lost = True
                found.said.append(f"the server ended with {server.exit_status} near {first}")
                return found
            if first % _TOLD_EVERY < 2 * _AT_ONCE:
                memory = f"{server.memory_mb:.0f} MB"
                progress(f"{first} of {num_requests} requests: {dict(found.counts)}, {memory}")
        rest.close()
        found.memory_mb = (before, server.memory_mb)
    return found


def _send_grpc(channel: Any, good: dict[str, Any], numbers: range, found: RequestOutcomes) -> None:
    calls = []
    for number in numbers:
        rng = random.Random(number)
        method = rng.choice(_METHODS)
        message = mutated(rng.choice(good[method]), rng, rng.choice([1, 3]))
        call = channel.unary_unary(_SERVICE + method)
        calls.append((number, call.future(message, timeout=_TIMEOUT_S)))
    for number, call in calls:
        code = call.code().name  # waits for it
        if code == "OK":
            found.counts["grpc.answered"] += 1
        elif code in _REFUSALS and call.details():
            found.counts["grpc.refused"] += 1
        else:
            found.counts["grpc.fault"] += 1
            found.said.append(f"gRPC request {number}: {code}: {call.details()}")


def _is_right(channel: Any, message: bytes) -> bool:
    import grpc
    from tensorflow_serving.apis import predict_pb2

    try:
        answer = channel.unary_unary(_SERVICE + "Predict")(message, timeout=_TIMEOUT_S)
    except grpc.RpcError:
        return False
    outputs = predict_pb2.PredictResponse.FromString(answer).outputs
    return list(outputs["y"].float_val) == [0.5, -1.5]


class _Rest:
    """Sends bodies on a connection that stays open, or is reopened."""

    def __init__(self, server: LocalServer):
        self._connection = http.client.HTTPConnection(
            "localhost", server.rest_api_port, timeout=_TIMEOUT_S
        )

    def close(self) -> None:
        self._connection.close()

    def send(self, number: int, found: RequestOutcomes) -> None:
        rng = random.Random(number)
        body = mutated(rng.choice(_BODIES), rng, rng.choice([1, 3]))
        headers = {"Content-Encoding": "gzip"} if rng.random() < 0.05 else {}
        try:
            self._connection.request("POST", "/v1/models/default:predict", body, headers)
            response = self._connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            found.counts["rest.fault"] += 1
            found.said.append(f"REST request {number}: {type(error).__name__}: {error}")
            return
        outcome = _rest_outcome(response.status, content)
        found.counts[f"rest.{outcome}"] += 1
        if outcome == "fault":
            found.said.append(f"REST request {number}: {response.status}: {content[:300]!r}")


def _rest_outcome(status: int, content: bytes) -> str:
    try:
        # As in TensorFlow Serving, an error quotes a caller's bytes unchanged.
        answer = json.loads(content.decode("utf-8", "surrogateescape"))
    except ValueError:
        return "fault"
    if status == 200:
        return "answered" if set(answer) & {"predictions", "outputs"} else "fault"
    is_refusal = status in _REFUSED_STATUSES and isinstance(answer.get("error"), str)
    return "refused" if is_refusal else "fault"


def request_outcomes(num_requests: int, folder: Path, progress: Progress) -> RequestOutcomes:
    """Makes the model, starts a server and sends it damaged requests.

    Args:
      num_requests: Number of requests.
      folder: Folder of the model.
      progress: Function that shows a line from time to time.

    Returns:
      The outcomes.
    """
    base_path = folder / "half"
    save_half(base_path / "1")
    log = OUTPUT_DIR / "logs" / "hostile-server.log"
    found = RequestOutcomes()
    try:
        with local_server(base_path, log) as server:
            found = send_mutated(server, num_requests, progress)
    except ServerNotUp as error:
        found.lost = True
        found.said.append(str(error))
    return found


def request_figures(found: RequestOutcomes) -> Figures:
    """Returns the figures of the requests by key."""
    figures: Figures = {"hostile.requests.tried": sum(found.counts.values())}
    for interface in ("grpc", "rest"):
        for outcome in ("answered", "refused", "fault"):
            name = f"{interface}.{outcome}"
            figures[f"hostile.requests.{name}"] = found.counts[name]
    return figures | {
        "hostile.requests.wrong": found.wrong,
        "hostile.requests.servers_lost": int(found.lost),
        "hostile.requests.memory_mb_first": round(found.memory_mb[0], 1),
        "hostile.requests.memory_mb_last": round(found.memory_mb[1], 1),
    }
