"""Classify, Regress and MultiInference over gRPC and REST, beyond the recorded cases.

Messages are those of TensorFlow Serving: servables/tensorflow/classifier.cc, regressor.cc,
multi_inference.cc, util.cc; util/json_tensor.cc.
"""

import http.client
import json

import grpc
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    inference_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from serving.model_server.batching.parameters import BatchingParameters
from serving.model_server.models.model_config import ModelConfig
from serving.model_server.server import ModelServer
from serving.model_server.session.inference import CLASSIFY_METHOD, REGRESS_METHOD
from tests.serving.model_server.toy_examples import example

WAIT_S = 60.0


@pytest.fixture(scope="module", params=["unbatched", "batched"])
def server(request, examples_versions, toy_versions):
    """Runs a server of both models."""
    models = [ModelConfig("toy", str(examples_versions)), ModelConfig("other", str(toy_versions))]
    batching = BatchingParameters(num_batch_threads=1) if request.param == "batched" else None
    with ModelServer(models, rest_api_port=0, batching=batching) as server:
        server.wait_until_available(WAIT_S)
        yield server


@pytest.fixture(scope="module")
def stub(server):
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield prediction_service_pb2_grpc.PredictionServiceStub(channel)


def examples(*values):
    messages = [tf.train.Example.FromString(example(value)) for value in values]
    return {"example_list": {"examples": messages}}


def spec(signature="regress_x", name="toy"):
    return {"name": name, "signature_name": signature}


def error_of(call, request):
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=WAIT_S)
    return caught.value.code().name, caught.value.details()


def test_examples_are_classified_and_the_answer_names_version_and_signature(stub):
    response = stub.Classify(
        classification_pb2.ClassificationRequest(
            model_spec=spec("classify_x"), input=examples(2.0, 4.0)
        )
    )

    # 0.5 x + 1, and 1 less it
    assert [
        [(one.label, one.score) for one in row.classes] for row in response.result.classifications
    ] == [[("a", 2.0), ("b", -1.0)], [("a", 3.0), ("b", -2.0)]]
    model_spec = response.model_spec
    assert (model_spec.name, model_spec.version.value, model_spec.signature_name) == (
        "toy",
        1,
        "classify_x",
    )


@pytest.mark.parametrize("signature", ["regress_x", "regress_column"])
def test_examples_are_regressed(stub, signature):
    response = stub.Regress(
        regression_pb2.RegressionRequest(model_spec=spec(signature), input=examples(2.0, 4.0))
    )

    assert [one.value for one in response.result.regressions] == [2.0, 3.0]
    assert response.model_spec.signature_name == signature


def test_context_is_part_of_every_example(stub):
    (with_x,) = examples(6.0)["example_list"]["examples"]
    request = regression_pb2.RegressionRequest(
        model_spec=spec(),
        input={"example_list_with_context": {"context": with_x, "examples": [{}, {}]}},
    )

    assert [one.value for one in stub.Regress(request).result.regressions] == [4.0, 4.0]


def test_tasks_of_one_input_are_answered_in_turn(stub):
    # Two signatures of TensorFlow 2 have two inputs, so that only one task is possible.
    task = {"model_spec": spec("classify_x"), "method_name": CLASSIFY_METHOD}
    response = stub.MultiInference(
        inference_pb2.MultiInferenceRequest(tasks=[task], input=examples(2.0))
    )

    (result,) = response.results
    assert result.classification_result.classifications[0].classes[0].score == 2.0
    assert result.model_spec.version.value == 1


REFUSED_CLASSIFY = {
    "zz": "No signature was found with the name: zz",
    "": "No signature was found with the name: serving_default",
    "regress_x": "Expected classification signature outputs to contain at least one of ",
    "lists": "Expected one input Tensor.",
    "total": "No classification inputs found in SignatureDef: inputs {",
}


@pytest.mark.parametrize("signature", REFUSED_CLASSIFY)
def test_signatures_that_do_not_classify_are_refused(stub, signature):
    request = classification_pb2.ClassificationRequest(
        model_spec=spec(signature), input=examples(1.0)
    )
    code, message = error_of(stub.Classify, request)
    assert code == "INVALID_ARGUMENT"
    assert message.startswith(REFUSED_CLASSIFY[signature])


REFUSED_REGRESS = {
    "zz": "No signature was found with the name: zz",
    "classify_x": "Expected one output Tensor.",
    "lists": "Expected one input Tensor.",
    "total": "No regression inputs found in SignatureDef: inputs {",
}


@pytest.mark.parametrize("signature", REFUSED_REGRESS)
def test_signatures_that_do_not_regress_are_refused(stub, signature):
    request = regression_pb2.RegressionRequest(model_spec=spec(signature), input=examples(1.0))
    code, message = error_of(stub.Regress, request)
    assert code == "INVALID_ARGUMENT"
    assert message.startswith(REFUSED_REGRESS[signature])


def test_requests_without_a_model_or_examples_are_refused(stub):
    for call, request in (
        (stub.Classify, classification_pb2.ClassificationRequest()),
        (stub.Regress, regression_pb2.RegressionRequest()),
    ):
        assert error_of(call, request) == ("INVALID_ARGUMENT", "Missing ModelSpec")
    assert error_of(stub.MultiInference, inference_pb2.MultiInferenceRequest()) == (
        "INVALID_ARGUMENT",
        "ModelSpec has no name specified.",
    )
    empty = regression_pb2.RegressionRequest(model_spec=spec(), input=examples())
    assert error_of(stub.Regress, empty) == ("INVALID_ARGUMENT", "Input is empty.")
    unknown = regression_pb2.RegressionRequest(model_spec=spec(name="nope"), input=examples(1.0))
    assert error_of(stub.Regress, unknown) == (
        "NOT_FOUND",
        "Servable not found for request: Latest(nope)",
    )


def task(signature, method, name="toy"):
    return {"model_spec": spec(signature, name), "method_name": method}


@pytest.mark.parametrize(
    ("tasks", "error"),
    [
        (
            [task("zz", REGRESS_METHOD)],
            ("INVALID_ARGUMENT", "Requested signature not found in model graph: zz"),
        ),
        (
            [task("regress_x", "tensorflow/serving/predict")],
            (
                "UNIMPLEMENTED",
                "Unsupported signature method_name: tensorflow/serving/predict",
            ),
        ),
        (
            [task("regress_x", REGRESS_METHOD), task("regress_x", REGRESS_METHOD, "other")],
            (
                "INVALID_ARGUMENT",
                "All ModelSpecs in a MultiInferenceRequest must access the same model name.",
            ),
        ),
        (
            [task("regress_x", REGRESS_METHOD), task("regress_x", REGRESS_METHOD, "")],
            ("INVALID_ARGUMENT", "Found ModelSpec with an empty model name."),
        ),
        (
            [task("regress_x", REGRESS_METHOD), task("classify_x", CLASSIFY_METHOD)],
            ("INVALID_ARGUMENT", "Input tensor must be the same for all Signatures."),
        ),
    ],
)
def test_tasks_that_do_not_fit_are_refused(stub, tasks, error):
    request = inference_pb2.MultiInferenceRequest(tasks=tasks, input=examples(1.0))
    assert error_of(stub.MultiInference, request) == error


# REST.


def ask(server, verb, document):
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_api_port, timeout=WAIT_S)
    try:
        connection.request("POST", f"/v1/models/toy:{verb}", json.dumps(document))
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def test_rest_regresses_in_the_layout_of_tensorflow_serving(server):
    # The writer stays in the layout of one line, unlike for classify.
    body = {"signature_name": "regress_x", "examples": [{"x": 2.0}, {"x": [2.4]}]}
    assert ask(server, "regress", body) == (200, '{\n    "results": [2.0, 2.2]\n}')


def test_rest_takes_a_context_and_features_of_every_kind(server):
    body = {
        "signature_name": "classify_x",
        "context": {"x": 2.0, "text": ["a", {"b64": "aGk="}], "flag": True, "none": []},
        "examples": [{}, {"number": [1, 2]}],
    }
    status, text = ask(server, "classify", body)
    assert (status, json.loads(text)) == (
        200,
        {"results": [[["a", 2.0], ["b", -1.0]], [["a", 2.0], ["b", -1.0]]]},
    )


REFUSED_BODIES = {
    "examples value is no list": (
        {"examples": {}},
        "JSON Value: {\n    \"examples\": {}\n} Expecting 'examples' value to be an list/array",
    ),
    "no examples": (
        {"examples": []},
        "JSON Value: {\n    \"examples\": []\n} 'examples' value is an empty array",
    ),
    "context is no object": (
        {"context": "a", "examples": [{}]},
        "Example must be JSON object but got JSON String",
    ),
    "null": (
        {"examples": [{"x": None}]},
        "Feature: x has element with unexpected JSON type: Null",
    ),
    "a list in a list": (
        {"examples": [{"x": [[1.0]]}]},
        "Feature: x has element with unexpected JSON type: Array",
    ),
    "an object": (
        {"examples": [{"x": {"y": 1}}]},
        "Feature: x has element with unexpected JSON type: Object",
    ),
    "two kinds": (
        {"examples": [{"x": [1.0, "a"]}]},
        "Unexpected element type in feature: x expecting type: float",
    ),
    "a large integer": (
        {"examples": [{"x": 2**63}]},
        "Feature: x has uint64 element. Only int64 is supported.",
    ),
    "a large float": (
        {"examples": [{"x": 1e300}]},
        "Cannot convert JSON value: 1e+300 to float without loss of precision.",
    ),
    "not base64": ({"examples": [{"x": {"b64": "?"}}]}, "Unable to base64 decode"),
    "a signature of another kind": (
        {"signature_name": "lists", "examples": [{"x": 1.0}]},
        "Expected one input Tensor.",
    ),
}


@pytest.mark.parametrize("case", REFUSED_BODIES)
def test_rest_bodies_that_are_none_are_refused(server, case):
    body, message = REFUSED_BODIES[case]
    assert ask(server, "regress", body) == (400, json.dumps({"error": message}, indent=4))


def test_calls_are_counted_under_their_names(server, stub):
    stub.Regress(regression_pb2.RegressionRequest(model_spec=spec(), input=examples(1.0)))
    ask(server, "regress", {"signature_name": "regress_x", "examples": [{"x": 2.0}]})
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_api_port, timeout=WAIT_S)
    connection.request("GET", "/monitoring/prometheus/metrics")
    page = connection.getresponse().read().decode()
    connection.close()

    for api, entrypoint in (("Regress", "GRPC"), ("regress", "REST")):
        labels = f'model_name="toy",API="{api}",entrypoint="{entrypoint}"'
        assert f":tensorflow:serving:request_latency_count{{{labels}}}" in page


@pytest.mark.parametrize(
    ("num_examples", "context_bytes", "message"),
    [
        (4097, 0, "`input` must have at most --max_batch_size=4096 examples. Received: 4097."),
        (4001, 20_000, "A context must not take more than 16777216 bytes in all further examples."),
    ],
)
def test_a_context_costs_no_more_than_what_the_request_carries(
    stub, num_examples, context_bytes, message
):
    context = tf.train.Example()
    context.features.feature["y"].bytes_list.value.append(b"x" * context_bytes)
    empty = [tf.train.Example()] * num_examples
    request = classification_pb2.ClassificationRequest(
        model_spec=spec("classify_x"),
        input={"example_list_with_context": {"examples": empty, "context": context}},
    )

    code, details = error_of(stub.Classify, request)

    assert code == "INVALID_ARGUMENT"
    assert details.startswith(message)


def test_calls_for_examples_say_and_count_what_answered(server, stub):
    request = classification_pb2.ClassificationRequest(
        model_spec=spec("classify_x"), input=examples(2.0)
    )
    _, call = stub.Classify.with_call(request)
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_api_port, timeout=WAIT_S)
    body = json.dumps({"signature_name": "regress_x", "examples": [{"x": 2.0}]})
    connection.request("POST", "/v1/models/toy:regress", body)
    response = connection.getresponse()
    response.read()
    connection.request("GET", "/monitoring/prometheus/metrics")
    page = connection.getresponse().read().decode()

    metadata = dict(call.trailing_metadata())
    assert metadata["tagtower-model-version"] == response.headers["tagtower-model-version"] == "1"
    assert metadata["tagtower-signature"] == "classify_x"
    assert response.headers["tagtower-signature"] == "regress_x"
    labels = 'model_name="toy",version="1",label="",signature="classify_x",entrypoint="GRPC"'
    assert f':tagtower:answer_count{{{labels},status="OK"}}' in page
