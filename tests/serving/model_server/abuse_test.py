"""One test for each fault that the fuzz lanes and the soak found."""

import gc
import http.client
import itertools
import json
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
import tensorflow as tf
from grpc_reflection.v1alpha import reflection_pb2
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from serving.model_server.errors import ServingError
from serving.model_server.rest.json_text import MAX_QUOTED, value_text
from serving.model_server.session.predict import run_signature
from serving.model_server.session.servable import Servable

PREDICT = "/tensorflow.serving.PredictionService/Predict"
NO_MESSAGE = b"\x0a\xff\xff"
TIMEOUT_S = 30


@pytest.fixture(scope="module")
def channel(server):
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield channel


@pytest.fixture
def post(server):
    def post(body, path="/v1/models/toy:predict"):
        connection = http.client.HTTPConnection(
            "127.0.0.1", server.rest_api_port, timeout=TIMEOUT_S
        )
        connection.request("POST", path, body)
        response = connection.getresponse()
        text = response.read()
        connection.close()
        return response.status, text

    return post


# gRPC.


@pytest.mark.parametrize(
    "call",
    [
        lambda channel: channel.unary_unary(PREDICT)(NO_MESSAGE, timeout=TIMEOUT_S),
        lambda channel: list(
            channel.unary_stream("/grpc.health.v1.Health/Watch")(NO_MESSAGE, timeout=TIMEOUT_S)
        ),
        lambda channel: list(
            channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")(
                iter(
                    [
                        reflection_pb2.ServerReflectionRequest(
                            list_services=""
                        ).SerializeToString(),
                        NO_MESSAGE,
                    ]
                ),
                timeout=TIMEOUT_S,
            )
        ),
    ],
    ids=["unary", "watch", "stream"],
)
def test_bytes_that_are_no_message_are_the_callers_mistake(channel, call):
    with pytest.raises(grpc.RpcError) as caught:
        call(channel)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details() == "The request is not a message of this method."


def test_long_message_is_cut_by_its_bytes(channel):
    # Percent-encoded, a thousand of these would not fit a header.
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "𝄞" * 3000
    with pytest.raises(grpc.RpcError) as caught:
        prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    text = caught.value.details().removesuffix("...TRUNCATED")
    assert 1020 <= len(text.rstrip("�").encode()) <= 1024


def test_shape_that_the_message_cannot_fill_is_refused_unread(channel):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "toy"
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(np.float32([1.0])))
    request.inputs["x"].tensor_shape.dim[0].size = 2**40
    with pytest.raises(grpc.RpcError) as caught:
        prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details() == (
        f"`x` must have at most --max_batch_size=4096 examples. Received: {2**40}. "
        "Ask for them in several requests."
    )


# REST.


@pytest.mark.parametrize(("depth", "status"), [(31, 200), (32, 400), (900, 400), (100_000, 400)])
def test_list_of_more_dimensions_than_arrays_have_is_refused(post, depth, status):
    received, text = post(b'{"inputs": ' + b"[" * depth + b"1" + b"]" * depth + b"}")
    assert received == status
    document = json.loads(text)
    if status == 200:
        assert np.array(document["outputs"]).shape == (1,) * depth
    elif depth < 1000:
        assert document == {"error": f"Tensor of more than 31 dimensions: {depth}"}
    else:
        assert document == {"error": "JSON Parse error: Nested too deeply."}


def test_version_of_thousands_of_digits_is_bad_request(post):
    body = b'{"instances": [1.0]}'
    assert post(body, f"/v1/models/toy/versions/{'9' * 5000}:predict") == (400, b"")
    status, text = post(body, f"/v1/models/toy/versions/{'0' * 5000}1:predict")
    assert (status, json.loads(text)) == (200, {"predictions": [1.5]})


def test_second_half_of_a_surrogate_pair_is_answered(post):
    # RapidJSON reads three bytes, which are not UTF-8.
    status, text = post(b'{"instances": ["\\udfff"]}')
    assert status == 400
    assert b'JSON Value: \\"\xed\xbf\xbf\\" Type: String' in text


def test_quoted_value_is_cut_where_its_layout_would_take_over():
    value = 1
    for _ in range(800):
        value = [value]
    values = [value] * 1000
    quoted = value_text(values)
    assert len(quoted) == MAX_QUOTED + len("...TRUNCATED")
    assert quoted.startswith("[\n    [\n        [\n")
    assert value_text(values[:1]).startswith(quoted[:1000])


# The model.


class Parser(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def parse(self, text):
        return {"number": tf.strings.to_number(text)}


@pytest.fixture(scope="module")
def parser(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parser")
    parser = Parser()
    tf.saved_model.save(parser, str(folder), signatures={"serving_default": parser.parse})
    return Servable(str(folder))


def run(servable, name, value):
    return servable.run(servable.signatures[name], [value])


def test_error_that_quotes_bytes_which_are_no_text_is_the_callers(parser):
    with pytest.raises(ServingError) as caught:
        run(parser, "serving_default", np.array([b"\xff1"], object))
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert "could not correctly convert string: �1" in caught.value.message


def test_unloaded_model_leaves_memory_without_the_collector(toy_versions):
    servable = Servable(str(toy_versions / "1"))
    assert run(servable, "serving_default", np.float32([1.0]))[0].tolist() == [1.5]
    remains = [weakref.ref(servable._session), weakref.ref(servable._session.graph)]
    gc.disable()
    try:
        servable.close()
        assert [remain() for remain in remains] == [None, None]
    finally:
        gc.enable()


def test_sets_of_outputs_share_one_graph(toy_versions):
    servable = Servable(str(toy_versions / "1"))
    signature = servable.signatures["kinds"]
    expected = {"scalar": 3, "is_even": [False, True], "text": [b"1", b"2"], "wide": [1 / 3, 2 / 3]}
    for number in range(1, len(expected) + 1):
        for chosen in itertools.permutations(expected, number):
            values = run_signature(servable, signature, {"i": np.int32([1, 2])}, chosen)
            assert {name: value.tolist() for name, value in values.items()} == {
                name: expected[name] for name in chosen
            }
            assert list(values) == sorted(chosen)
    assert servable.num_calls == 1
    servable.close()


def test_first_calls_at_once_build_one_graph(toy_versions, monkeypatch):
    servable = Servable(str(toy_versions / "1"))
    built, build = [], servable._build_call

    def slow_build(signature):
        built.append(signature.name)
        all_asked.wait(30)
        return build(signature)

    all_asked = threading.Event()
    monkeypatch.setattr(servable, "_build_call", slow_build)
    with ThreadPoolExecutor(8) as threads:
        calls = [
            threads.submit(run, servable, "serving_default", np.float32([1.0])) for _ in range(8)
        ]
        all_asked.set()
        assert [call.result()[0].tolist() for call in calls] == [[1.5]] * 8
    assert built == ["serving_default"]
    monkeypatch.undo()
    servable.close()
