"""Every call in docs/serving-signatures.md is answered, and every signature is on the page."""

import json
import re
import shlex
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from serving.client import TagClient
from serving.model_server.models.model_config import ModelConfig
from serving.model_server.server import ModelServer
from serving.model_server.session.servable import Servable
from tests.serving.real_exports import NUM_TAGS, K
from trainer.contract import signatures as s

PAGE = Path(__file__).parents[2] / "docs" / "serving-signatures.md"
USERS = {"gender", "clicked", "clicked_weights"}


@pytest.fixture(scope="module")
def version_dir(real_exports):
    return real_exports.exact


@pytest.fixture(scope="module")
def server(version_dir):
    config = ModelConfig("default", str(version_dir.parent))
    with ModelServer([config], rest_api_port=0, host="127.0.0.1", poll_wait_s=0.02) as server:
        server.wait_until_available(120)
        yield server


def documented_signatures() -> dict[str, tuple[set[str], set[str]]]:
    """Returns the names of inputs and outputs by signature, for the domain `clicked`."""
    found = {}
    for line in PAGE.read_text("utf-8").partition("## Signatures of the towers")[0].splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) == 4 and re.fullmatch(r"`\w+`", cells[0]):
            # Another model's inputs: this one has no categories and no weights of events.
            cells[2] = re.sub(r"`event_(category|weight)`[^;]*;", "", cells[2])
            names = [set(re.findall(r"`([\w<>]+)`", cell)) for cell in cells[2:]]
            inputs, outputs = (
                {name.replace("<domain>", "clicked") for name in group} for group in names
            )
            if cells[2].startswith("users"):
                inputs |= USERS
            if cells[2].endswith("profile"):
                inputs |= {"gender"}
            if cells[3] == "users":
                outputs |= USERS
            found[cells[0].strip("`")] = (inputs, outputs)
    return found


def documented_calls() -> list[tuple[str, str]]:
    """Returns URL and body of every curl command."""
    blocks = re.findall(r"```\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    commands = [shlex.split(command) for block in blocks for command in block.split("curl ")[1:]]
    return [(url, body) for url, flag, body in commands if flag == "-d"]


def post(server: ModelServer, url: str, body: str) -> dict:
    address = url.replace("localhost:8501", f"http://127.0.0.1:{server.rest_api_port}")
    request = urllib.request.Request(address, body.encode())
    with urllib.request.urlopen(request, timeout=60) as response:
        assert response.status == 200
        return json.loads(response.read())


def test_table_has_every_signature_with_its_inputs_and_outputs(version_dir):
    servable = Servable(str(version_dir))
    found = {
        name: (set(definition.inputs), set(definition.outputs))
        for name, definition in servable.signature_defs.items()
        if name != "__saved_model_init_op"
    }
    servable.close()

    documented = documented_signatures()

    assert documented == found


def test_every_signature_has_a_call_and_every_call_is_answered(server):
    with TagClient(f"127.0.0.1:{server.port}", timeout_s=60) as client:
        names = client.predict({s.EXAMPLES: [b""]}, s.EMBED_EXAMPLES).outputs
    embedding = json.dumps(names[s.QUERY_EMBEDDINGS][0].tolist())
    signatures, asked = documented_signatures(), set()

    for url, body in documented_calls():
        document = json.loads(body.replace("EMBEDDING", embedding))
        answer = post(server, url, json.dumps(document))

        name = document["signature_name"]
        if "instances" in document:
            assert len(answer["predictions"]) == len(document["instances"])
            outputs = answer["predictions"][0]
        else:
            outputs = answer["outputs"]
        outputs = outputs if isinstance(outputs, dict) else {s.QUERY_EMBEDDINGS: outputs}
        assert set(outputs) == signatures[name][1]
        asked.add(name)

    # TensorFlow Serving refuses a call without inputs over REST.
    assert asked == signatures.keys() - {s.CANDIDATES}


def test_signature_without_inputs_is_answered_over_grpc_alone(server):
    with TagClient(f"127.0.0.1:{server.port}", timeout_s=60) as client:
        outputs = client.predict({}, s.CANDIDATES).outputs
    body = json.dumps({"signature_name": s.CANDIDATES, "inputs": {}})
    with pytest.raises(urllib.error.HTTPError, match="400"):
        post(server, "localhost:8501/v1/models/default:predict", body)

    assert set(outputs) == documented_signatures()[s.CANDIDATES][1]
    assert len(outputs[s.TAGS]) == NUM_TAGS


def call_of(name: str) -> tuple[str, str]:
    return next(call for call in documented_calls() if f'"{name}"' in call[1])


def test_what_the_page_says_of_unknown_tags_is_so(server):
    filtered = post(server, *call_of(s.RETRIEVE_FILTERED))["outputs"]
    scored = post(server, *call_of(s.SCORE_TAGS))["outputs"]
    similar = post(server, *call_of(s.SIMILAR_TAGS))["outputs"]

    assert not {"tag 01", "tag 05"} & set(filtered["tags"][0])
    assert filtered["count"] == [K]
    known, unknown = scored["scores"][0]
    assert known == known and unknown != unknown  # NaN
    assert similar["count"] == [K, 0]
    assert "tag 03" not in similar["tags"][0]
    assert similar["tags"][1] == [""] * K
    assert similar["scores"][1] == [float("-inf")] * K


def test_events_on_the_page_are_answered_as_the_features_on_the_page(server):
    calls = [
        call for call in documented_calls() if re.search(r'"retrieve(_events(_flat)?)?",', call[1])
    ]
    answers = [post(server, *call)["outputs"] for call in calls if "inputs" in call[1]]

    by_features, by_lists, flat = answers
    assert by_lists["tags"] == flat["tags"] == by_features["tags"]
    np.testing.assert_allclose(by_lists["scores"], by_features["scores"], rtol=1e-5)
    np.testing.assert_allclose(flat["scores"], by_features["scores"], rtol=1e-5)
