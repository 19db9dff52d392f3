"""Status codes, bodies and values over REST."""

import gzip
import http.client
import json
import math

import pytest


@pytest.fixture(scope="module")
def ask(server):
    def ask(method, path, body=None, headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", server.rest_api_port, timeout=30)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, response.getheader("Content-Type"), response.read().decode()
        finally:
            connection.close()

    return ask


def predict(ask, document, path="/v1/models/toy:predict"):
    body = document if isinstance(document, str) else json.dumps(document)
    status, content_type, text = ask("POST", path, body)
    assert content_type == "application/json"
    return status, json.loads(text)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v1/models/toy:predict", [2.5, 3.0]),
        ("/v1/models/toy/versions/1:predict", [1.5, 2.0]),
        ("/V1/MODELS/to%79:predict", [2.5, 3.0]),
    ],
)
def test_predict_rows_gives_rows(ask, path, expected):
    assert predict(ask, {"instances": [1.0, 2]}, path) == (200, {"predictions": expected})


@pytest.mark.parametrize("inputs", [[1.0, 2.0], {"x": [1.0, 2.0]}])
def test_predict_columns_gives_columns(ask, inputs):
    assert predict(ask, {"inputs": inputs}) == (200, {"outputs": [2.5, 3.0]})


def test_predict_named_rows_gives_objects(ask):
    instances = [
        {"a": [1, 2], "s_bytes": {"b64": "aGk="}},
        {"a": [3, 4], "s_bytes": "plain"},
    ]
    expected = [
        {"sum": 5.0, "n": 2, "echo_bytes": {"b64": "aGk="}},
        {"sum": 9.0, "n": 5, "echo_bytes": {"b64": "cGxhaW4="}},
    ]
    answer = predict(ask, {"signature_name": "two", "instances": instances})
    assert answer == (200, {"predictions": expected})


def test_predict_named_columns_gives_an_object(ask):
    inputs = {"a": [[1, 2]], "s_bytes": [{"b64": "aGk="}]}
    expected = {"sum": [5.0], "n": [2], "echo_bytes": [{"b64": "aGk="}]}
    assert predict(ask, {"signature_name": "two", "inputs": inputs}) == (200, {"outputs": expected})


def test_predict_columns_gives_every_kind_of_value(ask):
    expected = {
        "scalar": 3,
        "is_even": [False, True],
        "text": ["1", "2"],
        "wide": [1 / 3, 2 / 3],
    }
    answer = predict(ask, {"signature_name": "kinds", "inputs": [1, 2]})
    assert answer == (200, {"outputs": expected})


def test_predict_not_finite_numbers_go_in_and_out(ask):
    status, answer = predict(ask, '{"instances": [NaN, Infinity, -Infinity, 1e-7, 9000000, 0.1]}')
    not_a_number, *rest = answer["predictions"]
    assert status == 200 and math.isnan(not_a_number)
    assert rest == [math.inf, -math.inf, 2.0, 4500002.0, 2.05]


def test_predict_compressed_body_is_read(ask):
    body = gzip.compress(b'{"instances": [1.0]}')
    answer = ask("POST", "/v1/models/toy:predict", body, {"Content-Encoding": "gzip"})
    assert answer == (200, "application/json", '{\n    "predictions": [2.5\n    ]\n}')


REFUSED = [
    ("{}", "Missing 'inputs' or 'instances' key"),
    ("", "JSON Parse error: The document is empty"),
    ("{bad", "JSON Parse error: Missing a name for object member. at offset: 1"),
    ("[1]", "JSON Value: [\n    1\n] Is not object"),
    ('{"instances": []}', "JSON Value: {\n    \"instances\": []\n} No values in 'instances' array"),
    (
        '{"instances": 5}',
        "JSON Value: {\n    \"instances\": 5\n} Expecting 'instances' to be an list/array",
    ),
    (
        '{"instances": ["a"]}',
        "Failed to process element: 0 of 'instances' list. Error: INVALID_ARGUMENT: "
        'JSON Value: "a" Type: String is not of expected type: float',
    ),
    (
        '{"instances": [true]}',
        "Failed to process element: 0 of 'instances' list. Error: INVALID_ARGUMENT: "
        "JSON Value: true Type: True is not of expected type: float",
    ),
    (
        '{"instances": [[1.0], [1.0, 2.0]]}',
        "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: "
        "Expecting tensor size: 1 but got: 2",
    ),
    (
        '{"instances": [16777217]}',
        "Failed to process element: 0 of 'instances' list. Error: INVALID_ARGUMENT: "
        "Cannot convert JSON value: 16777217 to float without loss of precision.",
    ),
    (
        '{"signature_name": "kinds", "inputs": [1.0]}',
        "JSON Value: 1.0 Type: Number is not of expected type: int32",
    ),
    (
        '{"signature_name": "two", "instances": [{"a": [1]}]}',
        "Failed to process element: 0 of 'instances' list. JSON object: "
        '{\n    "a": [\n        1\n    ]\n} keys must be equal to: a,s_bytes',
    ),
    (
        '{"signature_name": "two", "instances": [{"a": [1], "s_bytes": {"b64": "*"}}]}',
        "Failed to process element: 0 key: s_bytes of 'instances' list. Error: "
        "INVALID_ARGUMENT: Unable to base64 decode",
    ),
    ('{"inputs": {"zz": [1.0]}}', "Missing named input: x in 'inputs' object."),
    (
        '{"signature_name": "nosig", "inputs": [1.0]}',
        'Serving signature name: "nosig" not found in signature def',
    ),
    (
        '{"signature_name": "kinds", "instances": [1, 2]}',
        "Tensor name: scalar has no shape information ",
    ),
]


@pytest.mark.parametrize(("body", "message"), REFUSED)
def test_predict_refused_body_is_400_with_the_real_servers_message(ask, body, message):
    answer = ask("POST", "/v1/models/toy:predict", body)
    expected = json.dumps({"error": message}, indent=4)
    assert answer == (400, "application/json", expected)


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("POST", "/v1/models/nope:predict", 404, "Servable not found for request: Latest(nope)"),
        (
            "POST",
            "/v1/models/toy/versions/99:predict",
            404,
            "Servable not found for request: Specific(toy, 99)",
        ),
        (
            "POST",
            "/v1/models/toy/labels/zz:predict",
            400,
            "Unrecognized servable version label: zz",
        ),
        ("POST", "/v1/models/toy:PREDICT", 400, "Malformed request: POST /v1/models/toy:PREDICT"),
        ("DELETE", "/v1/models/toy", 400, "Malformed request: DELETE /v1/models/toy"),
        ("GET", "/v1/models", 400, "Missing model name in request."),
        ("GET", "/v1/zzz", 400, "Malformed request: GET /v1/zzz"),
        ("GET", "/v1/models/nope", 404, "Could not find any versions of model nope"),
        ("GET", "/v1/models/toy/versions/9", 404, "Could not find version 9 of model toy"),
        (
            "GET",
            "/v1/models/nope/metadata",
            404,
            "Servable not found for request: Latest(nope)",
        ),
        (
            "POST",
            "/v1/models/toy:classify",
            400,
            'JSON Value: {\n    "instances": [\n        1.0\n    ]\n} When method is classify, key '
            "'examples' is expected and was not found",
        ),
    ],
)
def test_refused_path_has_its_status_and_message(ask, method, path, status, message):
    body = '{"instances": [1.0]}' if method == "POST" else None
    expected = json.dumps({"error": message}, indent=4)
    assert ask(method, path, body) == (status, "application/json", expected)


def test_version_number_too_large_is_400_without_a_body(ask):
    path = f"/v1/models/toy/versions/{2**63}:predict"
    assert ask("POST", path, '{"instances": [1]}') == (400, "application/json", "")


def test_path_outside_v1_is_404_html(ask):
    status, content_type, text = ask("GET", "/")
    assert (status, content_type) == (404, "text/html")
    assert "<H1>Not Found</H1>" in text


def test_status_lists_versions_highest_first(ask):
    status, content_type, text = ask("GET", "/v1/models/toy")
    fine = {"error_code": "OK", "error_message": ""}
    assert (status, content_type) == (200, "application/json")
    assert json.loads(text) == {
        "model_version_status": [
            {"version": "2", "state": "AVAILABLE", "status": fine},
            {"version": "1", "state": "AVAILABLE", "status": fine},
        ]
    }


def test_metadata_is_nested_twice(ask):
    status, _, text = ask("GET", "/v1/models/toy/versions/1/metadata")
    document = json.loads(text)
    assert status == 200
    assert document["model_spec"] == {"name": "toy", "signature_name": "", "version": "1"}
    signature = document["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["inputs"]["x"] == {
        "dtype": "DT_FLOAT",
        "tensor_shape": {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False},
        "name": "serving_default_x:0",
    }
