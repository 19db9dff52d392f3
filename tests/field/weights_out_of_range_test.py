"""Weights that no log has (NaN, infinite, negative, beyond float32) are refused everywhere.

That the graph of a servable refuses them on any server is tested in
`tests/trainer/saved/saved_towers_test.py`.
"""

import http.client
import json
import math
import re

import grpc
import numpy as np
import pytest

from serving.batch.input import JSON_LINES, TF_RECORD, InstanceReader, Rejected
from serving.client import EventFeatures, TagClient, TagClientError
from serving.wire.feature_weights import field_without_number, wrong_weight
from tagtower_client.feature_tensors import InputSlot, to_tensors
from trainer.contract.features import Domain, FeatureSpec, ProfileFeature
from trainer.contract.history import MAX_WEIGHT
from trainer.contract.tag_normalization import TagNormalization

NAN, INF = math.nan, math.inf
BEYOND = (NAN, INF, -INF, -1.0, -1e-45)
SLOTS = {
    "gender": InputSlot(is_text=True, is_list=False),
    "recent": InputSlot(is_text=True, is_list=True),
    "recent_weights": InputSlot(is_text=False, is_list=True),
}


@pytest.mark.parametrize("wrong", BEYOND)
def test_first_weight_that_is_wrong_is_found(wrong):
    weights = np.array([[0.0, 1.0], [MAX_WEIGHT, wrong]], np.float32)
    assert repr(wrong_weight(weights)) == repr(float(np.float32(wrong)))


def test_right_weights_are_all_that_float32_has():
    assert wrong_weight(np.array([[0.0, 1e-45, 1.0, MAX_WEIGHT]], np.float32)) is None
    assert wrong_weight(np.zeros((0, 0), np.float32)) is None


# Callers.


@pytest.mark.parametrize("wrong", [*BEYOND, 1e39, 10**400, -1, True, "1", None, 1j])
def test_client_refuses_a_weight_and_names_it(wrong):
    users = [{"recent": ["a"]}, {"recent": ["a", "b"], "recent_weights": [1.0, wrong]}]
    message = (
        "`recent_weights` of `features[1]` must be a list of finite numbers of float32, 0 or more. "
        f"Received: [1.0, {wrong!r}]."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        to_tensors(users, SLOTS)


def test_client_sends_the_largest_weight_and_none_as_they_are():
    # The second is what a program prints of float32's largest number, and rounds to it.
    user = {"recent": ["a", "b", "c"], "recent_weights": [MAX_WEIGHT, 3.4028235e38, 0]}
    weights = to_tensors([user], SLOTS)["recent_weights"]
    assert weights.tolist() == [[MAX_WEIGHT, MAX_WEIGHT, 0.0]]
    as_array = {"recent": ["a"], "recent_weights": np.array([2.0])}
    assert to_tensors([as_array], SLOTS)["recent_weights"].tolist() == [[2.0]]


SPEC = FeatureSpec(
    profile=(ProfileFeature("gender"),),
    domains=(Domain("clicked"), Domain("recent", weighting="recency", half_life_days=1.0)),
)
NOW = 1_700_000_000
FEATURES = EventFeatures(SPEC, TagNormalization())


def event(**others):
    return {"item_id": "i", "timestamp": NOW - 10, "clicked": 1, "tags": ["jazz"]} | others


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        *(({"weight": w}, "`weight` must be a number, 0 or more.") for w in BEYOND),
        ({"weight": 1e39}, "`weight` must be a number, 0 or more. Received: weight=1e+39."),
        ({"weight": 10**400}, "`weight` must be a number, 0 or more."),
        *(
            ({"timestamp": t}, "`timestamp` must be seconds since 1970")
            for t in (NAN, INF, -INF, -1e300, 10**400)
        ),
        ({"clicked": NAN}, "`clicked` must be 0 or 1. Received: clicked=nan."),
    ],
)
def test_event_is_refused_by_the_name_of_its_value(wrong, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        FEATURES.instance([event(), event(**wrong)], at=NOW)


@pytest.mark.parametrize("at", [NAN, INF, -INF, NOW * 1000, "now"])
def test_time_of_a_question_that_is_none_is_refused(at):
    message = "`at` must be a time in seconds since 1970, UTC, not milliseconds. Received: at="
    with pytest.raises(ValueError, match=re.escape(f"{message}{at!r}.")):
        FEATURES.instance([event()], at=at)


def test_weights_that_add_up_beyond_float32_are_its_largest_number():
    events = [event(item_id=f"i{i}", weight=3e38) for i in range(3)]
    instance = FEATURES.instance(events, at=NOW)
    assert instance["recent_weights"] == [MAX_WEIGHT]
    assert instance["clicked_weights"] == [3.0]  # events are counted, whatever their weight


# Batch prediction.


def reader(input_format):
    return InstanceReader(
        input_format, None, ("user_id",), {name: slot.is_list for name, slot in SLOTS.items()}
    )


@pytest.mark.parametrize("token", ["NaN", "Infinity", "-Infinity"])
def test_line_with_a_token_that_json_has_not_is_rejected_by_its_field(token):
    line = f'{{"user_id": "u", "recent": ["a"], "recent_weights": [{token}]}}'
    found = reader(JSON_LINES).parse_line(line.encode())
    assert isinstance(found, Rejected)
    assert found.reason == (
        f"`recent_weights` of the instance must be finite: {token} is not a JSON value."
    )
    assert json.loads(found.text) == line


def test_line_that_is_wrong_otherwise_has_that_reason():
    for line in ('{"recent": NaN', '{"recent": [nan]}', "[NaN]", '{"recent": {"a": NaN}}'):
        assert field_without_number(line) is None
    found = reader(JSON_LINES).parse_line(b"[NaN]")
    assert found.reason == "The line is not JSON: NaN is not a JSON value."


@pytest.mark.parametrize("number", ["1e999", "-1e999", "1e39", "-2"])
def test_number_of_a_line_beyond_float32_is_refused_by_its_field(number):
    line = f'{{"recent": ["a"], "recent_weights": [{number}]}}'
    features = reader(JSON_LINES).parse_line(line.encode()).features
    with pytest.raises(ValueError, match="`recent_weights` of `features.0.` must be a list of fin"):
        to_tensors([features], SLOTS)


@pytest.mark.parametrize("wrong", [NAN, INF, -1.0])
def test_record_is_refused_by_its_field(wrong):
    import tensorflow as tf

    example = tf.train.Example()
    example.features.feature["recent"].bytes_list.value.append(b"a")
    example.features.feature["recent_weights"].float_list.value.append(wrong)
    found = reader(TF_RECORD).parse_record(example.SerializeToString())
    with pytest.raises(ValueError, match="`recent_weights` of `features.0.` must be a list of fin"):
        to_tensors([found.features], SLOTS)


@pytest.mark.parametrize("wrong", [NAN, INF, -1.0, 1e39])
def test_logged_request_that_the_server_refuses_is_not_counted(wrong):
    from tfx_pipeline.evaluation.request_statistics import request_values

    message = "`clicked_weights` must be a list of finite numbers, 0 or more, one for each of"
    with pytest.raises(ValueError, match=message):
        request_values({"clicked": ["a"], "clicked_weights": [wrong]}, SPEC)


# The server, over both interfaces.


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    from serving.model_server.models.model_config import ModelConfig
    from serving.model_server.server import ModelServer
    from tests.serving.model_server import toy_models

    folder = tmp_path_factory.mktemp("models")
    toy_models.save_retriever(folder / "tags" / "1", 1)
    toy_models.save_toy(folder / "toy" / "1", 1)
    models = [ModelConfig(name, str(folder / name)) for name in ("tags", "toy")]
    with ModelServer(models, rest_api_port=0, host="127.0.0.1") as server:
        server.wait_until_available(60)
        yield server


@pytest.fixture(scope="module")
def client(server):
    with TagClient(f"127.0.0.1:{server.port}", model_name="tags", max_attempts=1) as client:
        yield client


def tensors(*weights):
    return {
        "gender": np.array([b"f"], object),
        "recent": np.array([[b"a"] * len(weights)], object),
        "recent_weights": np.array([weights], np.float32),
    }


@pytest.mark.parametrize(
    ("wrong", "shown"),
    [(NAN, "nan"), (INF, "inf"), (-INF, "-inf"), (-0.5, "-0.5")],
)
def test_grpc_request_is_an_invalid_argument_that_names_the_feature(client, wrong, shown):
    with pytest.raises(TagClientError) as caught:
        client.predict(tensors(1.0, wrong), "retrieve")
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    message = f"`recent_weights` must hold finite numbers, 0 or more. Received: {shown}."
    assert message in str(caught.value)


def test_grpc_request_with_padding_and_the_largest_weight_is_answered(client):
    outputs = client.predict(tensors(1.0, MAX_WEIGHT, 0.0), "retrieve").outputs
    assert outputs["scores"][0, 0] == np.float32(MAX_WEIGHT)


def post(server, model, body):
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_api_port, timeout=60)
    connection.request("POST", f"/v1/models/{model}:predict", body)
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return response.status, text


ROWS = '{"instances": [{"gender": "f", "recent": ["a", "b"], "recent_weights": [1.0, %s]}]'
COLUMNS = '{"inputs": {"gender": ["f"], "recent": [["a", "b"]], "recent_weights": [[1.0, %s]]}'


@pytest.mark.parametrize("form", [ROWS, COLUMNS], ids=["rows", "columns"])
@pytest.mark.parametrize(
    ("token", "shown"),
    [
        ("NaN", "nan"),
        ("Infinity", "inf"),
        ("-Infinity", "-inf"),
        ("-1", "-1.0"),
        ("-0.25", "-0.25"),
    ],
)
def test_rest_request_is_a_400_that_names_the_feature(server, form, token, shown):
    status, text = post(server, "tags", form % token + ', "signature_name": "retrieve"}')
    message = f"`recent_weights` must hold finite numbers, 0 or more. Received: {shown}."
    assert (status, json.loads(text)["error"]) == (400, message)


@pytest.mark.parametrize(
    ("token", "message"),
    [
        (
            "1e39",
            "key: recent_weights of 'instances' list. Error: INVALID_ARGUMENT: Cannot convert",
        ),
        # Of TensorFlow Serving's own JSON reader, which knows no features yet.
        ("1e999", "JSON Parse error: Number too big to be stored in double."),
        ("-1e999", "JSON Parse error: Number too big to be stored in double."),
    ],
)
def test_rest_number_beyond_float32_is_a_400(server, token, message):
    status, text = post(server, "tags", ROWS % token + ', "signature_name": "retrieve"}')
    assert status == 400
    assert message in json.loads(text)["error"]


def test_numbers_of_another_model_are_its_own_business(server):
    # As by TensorFlow Serving (tf_serving.md, "NaN query"): the input is no weight.
    status, text = post(server, "toy", '{"instances": [NaN, Infinity]}')
    assert status == 200
    assert [math.isnan(y) or y for y in json.loads(text)["predictions"]] == [True, INF]
