"""Codes, messages and values over gRPC, from a model that needs only this repository."""

import re

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tagtower_client.tensor_proto import COMPACT_ANSWER, to_numpy


@pytest.fixture(scope="module")
def channel(server):
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield channel


@pytest.fixture(scope="module")
def prediction(channel):
    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


@pytest.fixture(scope="module")
def models(channel):
    return model_service_pb2_grpc.ModelServiceStub(channel)


def spec(name="toy", version=None, label=None, signature=""):
    result = model_pb2.ModelSpec(name=name, signature_name=signature)
    if version is not None:
        result.version.value = version
    if label is not None:
        result.version_label = label
    return result


def request(model_spec=None, output_filter=(), **inputs):
    result = predict_pb2.PredictRequest(
        model_spec=model_spec or spec(), output_filter=output_filter
    )
    for name, value in inputs.items():
        is_proto = isinstance(value, tensor_pb2.TensorProto)
        result.inputs[name].CopyFrom(value if is_proto else tf.make_tensor_proto(value))
    return result


X = np.array([1.0, 2.0], np.float32)
TWO = {"a": np.array([[1, 2], [3, 4]], np.float32), "s_bytes": ["hi", "plain"]}


def test_predict_latest_version_gives_values_and_complete_model_spec(prediction):
    response = prediction.Predict(request(x=X))
    assert list(response.outputs["y"].float_val) == [2.5, 3.0]
    assert response.outputs["y"].tensor_content == b""
    assert [dim.size for dim in response.outputs["y"].tensor_shape.dim] == [2]
    assert response.model_spec == spec(version=2, signature="serving_default")


def test_predict_given_version_is_answered_by_it(prediction):
    response = prediction.Predict(request(spec(version=1), x=X))
    assert list(response.outputs["y"].float_val) == [1.5, 2.0]
    assert response.model_spec.version.value == 1


def test_predict_several_inputs_gives_all_outputs(prediction):
    response = prediction.Predict(request(spec(signature="two"), **TWO))
    assert list(response.outputs["sum"].float_val) == [5.0, 9.0]
    assert list(response.outputs["n"].int64_val) == [2, 5]
    assert list(response.outputs["echo_bytes"].string_val) == [b"hi", b"plain"]


def test_predict_output_filter_gives_only_what_is_named(prediction):
    response = prediction.Predict(request(spec(signature="two"), ["n", "sum"], **TWO))
    assert sorted(response.outputs) == ["n", "sum"]
    assert list(response.outputs["n"].int64_val) == [2, 5]
    assert list(response.outputs["sum"].float_val) == [5.0, 9.0]


def test_predict_all_kinds_of_output_come_in_their_fields(prediction):
    response = prediction.Predict(request(spec(signature="kinds"), i=np.array([1, 2], np.int32)))
    assert list(response.outputs["scalar"].int_val) == [3]
    assert list(response.outputs["scalar"].tensor_shape.dim) == []
    assert list(response.outputs["is_even"].bool_val) == [False, True]
    assert list(response.outputs["text"].string_val) == [b"1", b"2"]
    assert list(response.outputs["wide"].double_val) == [1 / 3, 2 / 3]


def test_predict_compact_answer_on_request_says_the_same(prediction):
    i = np.array([1, 2], np.int32)
    asked = request(spec(signature="kinds"), i=i)
    usual = prediction.Predict(asked)
    compact = prediction.Predict(asked, metadata=(COMPACT_ANSWER,))
    assert compact.model_spec == usual.model_spec
    assert sorted(compact.outputs) == sorted(usual.outputs)
    for name, tensor in compact.outputs.items():
        assert [field.name for field, _ in tensor.ListFields()] == [
            "dtype",
            "tensor_shape",
            "tensor_content",
        ]
        read_by_tensorflow = tf.io.parse_tensor(tensor.SerializeToString(), tensor.dtype)
        expected = tf.make_ndarray(usual.outputs[name]).tolist()
        assert read_by_tensorflow.numpy().tolist() == to_numpy(tensor).tolist() == expected


def test_predict_short_value_list_repeats_the_last(prediction):
    tensor = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, float_val=[1.0, 2.0])
    for size in (2, 3):
        tensor.tensor_shape.dim.add(size=size)
    response = prediction.Predict(request(spec(signature="two"), a=tensor, s_bytes=["hi", "x"]))
    assert list(response.outputs["sum"].float_val) == [7.0, 8.0]


def test_predict_value_repeated_over_examples_is_refused(prediction):
    tensor = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, float_val=[1.0, 2.0])
    tensor.tensor_shape.dim.add(size=4)
    with pytest.raises(grpc.RpcError) as caught:
        prediction.Predict(request(x=tensor))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details() == (
        "`x` must have a value for each of its 4 examples: values are repeated only within an "
        "example. Received: 2 values."
    )


def test_predict_wrong_rank_is_left_to_the_operations(prediction):
    response = prediction.Predict(request(x=np.ones([2, 2], np.float32)))
    assert list(response.outputs["y"].float_val) == [2.5] * 4
    assert [dim.size for dim in response.outputs["y"].tensor_shape.dim] == [2, 2]


def test_predict_empty_batch_gives_an_empty_batch(prediction):
    response = prediction.Predict(request(x=np.zeros([0], np.float32)))
    assert list(response.outputs["y"].float_val) == []
    assert [dim.size for dim in response.outputs["y"].tensor_shape.dim] == [0]


MALFORMED = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, tensor_content=b"123")
MALFORMED.tensor_shape.dim.add(size=2)

REFUSED = {
    "no model_spec": (
        predict_pb2.PredictRequest(),
        "INVALID_ARGUMENT",
        "Missing ModelSpec",
    ),
    "empty name": (
        request(spec("")),
        "INVALID_ARGUMENT",
        "ModelSpec has no name specified.",
    ),
    "unknown model": (
        request(spec("nope")),
        "NOT_FOUND",
        "Servable not found for request: Latest(nope)",
    ),
    "unknown version": (
        request(spec(version=99)),
        "NOT_FOUND",
        "Servable not found for request: Specific(toy, 99)",
    ),
    "unknown label": (
        request(spec(label="zzz")),
        "INVALID_ARGUMENT",
        "Unrecognized servable version label: zzz",
    ),
    "bad signature": (
        request(spec(signature="nosig")),
        "FAILED_PRECONDITION",
        'Serving signature key "nosig" not found.',
    ),
    "missing input": (
        request(spec(signature="two"), a=TWO["a"]),
        "INVALID_ARGUMENT",
        "input size does not match signature: 1!=2 len({a}) != len({a,s_bytes}). "
        "Sent extra: {}. Missing but required: {s_bytes}.",
    ),
    "extra input": (
        request(x=X, zz=X),
        "INVALID_ARGUMENT",
        "input size does not match signature: 2!=1 len({x,zz}) != len({x}). "
        "Sent extra: {zz}. Missing but required: {}.",
    ),
    "wrong name": (
        request(zz=X),
        "INVALID_ARGUMENT",
        "Signature input alias: x(feed name: serving_default_x:0) not found in request and no "
        "default value provided. Inputs expected to be in the request {zz}, or default input "
        "alias set: ",
    ),
    "malformed tensor": (
        request(x=MALFORMED),
        "INVALID_ARGUMENT",
        "tensor parsing error: x",
    ),
    "type left out": (
        request(x=tensor_pb2.TensorProto(float_val=[1.0])),
        "INVALID_ARGUMENT",
        "tensor parsing error: x",
    ),
    "wrong type": (
        request(x=np.array([1])),
        "INVALID_ARGUMENT",
        "Expects arg[0] to be float but int64 is provided",
    ),
    "wrong type of the second input": (
        request(spec(signature="two"), a=TWO["a"], s_bytes=X),
        "INVALID_ARGUMENT",
        "Expects arg[1] to be string but float is provided",
    ),
    "unknown output": (
        request(output_filter=["q"], x=X),
        "INVALID_ARGUMENT",
        "output tensor alias not found in signature: q Outputs expected to be in the set {y}.",
    ),
    "output twice": (
        request(output_filter=["y", "y"], x=X),
        "INVALID_ARGUMENT",
        "duplicate output tensor alias: y",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_predict_refused_request_has_the_real_servers_code_and_message(prediction, case):
    sent, code, message = REFUSED[case]
    with pytest.raises(grpc.RpcError) as caught:
        prediction.Predict(sent)
    assert (caught.value.code().name, caught.value.details()) == (code, message)


def test_predict_error_of_an_operation_is_passed_on(prediction):
    with pytest.raises(grpc.RpcError) as caught:
        prediction.Predict(request(spec(signature="two"), a=X, s_bytes=["hi"]))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert re.match(r"Invalid reduction dimension .*\n\t \[\[\{\{", caught.value.details())


def test_predict_long_message_is_cut(prediction):
    with pytest.raises(grpc.RpcError) as caught:
        prediction.Predict(request(spec("n" * 3000), x=X))
    assert len(caught.value.details()) == 1024 + len("...TRUNCATED")
    assert caught.value.details().endswith("n...TRUNCATED")


def test_metadata_holds_all_signatures_and_no_signature_name(prediction):
    response = prediction.GetModelMetadata(
        get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=spec(), metadata_field=["signature_def"]
        )
    )
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    assert sorted(signatures.signature_def) == [
        "__saved_model_init_op",
        "kinds",
        "serving_default",
        "two",
    ]
    x = signatures.signature_def["serving_default"].inputs["x"]
    assert (x.name, x.dtype) == ("serving_default_x:0", types_pb2.DT_FLOAT)
    assert response.model_spec == spec(version=2)


@pytest.mark.parametrize(
    ("sent", "code", "message"),
    [
        ({"metadata_field": ["signature_def"]}, "INVALID_ARGUMENT", "Missing ModelSpec"),
        (
            {"model_spec": spec()},
            "INVALID_ARGUMENT",
            "GetModelMetadataRequest must specify at least one metadata_field",
        ),
        (
            {"model_spec": spec(), "metadata_field": ["zz"]},
            "INVALID_ARGUMENT",
            "Metadata field zz is not supported",
        ),
        (
            {"model_spec": spec(version=9), "metadata_field": ["signature_def"]},
            "NOT_FOUND",
            "Servable not found for request: Specific(toy, 9)",
        ),
    ],
)
def test_metadata_refused_request_has_the_real_servers_code_and_message(
    prediction, sent, code, message
):
    with pytest.raises(grpc.RpcError) as caught:
        prediction.GetModelMetadata(get_model_metadata_pb2.GetModelMetadataRequest(**sent))
    assert (caught.value.code().name, caught.value.details()) == (code, message)


def status_request(model_spec):
    return get_model_status_pb2.GetModelStatusRequest(model_spec=model_spec)


def test_status_gives_all_versions_highest_first_and_ignores_a_label(models):
    for model_spec in (spec(), spec(label="zz")):
        response = models.GetModelStatus(status_request(model_spec))
        answered = [(status.version, status.state) for status in response.model_version_status]
        assert answered == [(2, 30), (1, 30)]


def test_status_of_one_version_gives_it_alone(models):
    (status,) = models.GetModelStatus(status_request(spec(version=1))).model_version_status
    assert (status.version, status.state, status.status.error_code) == (1, 30, 0)


@pytest.mark.parametrize(
    ("model_spec", "code", "message"),
    [
        (None, "INVALID_ARGUMENT", "Missing ModelSpec"),
        (spec("nope"), "NOT_FOUND", "Could not find any versions of model nope"),
        (spec(""), "NOT_FOUND", "Could not find any versions of model "),
        (spec(version=9), "NOT_FOUND", "Could not find version 9 of model toy"),
    ],
)
def test_status_refused_request_has_the_real_servers_code_and_message(
    models, model_spec, code, message
):
    with pytest.raises(grpc.RpcError) as caught:
        models.GetModelStatus(status_request(model_spec))
    assert (caught.value.code().name, caught.value.details()) == (code, message)
