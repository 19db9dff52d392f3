"""This server's answers equal those recorded from TensorFlow Serving 2.16.1.

The recording and the models it was made with lie beside the checkout, in `../shared/contract`; a
clone without them skips this file. Every case is asked.
"""

import ast
import dataclasses
import gzip
import http.client
import importlib.util
import json
import pathlib
import re

import grpc
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from google.protobuf import text_format
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from serving.model_server.models.model_config import ModelConfig
from serving.model_server.models.version_policy import AllVersions
from serving.model_server.server import ModelServer
from serving.model_server.session.inference import REGRESS_METHOD

CONTRACT = pathlib.Path(__file__).parents[4] / "shared" / "contract"
RECORDING = CONTRACT / "recorded_cases.txt"

pytestmark = pytest.mark.skipif(
    not RECORDING.is_file(), reason="the recording of TensorFlow Serving is not beside the checkout"
)

# Cases of another layout, each with a test of its own below.
GZIP = re.compile(r"\[REST\] gzip body (b'.*')")
METRICS = re.compile(r"\[REST\] GET /monitoring/\S+ .*")


@dataclasses.dataclass(frozen=True)
class Case:
    request: str
    answer: str


LINES = RECORDING.read_text().splitlines() if RECORDING.is_file() else []
CASES = [
    Case(line, following.strip())
    for line, following in zip(LINES, LINES[1:], strict=False)
    if line.startswith("[") and following.startswith("    ")
]
GRPC_CASES = [case for case in CASES if case.request.startswith("[gRPC] ")]
OTHER_REST_CASES = [case for case in CASES if METRICS.fullmatch(case.request)]
REST_CASES = [
    case for case in CASES if case.request.startswith("[REST] ") and case not in OTHER_REST_CASES
]


@pytest.fixture(scope="module")
def recorded_server(tmp_path_factory):
    source = importlib.util.spec_from_file_location("make_models", CONTRACT / "make_models.py")
    make_models = importlib.util.module_from_spec(source)
    source.loader.exec_module(make_models)
    # Errors name a layer, whose name counts the layers that this process has made before.
    tf_keras.backend.clear_session()
    folder = tmp_path_factory.mktemp("recorded")
    for version in (1, 2):
        make_models.save_toy(str(folder / "toy" / str(version)), version)
    make_models.save_tags(str(folder / "tags" / "1"), num_tags=1000)
    configs = [
        ModelConfig("toy", str(folder / "toy"), AllVersions(), {"canary": 2, "stable": 1}),
        ModelConfig("tags", str(folder / "tags")),
    ]
    with ModelServer(configs, rest_api_port=0, host="127.0.0.1") as server:
        wanted = {"toy": [2, 1], "tags": [1]}
        assert server.manager.wait_until(
            lambda: server.manager.is_ready and server.manager.available_versions() == wanted, 60
        )
        yield server


def spec(name="toy", version=None, label=None, signature=""):
    result = model_pb2.ModelSpec(name=name, signature_name=signature)
    if version is not None:
        result.version.value = version
    if label is not None:
        result.version_label = label
    return result


def predict(model_spec=None, output_filter=(), **inputs):
    request = predict_pb2.PredictRequest(
        model_spec=model_spec or spec(), output_filter=output_filter
    )
    for name, value in inputs.items():
        is_proto = isinstance(value, tensor_pb2.TensorProto)
        request.inputs[name].CopyFrom(value if is_proto else tf.make_tensor_proto(value))
    return request


def metadata(model_spec=None, field="signature_def"):
    return get_model_metadata_pb2.GetModelMetadataRequest(
        model_spec=model_spec, metadata_field=[field]
    )


def status(model_spec=None):
    return get_model_status_pb2.GetModelStatusRequest(model_spec=model_spec)


X = np.array([1.0], np.float32)
A = np.array([[1.0, 1.0]], np.float32)
MALFORMED = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, tensor_content=b"123")
MALFORMED.tensor_shape.dim.add(size=1)

GRPC_REQUESTS = {
    "Predict empty model name": predict(spec(""), x=X),
    "Predict unknown model": predict(spec("nope"), x=X),
    "Predict unknown version": predict(spec(version=99), x=X),
    "Predict unknown label": predict(spec(label="zzz"), x=X),
    "Predict bad signature": predict(spec(signature="nosig"), x=X),
    "Predict missing input (0 of 1)": predict(),
    "Predict extra input": predict(x=X, zz=X),
    "Predict missing 1 of 2": predict(spec(signature="two"), a=A),
    "Predict wrong dtype (int64 for float)": predict(x=np.array([1])),
    "Predict wrong rank": predict(x=np.ones([2, 2], np.float32)),
    "Predict tags wrong inner dim": predict(spec("tags"), query=np.ones([1, 63], np.float32)),
    "Predict tags rank 1": predict(spec("tags"), query=np.ones([64], np.float32)),
    "Predict malformed tensor (content size)": predict(x=MALFORMED),
    "Predict duplicate output_filter": predict(output_filter=["y", "y"], x=X),
    "Predict output_filter subset": predict(spec(signature="two"), ["sum"], a=A, s_bytes=["hi"]),
    "Predict tags empty batch [0,64]": predict(spec("tags"), query=np.ones([0, 64], np.float32)),
    "Predict tags NaN query": predict(spec("tags"), query=np.full([1, 64], np.nan, np.float32)),
    "Predict classify-shaped sig via Predict (serialized Example)": predict(
        spec("tags", signature="classify"), examples=["garbage"]
    ),
    "GetModelMetadata ok": metadata(spec()),
    "GetModelMetadata bad field": metadata(spec(), "zz"),
    "GetModelMetadata no spec": metadata(),
    "GetModelStatus v2": status(spec(version=2)),
    "GetModelStatus unknown version": status(spec(version=9)),
    "GetModelStatus no spec": status(),
    "GetModelStatus empty name": status(spec("")),
    "Classify no input": classification_pb2.ClassificationRequest(
        model_spec=spec(signature="classify_x")
    ),
    "Regress on predict signature": regression_pb2.RegressionRequest(model_spec=spec()),
    "MultiInference two models": inference_pb2.MultiInferenceRequest(
        tasks=[
            {"model_spec": spec("toy", signature="regress_x"), "method_name": REGRESS_METHOD},
            {"model_spec": spec("tags"), "method_name": REGRESS_METHOD},
        ]
    ),
    "MultiInference duplicate signature": inference_pb2.MultiInferenceRequest(
        tasks=[{"model_spec": spec(signature="regress_x"), "method_name": REGRESS_METHOD}] * 2
    ),
}


def ask(server, method, path, body=None, headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_api_port, timeout=30)
    connection.request(method, path, body, headers or {})
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return response.status, response.getheader("Content-Type"), text


def without_function_numbers(text):
    # Names of traced functions carry the method's name and a running number.
    return re.sub(r"__inference_\w+", "__inference", text)


@pytest.mark.parametrize("case", GRPC_CASES, ids=lambda case: case.request)
def test_grpc_answer_equals_the_recorded_one(recorded_server, case):
    request = GRPC_REQUESTS[case.request.removeprefix("[gRPC] ")]
    with grpc.insecure_channel(f"127.0.0.1:{recorded_server.port}") as channel:
        prediction = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        models = model_service_pb2_grpc.ModelServiceStub(channel)
        calls = {
            predict_pb2.PredictRequest: prediction.Predict,
            get_model_metadata_pb2.GetModelMetadataRequest: prediction.GetModelMetadata,
            get_model_status_pb2.GetModelStatusRequest: models.GetModelStatus,
            classification_pb2.ClassificationRequest: prediction.Classify,
            regression_pb2.RegressionRequest: prediction.Regress,
            inference_pb2.MultiInferenceRequest: prediction.MultiInference,
        }
        try:
            response = calls[type(request)](request)
        except grpc.RpcError as error:
            code, message = case.answer.split(": ", 1)
            assert error.code().name == code
            expected = without_function_numbers(ast.literal_eval(message))
            assert without_function_numbers(error.details()) == expected
            return
    assert case.answer.startswith("OK ")
    if case.request.endswith("GetModelMetadata ok"):  # the recording is cut
        assert response.metadata["signature_def"].type_url.endswith("SignatureDefMap")
        assert response.model_spec == spec(version=2)
        return
    assert response == text_format.Parse(case.answer.removeprefix("OK "), type(response)())


@pytest.mark.parametrize("case", REST_CASES, ids=lambda case: case.request[:80])
def test_rest_answer_equals_the_recorded_one(recorded_server, case):
    method, path, body = re.fullmatch(r"\[REST\] (\S+) (\S+) (.*)", case.request).groups()
    code, content_type, text = re.fullmatch(
        r"(\d+) ((?:application|text)/\S+(?: charset=\S+)?) (.*)", case.answer
    ).groups()
    headers = {}
    if method == "OPTIONS" and code == "200":
        headers = {"Origin": "https://example.org"}  # the recording does not show it
    if path == "/v1/models/tags:predict":  # long bodies are cut in the recording
        key, length = ("instances", 63) if "instances" in body else ("inputs", 64)
        body = json.dumps({key: [[0.1] * length]})
    else:
        body = ast.literal_eval(body)
    status, received_type, received = ask(
        recorded_server, method, path, None if body == "null" else body, headers
    )

    assert (status, received_type) == (int(code), content_type)
    if text.endswith("…'"):  # cut; what can be compared is the outermost keys
        keys = re.findall(r'^(?: {8})?"(\w+)"', ast.literal_eval(text), re.MULTILINE)
        assert keys and all(f'"{key}"' in received for key in keys)
        return
    expected = ast.literal_eval(text)
    if code == "200" and expected:
        # The order of keys is not fixed. NaN equals nothing, so texts are compared where there is
        # one.
        parse = {"parse_constant": str}
        assert json.loads(received, **parse) == json.loads(expected, **parse)
    else:
        assert without_function_numbers(received) == without_function_numbers(expected)


@pytest.mark.parametrize("case", OTHER_REST_CASES, ids=lambda case: case.request[:80])
def test_rest_case_of_another_kind(recorded_server, case):
    status, content_type, text = ask(recorded_server, "GET", "/monitoring/prometheus/metrics")
    assert (status, content_type) == (200, "text/plain")
    recorded = {line for line in LINES if line.startswith("metrics: ")}.pop()
    kinds = re.findall(r"^# TYPE (\S+ \S+)$", text, re.MULTILINE)
    assert kinds
    foreign = [kind for kind in kinds if not kind.startswith(":tagtower:")]  # ours are beside
    assert [kind for kind in foreign if f"'{kind}'" not in recorded] == []


def test_gzip_body_is_answered_as_recorded(recorded_server):
    (expected,) = [match[1] for line in LINES if (match := GZIP.fullmatch(line))]
    _, _, text = ask(
        recorded_server,
        "POST",
        "/v1/models/toy:predict",
        gzip.compress(b'{"instances": [1.0]}'),
        {"Content-Encoding": "gzip"},
    )
    assert text.encode() == ast.literal_eval(expected)


def test_labels_of_the_recording_are_answered_by_their_versions(recorded_server):
    body = '{"instances": [1.0]}'
    for label, expected in (("stable", [1.5]), ("canary", [2.5])):
        _, _, text = ask(recorded_server, "POST", f"/v1/models/toy/labels/{label}:predict", body)
        assert json.loads(text) == {"predictions": expected}


def test_every_recorded_case_is_compared():
    recorded = [line for line in LINES if re.match(r"\[(gRPC|REST)", line)]
    assert len(recorded) == len(GRPC_CASES) + len(REST_CASES) + len(OTHER_REST_CASES) + 1  # gzip
    assert sorted(GRPC_REQUESTS) == sorted(
        case.request.removeprefix("[gRPC] ") for case in GRPC_CASES
    )
