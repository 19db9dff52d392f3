"""Sends the requests of docs/client.md as written to a real server: all ask the same."""

import json
import re
import shlex
import urllib.request
from pathlib import Path

import grpc
import pytest
from google.protobuf import json_format
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from serving.client import TagClient
from tagtower_client.tensor_proto import to_numpy

PAGE = Path(__file__).parents[3] / "docs" / "client.md"
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)


def python_block(mention):
    """Returns the one Python block of the page that mentions a text."""
    (block,) = (code for language, code in BLOCKS if language == "python" and mention in code)
    return block


def command(program):
    """Returns the words of the one command that starts with the program, and its body as JSON."""
    (block,) = (code for _, code in BLOCKS if code.startswith(program + " "))
    words = shlex.split(block)
    return words, words[words.index("-d") + 1]


def run_python(mention, target, version_dir=""):
    names = {}
    code = python_block(mention).replace('"localhost:8500"', f'"{target}", timeout_s=60')
    exec(code.replace("build/runs/my-log/serving/1732550400", str(version_dir)), names)
    return names


@pytest.fixture(scope="module")
def expected(target):
    """Returns the answer to the page's Python: two users' tags, scores and probabilities."""
    profiles = run_python("in answer.profiles:", target)["answer"].profiles
    assert profiles[0].tags == ("jazz", "blues", "metal")
    assert profiles[1].tags == ("metal", "techno", "jazz")
    return profiles


def test_asyncio_is_answered_as_python(target, expected):
    assert run_python("AsyncTagClient", target)["answer"].profiles == expected


def test_curl_is_answered_as_python(server, expected):
    words, body = command("curl")
    assert words[-1] == "localhost:8501/v1/models/default:predict"
    address = words[-1].replace("localhost:8501", f"127.0.0.1:{server.rest_api_port}")

    request = urllib.request.Request(f"http://{address}", body.encode())
    with urllib.request.urlopen(request, timeout=60) as response:
        rows = json.loads(response.read())["predictions"]

    assert [tuple(row["tags"]) for row in rows] == [profile.tags for profile in expected]
    for row, profile in zip(rows, expected, strict=True):
        assert row["scores"] == pytest.approx(profile.scores)
        assert row["probabilities"] == pytest.approx(profile.probabilities)


def test_grpcurl_is_answered_as_python(target, expected):
    words, body = command("grpcurl")
    assert words[-2:] == ["localhost:8500", "tensorflow.serving.PredictionService/Predict"]
    # grpcurl reads JSON as protobuf prescribes it, and so does this test.
    request = json_format.Parse(body, predict_pb2.PredictRequest())
    assert list(request.inputs["country"].string_val) == [b"at", b""]

    with grpc.insecure_channel(target) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        outputs = stub.Predict(request, timeout=60).outputs

    columns = [to_numpy(outputs[n]).tolist() for n in ("tags", "scores", "probabilities")]
    for profile, tags, scores, probabilities in zip(expected, *columns, strict=True):
        assert tuple(tag.decode() for tag in tags) == profile.tags
        assert tuple(scores) == profile.scores
        assert tuple(probabilities) == profile.probabilities


def test_fresh_events_of_the_page_are_answered(target, version_dir):
    names = run_python("EventFeatures", target, version_dir)

    with TagClient(target, timeout_s=60) as client:
        instance = {"country": "at", "clicked_tags": ["folk", "jazz"]}
        assert (names["profile"],) == client.retrieve([instance]).profiles


def test_events_of_the_page_are_answered_by_the_server(target):
    names = run_python("retrieve_events(", target)

    (instance,) = names["instances"]
    assert instance == {
        "country": "at",
        "clicked_tags": ["folk", "jazz"],
        "clicked_tags_weights": [1.0, 1.0],
    }
    with TagClient(target, timeout_s=60) as client:
        assert (names["profile"],) == client.retrieve([instance]).profiles
    assert names["explanation"].tag == "jazz"
