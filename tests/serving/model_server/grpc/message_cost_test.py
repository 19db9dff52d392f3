"""The estimate from a message's bytes is never below what its fields need."""

import random
import zlib

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from serving.model_server.errors import ServingError
from serving.model_server.grpc import message_cost
from serving.model_server.grpc.compressed_message import is_compressed, unpack
from serving.model_server.grpc.message_cost import predict_request_cost
from tests.serving.model_server.fuzzed_server import damaged


def request(**inputs):
    made = predict_pb2.PredictRequest()
    made.model_spec.name = "toy"
    for name, value in inputs.items():
        made.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return made


def cost(made):
    return predict_request_cost(made.SerializeToString())


def test_packed_values_cost_little_and_strings_much():
    floats = np.zeros(100_000, np.float32)
    assert 400_000 < cost(request(x=floats)) < 9 * 400_000
    strings = request(x=["ab"] * 1000)
    assert 300_000 < cost(strings) < 1_000_000
    assert cost(request(x=["ab"] * 2000)) > 1.9 * cost(strings)


def test_what_lies_deeper_counts_as_the_worst():
    made = request(x=[1.0])
    before = cost(made)
    for _ in range(1000):
        made.inputs["x"].variant_val.add().tensors.add()
    assert cost(made) - before > 1000 * 2 * message_cost.WORST_FACTOR


def test_too_many_fields_are_refused(monkeypatch):
    monkeypatch.setattr(message_cost, "MAX_FIELDS", 1000)
    cost(request(x=["a"] * 900))
    with pytest.raises(ServingError, match="must not have more than 1000 fields"):
        cost(request(x=["a"] * 1000))


def test_damaged_messages_are_counted_up_to_the_damage():
    rng = random.Random(0)
    message = request(x=["ab", "c"], y=np.zeros(5), z=[1, 2, 300]).SerializeToString()
    for _ in range(2000):
        assert predict_request_cost(damaged(message, rng)) >= 0
    assert predict_request_cost(b"") == 0
    assert predict_request_cost(b"\x12" + b"\xff" * 20) >= 0


def test_damaged_packed_messages_are_refused_and_plain_ones_are_not_taken_for_packed():
    message = request(x=["ab", "c"]).SerializeToString()
    assert not is_compressed(message) and not is_compressed(b"") and not is_compressed(b"\x1f")
    for kind in (31, 15):  # gzip, zlib
        packer = zlib.compressobj(wbits=kind)
        packed = packer.compress(message) + packer.flush()
        assert is_compressed(packed)
        assert unpack(packed, len(message)) == message
        with pytest.raises(ServingError, match="larger than max"):
            unpack(packed, len(message) - 1)
        for broken in (packed[:-1], packed + b"x", packed[:10] + b"\xff\xff" + packed[12:]):
            with pytest.raises(ServingError, match="is not a message of this method"):
                unpack(broken, 1 << 20)
