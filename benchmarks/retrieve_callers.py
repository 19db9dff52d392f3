"""Callers of `retrieve`, each for a process of its own, and the times of their calls.

Two call in process: one as TensorFlow does by default, and one as the server does, which computes
less around the same operations, in an environment chosen for requests. Each call goes from feature
values to lists of strings, so that it includes the caller's cost, and the difference between a call
in process and the others is the cost of server and wire.
"""

import dataclasses
import http.client
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.echo_server import method_name
from serving.inference_environment import INTRA_OP_VARIABLE, ONEDNN_VARIABLE

TENSORFLOW, IN_PROCESS, ECHO, GRPC, REST = "tensorflow", "in_process", "echo", "grpc", "rest"
FLOOR = "floor"
_NUM_WARM_UP_CALLS = 20
_VALUES_PER_DOMAIN = 30
_SEED = 0
_TIMEOUT_S = 120

Instance = dict[str, Any]
Retrieve = Callable[[Sequence[Instance]], Any]


@dataclasses.dataclass(frozen=True)
class Calls:
    """Times of one caller's calls, one after the other.

    Attributes:
      seconds: float [num_calls], seconds of each call.
      started: Time before the first call, by a clock that all processes share.
      ended: Time after the last call.
    """

    seconds: np.ndarray
    started: float
    ended: float


@dataclasses.dataclass(frozen=True)
class Asked:
    """Users and sizes of requests for callers in other processes.

    Attributes:
      instances: Users of the calls.
      slots: Inputs of `retrieve`, by name.
      num_tags: Number of tags in the index.
      request_bytes: Size of a request over gRPC, by batch size.
      reply_bytes: Size of its reply, by batch size.
    """

    instances: list[Instance]
    slots: dict[str, Any]
    num_tags: int
    request_bytes: dict[int, int]
    reply_bytes: dict[int, int]


class InProcessCaller:
    """Calls a version that its own process has loaded.

    Args:
      version_dir: The version folder.
    """

    def __init__(self, version_dir: str):
        from serving.batch.servable_caller import ServableCaller

        self._caller = ServableCaller(version_dir)
        self._instances: list[Instance] = []

    def prepare(self, version_dir: str, batch_sizes: Sequence[int]) -> Asked:
        """Draws users, and measures the sizes of their requests."""
        from serving.model_server.session.predict import predict
        from serving.model_server.session.servable import Servable

        servable = Servable(version_dir)
        slots = self._caller.slots
        self._instances = draw_instances(servable, slots, max(batch_sizes))
        request_bytes, reply_bytes = {}, {}
        for size in batch_sizes:
            request = _request(self._instances[:size], slots)
            request_bytes[size] = request.ByteSize()
            reply_bytes[size] = predict(servable, 1, request).ByteSize()
        servable.close()
        return Asked(self._instances, slots, self._caller.num_tags, request_bytes, reply_bytes)

    def calls(self, batch_size: int, num_calls: int) -> Calls:
        """Times calls, one after the other."""
        return time_calls(self._caller.retrieve, self._instances, batch_size, num_calls)


class TensorFlowCaller:
    """Calls a version as a user of TensorFlow does: `tf.saved_model.load`, TensorFlow's defaults.

    Args:
      version_dir: The version folder.
    """

    def __init__(self, version_dir: str):
        for name in (ONEDNN_VARIABLE, INTRA_OP_VARIABLE):
            os.environ.pop(name, None)
        import tensorflow as tf

        from serving.index.scann_index import register_scann_ops
        from trainer.contract import signatures as s

        register_scann_ops()
        # Kept, because its variables would be deleted with it.
        self._loaded = tf.saved_model.load(version_dir)
        self._signature = self._loaded.signatures[s.RETRIEVE]
        self._slots: Mapping[str, Any] = {}
        self._instances: list[Instance] = []

    def prepare(self, asked: Asked) -> None:
        """Sets the users to those of another caller."""
        self._slots, self._instances = asked.slots, asked.instances

    def calls(self, batch_size: int, num_calls: int) -> Calls:
        """Times calls, one after the other."""
        return time_calls(self._retrieve, self._instances, batch_size, num_calls)

    def _retrieve(self, instances: Sequence[Instance]) -> Any:
        import tensorflow as tf

        from tagtower_client.feature_tensors import to_tensors
        from trainer.contract import signatures as s

        tensors = to_tensors(instances, self._slots)
        outputs = self._signature(
            **{name: tf.constant(array.tolist(), _dtype(array)) for name, array in tensors.items()}
        )
        tags = [[tag.decode() for tag in row] for row in outputs[s.TAGS].numpy().tolist()]
        return tags, outputs[s.SCORES].numpy().tolist()


class RemoteCaller:
    """Calls the model server over gRPC and REST, and the two servers that are its lower bounds.

    Args:
      port: Port of the model server for gRPC.
      rest_api_port: Port of the model server for REST.
      echo_port: Port of the server that computes nothing.
      asked: Users and sizes of requests.
      floor_port: Port of the minimal server in C++; None: there is none.
    """

    def __init__(
        self,
        port: int,
        rest_api_port: int,
        echo_port: int,
        asked: Asked,
        floor_port: int | None = None,
    ):
        import grpc

        from serving.client import TagClient

        self._instances = asked.instances
        client = TagClient(f"localhost:{port}", timeout_s=_TIMEOUT_S)
        connection = http.client.HTTPConnection("localhost", rest_api_port, timeout=_TIMEOUT_S)
        channel = grpc.insecure_channel(f"localhost:{echo_port}")
        requests = {size: bytes(count) for size, count in asked.request_bytes.items()}
        echoes = {size: channel.unary_unary(method_name(str(size))) for size in requests}
        self._retrieve: dict[str, Retrieve] = {
            GRPC: client.retrieve,
            REST: rest_retrieve(connection, asked.slots),
            ECHO: lambda batch: echoes[len(batch)](requests[len(batch)]),
        }
        if floor_port is not None:
            floor = TagClient(f"localhost:{floor_port}", timeout_s=_TIMEOUT_S)
            self._retrieve[FLOOR] = floor.retrieve

    def calls(self, interface: str, batch_size: int, num_calls: int) -> Calls:
        """Times calls over one interface, one after the other."""
        return time_calls(self._retrieve[interface], self._instances, batch_size, num_calls)


def time_calls(
    retrieve: Retrieve, instances: Sequence[Instance], batch_size: int, num_calls: int
) -> Calls:
    """Times calls, one after the other, after some that do not count."""
    batches = [
        [instances[(first + i) % len(instances)] for i in range(batch_size)]
        for first in range(len(instances))
    ]
    for i in range(min(_NUM_WARM_UP_CALLS, num_calls)):
        retrieve(batches[i % len(batches)])
    seconds = np.empty(num_calls)
    started = time.perf_counter()
    for i in range(num_calls):
        before = time.perf_counter()
        retrieve(batches[i % len(batches)])
        seconds[i] = time.perf_counter() - before
    return Calls(seconds, started, time.perf_counter())


def draw_instances(servable: Any, slots: Mapping[str, Any], num_instances: int) -> list[Instance]:
    """Draws users of a servable: weighted tags in every domain, all profile features unknown.

    Domains of other values than tags get tags as well: latency does not depend on the values.
    """
    from serving.model_server.session.predict import run_signature
    from trainer.contract import signatures as s
    from trainer.contract.features import weights_name

    rng = np.random.default_rng(_SEED)
    candidates = run_signature(servable, servable.signatures[s.CANDIDATES], {})
    tags = [tag.decode() for tag in candidates[s.TAGS].tolist()]
    num_values = min(_VALUES_PER_DOMAIN, len(tags))
    instances: list[Instance] = []
    for _ in range(num_instances):
        instance: Instance = {}
        for name, slot in slots.items():
            if slot.is_list and slot.is_text:
                values = rng.choice(len(tags), num_values, replace=False).tolist()
                instance[name] = [tags[value] for value in values]
                if weights_name(name) in slots:
                    weights = rng.integers(1, 6, num_values).astype(float)
                    instance[weights_name(name)] = weights.tolist()
        instances.append(instance)
    return instances


def rest_retrieve(
    connection: http.client.HTTPConnection, slots: Mapping[str, Any]
) -> Callable[[Sequence[Instance]], tuple[list[list[str]], list[list[float]]]]:
    """Returns the REST counterpart of `TagClient.retrieve`, on one connection that stays open."""
    import orjson

    from tagtower_client.feature_tensors import to_tensors
    from trainer.contract import signatures as s

    def call(instances: Sequence[Instance]) -> tuple[list[list[str]], list[list[float]]]:
        tensors = to_tensors(instances, slots)
        document = {
            "signature_name": s.RETRIEVE,
            "inputs": {name: _texts(array.tolist()) for name, array in tensors.items()},
        }
        connection.request("POST", "/v1/models/default:predict", orjson.dumps(document))
        response = connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise RuntimeError(f"REST answered {response.status}: {body[:500]!r}")
        outputs = orjson.loads(body)["outputs"]
        return outputs[s.TAGS], outputs[s.SCORES]

    return call


def together(calls: Iterable[Calls]) -> float:
    """Returns the wall-clock seconds from the first start to the last end."""
    calls = list(calls)
    return max(one.ended for one in calls) - min(one.started for one in calls)


def _request(instances: Sequence[Instance], slots: Mapping[str, Any]) -> Any:
    from tensorflow_serving.apis import predict_pb2

    from tagtower_client.feature_tensors import to_tensors
    from tagtower_client.tensor_proto import write_compact
    from trainer.contract import signatures as s

    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "default", s.RETRIEVE
    for name, array in to_tensors(instances, slots).items():
        write_compact(request.inputs[name], array)
    return request


def _dtype(array: np.ndarray) -> Any:
    import tensorflow as tf

    return tf.string if array.dtype == object else tf.as_dtype(array.dtype)


def _texts(values: Any) -> Any:
    """Converts bytes in nested lists to text."""
    if isinstance(values, list):
        return [_texts(value) for value in values]
    return values.decode() if isinstance(values, bytes) else values
