"""User ids of logged requests: where they are found, and what is written in their place."""

import hashlib
import hmac

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from serving.model_server.session.logged_ids import IdFilter
from tagtower_client.tensor_proto import to_numpy, write_compact, write_numpy

SALT = b"a secret of enough bytes"
WRITERS = pytest.mark.parametrize("write", [write_numpy, write_compact])


def hashed(text):
    return hmac.new(SALT, text.encode(), hashlib.sha256).hexdigest()[:32].encode()


def strings(*values):
    return np.array([value.encode() for value in values], object)


def example(**features):
    made = tf.train.Example()
    for name, value in features.items():
        if isinstance(value, int):
            made.features.feature[name].int64_list.value.append(value)
        else:
            made.features.feature[name].bytes_list.value.append(value.encode())
    return made.SerializeToString()


def request(write, **inputs):
    made = predict_pb2.PredictRequest()
    made.model_spec.name = "tags"
    for name, values in inputs.items():
        write(made.inputs[name], values)
    return made.SerializeToString()


def inputs(message):
    found = predict_pb2.PredictRequest.FromString(message)
    assert found.model_spec.name == "tags"
    return {name: to_numpy(tensor).tolist() for name, tensor in found.inputs.items()}


def features(value):
    found = tf.train.Example.FromString(value).features.feature
    return {name: list(f.bytes_list.value or f.int64_list.value) for name, f in found.items()}


@WRITERS
def test_without_a_salt_ids_are_left_out(write):
    examples = np.array([example(user_id="u1", segment="a"), example(segment="b")], object)
    asked = request(write, user_id=strings("u1", "u2"), segment=strings("a", "b"), any=examples)
    left = inputs(IdFilter(["user_id"], None).request(asked))
    assert left.keys() == {"segment", "any"}
    assert left["segment"] == [b"a", b"b"]
    assert [features(each) for each in left["any"]] == [{"segment": [b"a"]}, {"segment": [b"b"]}]


@WRITERS
def test_with_a_salt_ids_are_hashed_wherever_they_are(write):
    examples = np.array([[example(user_id="7", segment="user_id"), example(account=7)]], object)
    asked = request(write, user_id=np.array([7, 8]), examples=examples, account=strings("7", ""))
    written = inputs(IdFilter(["user_id", "account"], SALT).request(asked))
    assert written["user_id"] == [hashed("7"), hashed("8")]
    assert written["account"] == [hashed("7"), b""]
    (row,) = written["examples"]
    assert [features(each) for each in row] == [
        {"user_id": [hashed("7")], "segment": [b"user_id"]},
        {"account": [hashed("7")]},
    ]


@pytest.mark.parametrize("salt", [None, SALT])
def test_an_example_that_cannot_be_read_is_not_written(salt):
    # Python refuses the name of the second feature, which is not UTF-8; TensorFlow reads both.
    unreadable = example(user_id="u1") + example(xx="a").replace(b"xx", b"\xff\xfe")
    asked = request(write_numpy, examples=np.array([unreadable, example(segment="a")], object))

    empty, other = inputs(IdFilter(["user_id"], salt).request(asked))["examples"]

    assert empty == b""
    assert features(other) == {"segment": [b"a"]}


def test_request_without_ids_is_written_as_it_came():
    asked = request(write_numpy, segment=strings("my user_id", "b"), x=np.array([1.5], np.float32))
    assert IdFilter(["account"], SALT).request(asked) is asked
    assert inputs(IdFilter(["user_id"], SALT).request(asked)) == inputs(asked)


def test_answer_that_names_the_user_is_hashed():
    answer = predict_pb2.PredictResponse()
    write_numpy(answer.outputs["user_id"], strings("u1"))
    written = IdFilter(["user_id"], SALT).response(answer.SerializeToString())
    (value,) = to_numpy(predict_pb2.PredictResponse.FromString(written).outputs["user_id"])
    assert value == hashed("u1")
