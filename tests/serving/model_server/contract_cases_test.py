"""Cases of the contract beyond the recorded ones, with the source line that decides each.

Sources, of TensorFlow Serving 2.16: util/json_tensor.cc (JT), model_servers/http_rest_api_util.cc
(RU), http_rest_api_handler.cc (RH), http_server.cc (HS), servables/tensorflow/predict_util.cc (PU);
of TensorFlow: cc/saved_model/util.cc (SU), core/framework/tensor.cc (T).
"""

import base64
import http.client
import json

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from serving.model_server.models.model_config import ModelConfig
from serving.model_server.models.version_policy import AllVersions
from serving.model_server.server import ModelServer

WAIT_S = 60.0


@pytest.fixture(scope="module")
def contract_server(toy_versions, types_versions):
    """Runs a server of both versions of `toy`, labelled, and of `types`."""
    configs = [
        ModelConfig("toy", str(toy_versions), AllVersions(), {"canary": 2, "stable": 1}),
        ModelConfig("types", str(types_versions)),
    ]
    with ModelServer(configs, rest_api_port=0, host="127.0.0.1") as server:
        server.wait_until_available(WAIT_S)
        yield server


@pytest.fixture(scope="module")
def ask(contract_server):
    def ask(method, path, body=None, headers=None):
        connection = http.client.HTTPConnection(
            "127.0.0.1", contract_server.rest_api_port, timeout=WAIT_S
        )
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    return ask


@pytest.fixture(scope="module")
def prediction(contract_server):
    with grpc.insecure_channel(f"127.0.0.1:{contract_server.port}") as channel:
        yield prediction_service_pb2_grpc.PredictionServiceStub(channel)


def echo(ask, signature, key, value):
    """Returns the answer of one data type's signature to a JSON text."""
    body = f'{{"signature_name": "{signature}", "{key}": {value}}}'
    status, text = ask("POST", "/v1/models/types:predict", body)
    return status, json.loads(text)


INTEGERS = {
    "int8": (-128, 127),
    "int16": (-(2**15), 2**15 - 1),
    "int32": (-(2**31), 2**31 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "uint8": (0, 255),
    "uint32": (0, 2**32 - 1),
    "uint64": (0, 2**64 - 1),
}


@pytest.mark.parametrize("name", INTEGERS)
def test_integers_go_in_and_out_to_their_limits(ask, name):
    # JT AddValueToTensor, AddSingleValueAndAdvance.
    limits = list(INTEGERS[name])
    assert echo(ask, name, "inputs", limits) == (200, {"outputs": limits})
    assert echo(ask, name, "instances", limits) == (200, {"predictions": limits})


@pytest.mark.parametrize("name", INTEGERS)
@pytest.mark.parametrize("value", ["1.0", '"1"', "true", "99999999999999999999"])
def test_integers_refuse_whatever_is_none(ask, name, value):
    # JT AddValueToTensor: IsInt, IsInt64, IsUint, IsUint64.
    shown, kind = {
        "1.0": ("1.0", "Number"),
        '"1"': ('"1"', "String"),
        "true": ("true", "True"),
        "99999999999999999999": ("1e+20", "Number"),
    }[value]
    assert echo(ask, name, "inputs", value) == (
        400,
        {"error": f"JSON Value: {shown} Type: {kind} is not of expected type: {name}"},
    )


def test_small_integers_are_cut_as_by_the_protos_field(ask):
    # JT AddValueToTensor takes any int32; T FromProtoField casts.
    assert echo(ask, "int8", "inputs", [300, -129]) == (200, {"outputs": [44, 127]})
    assert echo(ask, "uint8", "inputs", [256, -1]) == (200, {"outputs": [0, 255]})


@pytest.mark.parametrize("value", [-1, 2**32])
def test_unsigned_integers_refuse_what_is_out_of_range(ask, value):
    # JT AddValueToTensor: IsUint.
    status, answer = echo(ask, "uint32", "inputs", value)
    assert status == 400
    assert answer["error"].startswith(f"JSON Value: {value} Type: Number is not of expected type")


def test_bools_go_in_and_out_and_take_nothing_else(ask):
    assert echo(ask, "bool", "inputs", "[true, false]") == (200, {"outputs": [True, False]})
    assert echo(ask, "bool", "inputs", "1") == (
        400,
        {"error": "JSON Value: 1 Type: Number is not of expected type: bool"},
    )


@pytest.mark.parametrize("name", ["float", "double"])
def test_floats_take_integers_up_to_what_they_hold_exactly(ask, name):
    # JT IsLosslessDecimal.
    signature, limit = {"float": ("float32", 2**24), "double": ("float64", 2**53)}[name]
    assert echo(ask, signature, "inputs", limit - 1) == (200, {"outputs": float(limit - 1)})
    assert echo(ask, signature, "inputs", limit) == (
        400,
        {"error": f"Cannot convert JSON value: {limit} to {name} without loss of precision."},
    )


def test_float_refuses_a_decimal_beyond_its_range(ask):
    # JT IsLosslessDecimal; JsonValueToString writes it as a double.
    assert echo(ask, "float32", "inputs", "1e39") == (
        400,
        {"error": "Cannot convert JSON value: 1e+39 to float without loss of precision."},
    )


def test_integer_beyond_every_type_is_refused(ask):
    status, _ = echo(ask, "float64", "inputs", "9" * 400)
    assert status == 400
    status, _ = echo(ask, "int64", "inputs", "9" * 400)
    assert status == 400


def test_doubles_keep_all_their_digits(ask):
    # JT WriteDecimal: 17 digits where 6 do not give the number back.
    status, text = ask(
        "POST",
        "/v1/models/types:predict",
        '{"signature_name": "float64", "inputs": [0.1, 3.141592653589793, 1e-300, 1e22]}',
    )
    assert status == 200
    assert text.decode().split() == (
        '{ "outputs": [ 0.1, 3.1415926535897931, 1e-300, 1e+22 ] }'.split()
    )


@pytest.mark.parametrize("name", ["half", "uint16", "complex64"])
def test_types_json_has_no_way_for_are_unimplemented(ask, name):
    # JT AddValueToTensor, default; ToHTTPStatusCode of UNIMPLEMENTED.
    signature = "float16" if name == "half" else name
    assert echo(ask, signature, "inputs", "[1]") == (
        501,
        {"error": f"Conversion of JSON Value: 1 to type: {name}"},
    )
    # JT FillTensorMapFromInstancesList makes INVALID_ARGUMENT of it.
    assert echo(ask, signature, "instances", "[1]") == (
        400,
        {
            "error": "Failed to process element: 0 of 'instances' list. Error: UNIMPLEMENTED: "
            f"Conversion of JSON Value: 1 to type: {name}"
        },
    )


def test_strings_go_in_and_out_with_every_character(ask):
    text = 'é\U0001f600"\\/\b\f\n\r\t\x01\x1f'
    status, answer = echo(ask, "string", "inputs", json.dumps([text]))
    assert (status, answer) == (200, {"outputs": [text]})


def test_control_characters_come_out_in_capitals_and_bytes_as_they_are(ask):
    # RapidJSON writer.h: hexDigits; no check of the encoding.
    raw = base64.b64encode(b"\x1f\xff\\u001f").decode()
    body = f'{{"signature_name": "string", "inputs": {{"b64": "{raw}"}}}}'
    status, text = ask("POST", "/v1/models/types:predict", body)
    assert (status, text) == (200, b'{\n    "outputs": "\\u001F\xff\\\\u001f"\n}')


def test_bytes_in_a_json_string_go_through(ask):
    body = b'{"signature_name": "string", "inputs": ["\xff"]}'
    status, text = ask("POST", "/v1/models/types:predict", body)
    assert (status, text) == (200, b'{\n    "outputs": [\n        "\xff"\n    ]\n}')


@pytest.mark.parametrize(
    ("text", "decoded"),
    [("aGk=", "hi"), ("aGk", "hi"), ("a G\\nk=", "hi"), ("aGk.", "hi"), ("", "")],
)
def test_base64_is_taken_with_and_without_padding(ask, text, decoded):
    # absl/strings/escaping.cc, Base64Unescape.
    assert echo(ask, "string", "inputs", f'[{{"b64": "{text}"}}]') == (200, {"outputs": [decoded]})


@pytest.mark.parametrize("text", ["*", "a", "aGk==", "aG=k"])
def test_base64_that_is_none_is_refused(ask, text):
    expected = (400, {"error": "Unable to base64 decode"})
    assert echo(ask, "string", "inputs", f'[{{"b64": "{text}"}}]') == expected


REFUSED_STRINGS = {
    # JT JsonDecodeBase64Object, AddValueToTensor.
    '[{"b64": "aGk=", "x": 1}]': 'JSON Value: {\n    "b64": "aGk=",\n    "x": 1\n} not formatted '
    "correctly for base64 data",
    '[{"b64": 1}]': 'JSON Value: {\n    "b64": 1\n} not formatted correctly for base64 data',
    "[1.5]": "JSON Value: 1.5 Type: Number is not of expected type: string",
    "[null]": "JSON Value: null Type: Null is not of expected type: string",
}


@pytest.mark.parametrize("value", REFUSED_STRINGS)
def test_strings_refuse_whatever_is_none(ask, value):
    expected = (400, {"error": REFUSED_STRINGS[value]})
    assert echo(ask, "string", "inputs", value) == expected


@pytest.mark.parametrize(
    "value", ["4.0", "[]", "[[]]", "[[], []]", "[[1.0], [2.0]]", "[[[1.0, 2.0]]]", "NaN"]
)
def test_columns_of_any_shape_come_back(ask, value):
    # JT GetDenseTensorShape, AddTensorValues.
    status, text = ask(
        "POST", "/v1/models/types:predict", f'{{"signature_name": "float32", "inputs": {value}}}'
    )
    parse = {"parse_constant": str}
    assert (status, json.loads(text, **parse)) == (200, {"outputs": json.loads(value, **parse)})


@pytest.mark.parametrize("value", ["[[]]", "[[1.0], [2.0]]", "[[[1.0, 2.0]], [[3.0, 4.0]]]"])
def test_rows_of_any_shape_come_back(ask, value):
    expected = (200, {"predictions": json.loads(value)})
    assert echo(ask, "float32", "instances", value) == expected


def test_no_rows_from_the_model_are_an_empty_list(ask):
    # JT MakeRowFormatJsonFromTensors.
    assert echo(ask, "filled", "instances", "[0]") == (200, {"predictions": []})


RAGGED_COLUMNS = {
    # JT FillTensorProto.
    "[[1.0], 2.0]": "JSON Value: 2.0 found at incorrect level: 2 in the JSON DOM. Expected at "
    "level: 2",
    "[1.0, [2.0]]": "Encountered list at unexpected level: 1 expected < 1",
    "[[1.0], [2.0, 3.0]]": "Encountered list at unexpected size: 2 at level: 1 expected size: 1",
    "[[], [1.0]]": "Encountered list at unexpected size: 1 at level: 1 expected size: 0",
    "null": "JSON Value: null Type: Null is not of expected type: float",
    '[{"a": 1}]': 'JSON Value: {\n    "a": 1\n} Type: Object is not of expected type: float',
    "3.141592653589793e40": "Cannot convert JSON value: 3.1415926535897932e+40 to float without "
    "loss of precision.",
    "{}": "Missing named input: v in 'inputs' object.",
}


@pytest.mark.parametrize("value", RAGGED_COLUMNS)
def test_wrong_columns_have_the_real_servers_words(ask, value):
    expected = (400, {"error": RAGGED_COLUMNS[value]})
    assert echo(ask, "float32", "inputs", value) == expected


RAGGED_ROWS = {
    # JT AddInstanceItem, FillTensorMapFromInstancesList.
    "[[1.0], [2.0, 3.0]]": "Failed to process element: 1 of 'instances' list. Error: "
    "INVALID_ARGUMENT: Expecting tensor size: 1 but got: 2",
    "[[1.0], [[2.0]]]": "Failed to process element: 1 of 'instances' list. Error: "
    "INVALID_ARGUMENT: Expecting shape [1] but got: [1,1]",
    "[1.0, [2.0]]": "Failed to process element: 1 of 'instances' list. Error: "
    "INVALID_ARGUMENT: Expecting shape [] but got: [1]",
    "[[[1.0], 2.0]]": "Failed to process element: 0 of 'instances' list. Error: "
    "INVALID_ARGUMENT: JSON Value: 2.0 found at incorrect level: 2 in the JSON DOM. Expected at "
    "level: 2",
    '[{"v": 1.0}, 2.0]': "Expecting object but got list at item 1 of input list",
    '[1.0, {"v": 2.0}]': "Expecting value/list but got object at item 1 of input list",
    "[{}]": "Failed to process element: 0 of 'instances' list. JSON object: {} keys must be equal "
    "to: v",
    '[{"v": 1.0, "w": 1}]': "Failed to process element: 0 key: w of 'instances' list. Error: "
    "INVALID_ARGUMENT: JSON object: does not have named input: w",
    '[{"v": "a"}]': "Failed to process element: 0 key: v of 'instances' list. Error: "
    'INVALID_ARGUMENT: JSON Value: "a" Type: String is not of expected type: float',
    "[null]": "Failed to process element: 0 of 'instances' list. Error: INVALID_ARGUMENT: JSON "
    "Value: null Type: Null is not of expected type: float",
}


@pytest.mark.parametrize("value", RAGGED_ROWS)
def test_wrong_rows_have_the_real_servers_words(ask, value):
    expected = (400, {"error": RAGGED_ROWS[value]})
    assert echo(ask, "float32", "instances", value) == expected


WRONG_BODIES = {
    # JT FillPredictRequestFromJson.
    '{"instances": {"x": 1}}': 'JSON Value: {\n    "instances": {\n        "x": 1\n    }\n} '
    "Expecting 'instances' to be an list/array",
    '{"signature_name": 1, "instances": [1]}': 'JSON Value: {\n    "signature_name": 1,\n    '
    "\"instances\": [\n        1\n    ]\n} not formatted correctly. 'signature_name' key must be "
    "a string value.",
    '{"signature_name": "two", "instances": [1]}': "instances is a plain list, but expecting list "
    "of objects as multiple input tensors required as per tensorinfo_map",
    '{"signature_name": "two", "inputs": [1]}': "inputs is a plain value/list, but expecting an "
    "object as multiple input tensors required as per tensorinfo_map",
    '{"signature_name": "two", "inputs": {"a": [[1]]}}': "Missing named input: s_bytes in 'inputs' "
    "object.",
    '{"signature_name": "__saved_model_init_op", "instances": [1]}': "Failed to get input map for "
    "signature: __saved_model_init_op",
    # Numbers in a quoted document are RapidJSON's shortest; what is not finite ends the quotation.
    '{"instances": 1e-7, "x": [1e21, 100000.0, -0.0]}': 'JSON Value: {\n    "instances": 1e-7,\n'
    '    "x": [\n        1e21,\n        100000.0,\n        -0.0\n    ]\n} '
    "Expecting 'instances' to be an list/array",
    '{"instances": NaN}': "JSON Value: {\n    \"instances\":  Expecting 'instances' to be an "
    "list/array",
    '"text"': 'JSON Value: "text" Is not object',
    "null": "JSON Value: null Is not object",
    '{"instances": [1.0]': "JSON Parse error: Missing a comma or } after an object member. at "
    "offset: 19",
}


@pytest.mark.parametrize("body", WRONG_BODIES)
def test_wrong_bodies_have_the_real_servers_words(ask, body):
    status, text = ask("POST", "/v1/models/toy:predict", body)
    assert (status, json.loads(text)) == (400, {"error": WRONG_BODIES[body]})


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('{"signature_name": "", "inputs": [1.0]}', [2.5]),  # RH GetInfoMap: the default value
        ('{"inputs": {"x": [1.0], "zz": 5}}', [2.5]),  # JT: other members are not looked at
        ('{"inputs": [1.0], "other": 5}', [2.5]),
        ('{"inputs": [[1.0], [2.0]]}', [[2.5], [3.0]]),  # shapes are the operations' business
        ('{"inputs": 1.0}', 2.5),
    ],
)
def test_unusual_bodies_are_answered(ask, body, expected):
    status, text = ask("POST", "/v1/models/toy:predict", body)
    assert (status, json.loads(text)) == (200, {"outputs": expected})


PATHS = [
    # RU kPredictionApiGegex, kModelStatusApiRegex; RH ProcessRequest.
    ("POST", "/v1/models/toy/labels/stable:predict", 200, None),
    ("POST", "/v1/models/toy/labels/c%61nary:predict", 200, None),
    ("POST", "/v1/models/toy:predict?x=1", 200, None),
    ("POST", "/v1/models/toy/versions/01:predict", 200, None),
    ("GET", "/v1/models/toy/METADATA", 200, None),
    ("GET", "/v1/models/toy/labels/stable/metadata", 200, None),
    (
        "GET",
        "/v1/models/toy/labels/zz/metadata",
        400,
        "Unrecognized servable version label: zz",
    ),
    ("POST", "/v1/models/nope/labels/zz:predict", 400, "Unrecognized servable version label: zz"),
    ("GET", "/v1/models/metadata", 404, "Could not find any versions of model metadata"),
    ("GET", "/v1/models//metadata", 400, "Malformed request: GET /v1/models//metadata"),
    ("GET", "/v1/models/", 400, "Malformed request: GET /v1/models/"),
    ("GET", "/v1/models/toy/", 400, "Malformed request: GET /v1/models/toy/"),
    ("GET", "/v1/models/toy:predict", 400, "Malformed request: GET /v1/models/toy:predict"),
    ("POST", "/v1/models/toy:predict/", 400, "Malformed request: POST /v1/models/toy:predict/"),
    ("POST", "/v1/models/:predict", 400, "Malformed request: POST /v1/models/:predict"),
    (
        "POST",
        "/v1/models/toy/versions/-1:predict",
        400,
        "Malformed request: POST /v1/models/toy/versions/-1:predict",
    ),
    (
        "POST",
        "/v1/models/toy/versions/1/labels/a:predict",
        400,
        "Malformed request: POST /v1/models/toy/versions/1/labels/a:predict",
    ),
    ("PUT", "/v1/models/toy:predict", 400, "Malformed request: PUT /v1/models/toy:predict"),
    ("PATCH", "/v1/models/toy", 400, "Malformed request: PATCH /v1/models/toy"),
    ("GET", "/v1/models/toy?x=1", 200, None),
    ("GET", "/v1/zzz?x=1", 400, "Malformed request: GET /v1/zzz"),
]


@pytest.mark.parametrize(("method", "path", "expected_status", "message"), PATHS)
def test_path_has_its_status_and_message(ask, method, path, expected_status, message):
    body = '{"instances": [1.0]}' if method != "GET" else None
    status, text = ask(method, path, body)
    assert status == expected_status
    if message is not None:
        assert json.loads(text) == {"error": message}


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        # HS: a path outside /v1/ has no handler, whatever the method.
        ("OPTIONS", "/", {"Origin": "https://example.org"}, 404),
        ("POST", "/v2/models/toy:predict", {}, 404),
        ("GET", "/v1", {}, 404),
        ("GET", "/monitoring/prometheus/metrics/", {}, 404),
        ("OPTIONS", "/v1/zzz", {"Origin": "http://example.org"}, 200),
        ("OPTIONS", "/v1/models/toy:predict", {"Origin": "example.org"}, 400),
    ],
)
def test_what_is_outside_the_api_is_not_found(ask, method, path, headers, status):
    assert ask(method, path, None, headers)[0] == status


def test_damaged_compressed_body_is_an_empty_one(ask):
    # util/net_http/server/internal/evhttp_request.cc: a body that does not unpack is not read.
    status, text = ask("POST", "/v1/models/toy:predict", b"no gzip", {"Content-Encoding": "gzip"})
    assert (status, json.loads(text)) == (400, {"error": "JSON Parse error: The document is empty"})


def test_content_type_of_the_request_does_not_matter(ask):
    headers = {"Content-Type": "text/plain"}
    status, text = ask("POST", "/v1/models/toy:predict", '{"instances": [1.0]}', headers)
    assert (status, json.loads(text)) == (200, {"predictions": [2.5]})


# gRPC.


def request(signature="", model="types", output_filter=(), **tensors):
    sent = predict_pb2.PredictRequest(output_filter=output_filter)
    sent.model_spec.name = model
    sent.model_spec.signature_name = signature
    for name, tensor in tensors.items():
        sent.inputs[name].CopyFrom(
            tensor if isinstance(tensor, tensor_pb2.TensorProto) else tf.make_tensor_proto(tensor)
        )
    return sent


def refusal(prediction, sent):
    with pytest.raises(grpc.RpcError) as caught:
        prediction.Predict(sent)
    return caught.value.code().name, caught.value.details()


VALUES = {
    "bool": np.array([True, False]),
    "float16": np.array([0.5, -2.0], np.float16),
    "float32": np.array([0.1], np.float32),
    "float64": np.array([0.1]),
    "int8": np.array([-128, 127], np.int8),
    "int16": np.array([-300], np.int16),
    "int32": np.array([-(2**31)], np.int32),
    "int64": np.array([2**63 - 1]),
    "uint8": np.array([255], np.uint8),
    "uint16": np.array([65535], np.uint16),
    "uint32": np.array([2**32 - 1], np.uint32),
    "uint64": np.array([2**64 - 1], np.uint64),
    "string": np.array([b"\xff\x00", b""], object),
    "complex64": np.array([1 - 2j], np.complex64),
}


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("shape", ["vector", "scalar", "empty"])
def test_every_type_and_shape_comes_back_over_grpc(prediction, name, shape):
    value = {"vector": VALUES[name], "scalar": VALUES[name][0], "empty": VALUES[name][:0]}[shape]
    proto = tf.make_tensor_proto(value, dtype=tf.as_dtype(name), shape=np.shape(value))
    answer = prediction.Predict(request(name, v=proto)).outputs["v"]
    assert answer.tensor_content == b""
    np.testing.assert_array_equal(tf.make_ndarray(answer), tf.make_ndarray(proto))
    assert answer.dtype == tf.as_dtype(name).as_datatype_enum


@pytest.mark.parametrize("data_type", ["bfloat16", "qint8", "variant", "resource"])
def test_type_numpy_has_not_is_a_wrong_type(prediction, data_type):
    # T FromProto takes it, the function's arguments do not.
    tensor = tensor_pb2.TensorProto(dtype=types_pb2.DataType.Value(f"DT_{data_type.upper()}"))
    assert refusal(prediction, request(model="toy", x=tensor)) == (
        "INVALID_ARGUMENT",
        f"Expects arg[0] to be float but {data_type} is provided",
    )


BAD_SHAPE = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, float_val=[1.0])
BAD_SHAPE.tensor_shape.dim.add(size=-1)
UNKNOWN_RANK = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, float_val=[1.0])
UNKNOWN_RANK.tensor_shape.unknown_rank = True
HUGE = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT)
for _ in range(3):
    HUGE.tensor_shape.dim.add(size=2**30)
WRONG_TYPE = tf.make_tensor_proto(np.array([1]))


@pytest.mark.parametrize("tensor", [BAD_SHAPE, UNKNOWN_RANK, HUGE], ids=["-1", "unknown", "huge"])
def test_shape_that_is_none_is_a_parsing_error(prediction, tensor):
    # T FromProto: TensorShape::IsValid.
    expected = ("INVALID_ARGUMENT", "tensor parsing error: x")
    assert refusal(prediction, request(model="toy", x=tensor)) == expected


ORDER = {
    # PU RunPredict: signature, number of inputs, their names and values, outputs, then the types.
    "signature before inputs": (
        request("nosig", "toy", ["q"], zz=[1.0]),
        ("FAILED_PRECONDITION", 'Serving signature key "nosig" not found.'),
    ),
    "inputs before outputs": (
        request("", "toy", ["q"], x=BAD_SHAPE),
        ("INVALID_ARGUMENT", "tensor parsing error: x"),
    ),
    "outputs before types": (
        request("", "toy", ["q"], x=WRONG_TYPE),
        (
            "INVALID_ARGUMENT",
            "output tensor alias not found in signature: q Outputs expected to be in the set {y}.",
        ),
    ),
    "first wrong type of two": (
        request("two", "toy", a=WRONG_TYPE, s_bytes=WRONG_TYPE),
        ("INVALID_ARGUMENT", "Expects arg[0] to be float but int64 is provided"),
    ),
}


@pytest.mark.parametrize("case", ORDER)
def test_of_several_mistakes_the_real_servers_first_is_told(prediction, case):
    sent, expected = ORDER[case]
    assert refusal(prediction, sent) == expected


def test_empty_label_is_a_label(prediction):
    # model_servers/server_core.cc, GetModelVersionForLabel.
    sent = request(model="toy", x=np.array([1.0], np.float32))
    sent.model_spec.version_label = ""
    expected = ("INVALID_ARGUMENT", "Unrecognized servable version label: ")
    assert refusal(prediction, sent) == expected


def test_label_over_grpc_is_answered_by_its_version(prediction):
    sent = request(model="toy", x=np.array([1.0], np.float32))
    sent.model_spec.version_label = "stable"
    answer = prediction.Predict(sent)
    assert list(answer.outputs["y"].float_val) == [1.5]
    # servables/tensorflow/util.cc, MakeModelSpec: the version, not the label.
    assert (answer.model_spec.version.value, answer.model_spec.version_label) == (1, "")


def test_signature_that_gives_nothing_is_the_sessions_error(prediction):
    # TensorFlow graph/subgraph.cc, FetchOutputs: `NoOp:0` is no output.
    code, details = refusal(prediction, request("__saved_model_init_op", "toy"))
    assert code == "OUT_OF_RANGE"
    assert "NoOp" in details


def test_metadata_twice_the_same_field_is_answered(prediction):
    sent = get_model_metadata_pb2.GetModelMetadataRequest(
        metadata_field=["signature_def", "signature_def"]
    )
    sent.model_spec.name = "toy"
    assert list(prediction.GetModelMetadata(sent).metadata) == ["signature_def"]
