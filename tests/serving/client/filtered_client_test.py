"""A real server's answers to callers with rules, and for users of whom nothing is known."""

import json
import urllib.request

import numpy as np
import pytest
import tensorflow as tf

from serving.client import TagClient, TagClientError
from serving.index.top_k import BruteForceIndex
from serving.model_server.models.version_lifecycle import ModelConfig
from serving.model_server.server import ModelServer
from serving.servable.export import export_servable
from serving.servable.retrieval import TagRetrieval
from tests.serving.model_server.toy_models import save_retriever
from tests.toy_towers import ToyTowers

NUM_TAGS, K = 20, 6
CATEGORIES = ["first", "second", "third", "fourth"]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Runs the models `tags` (user `u<i>` likes tag i best, then i + 1, ...) and `older`."""
    folder = tmp_path_factory.mktemp("models")
    users = np.array([np.roll(np.arange(NUM_TAGS, 0, -1.0), i) for i in range(NUM_TAGS)])
    ToyTowers(users, np.eye(NUM_TAGS)).save(folder / "towers")
    towers = tf.saved_model.load(str(folder / "towers"))
    categories = [CATEGORIES[j % 4] for j in range(NUM_TAGS)]
    module = TagRetrieval(towers, BruteForceIndex(np.eye(NUM_TAGS)), K, tag_categories=categories)
    export_servable(module, str(folder / "tags" / "1"), {"index": {"num_tags": NUM_TAGS}})
    save_retriever(folder / "older" / "1", 1)
    configs = [ModelConfig(name, str(folder / name)) for name in ("tags", "older")]
    with ModelServer(configs, rest_api_port=0, host="127.0.0.1", poll_wait_s=0.02) as server:
        server.wait_until_available(60)
        yield server


@pytest.fixture
def client(server):
    with TagClient(f"127.0.0.1:{server.port}", model_name="tags", timeout_s=60) as client:
        yield client


def names(*numbers):
    return tuple(f"t{j}" for j in numbers)


def test_each_user_has_rules_of_his_own(client):
    features = [{"name": "u3"}, {"name": "u0"}, {"name": "u1"}, {"name": "u2"}]

    answer = client.retrieve_filtered(
        features,
        exclude_tags=[["t3", "t5", "t3", "no tag"], [], ["t1"], []],
        allow_categories=[[], ["second"], ["second", "third"], ["no category"]],
    )

    found = [profile.tags for profile in answer.profiles]
    assert found == [
        names(4, 6, 7, 8, 9, 10),
        names(1, 5, 9, 13, 17),
        names(2, 5, 6, 9, 10, 13),
        (),
    ]
    assert [len(profile.scores) for profile in answer.profiles] == [6, 5, 6, 0]
    assert [len(profile.probabilities) for profile in answer.profiles] == [6, 5, 6, 0]
    assert answer.profiles[1].scores == (19, 15, 11, 7, 3)
    assert answer.model_version == 1


def test_without_rules_it_is_retrieval(client):
    features = [{"name": "u3"}, {}]

    assert client.retrieve_filtered(features) == client.retrieve(features)


def test_first_of_the_allowed_are_taken(client):
    (profile,) = client.retrieve_filtered(
        [{"name": "u3"}], exclude_tags=[["t4"]], num_tags=2
    ).profiles

    assert profile.tags == names(3, 5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"exclude_tags": ["t1"]}, "`exclude_tags` must be a list of lists of strings"),
        ({"exclude_tags": "t1"}, "`exclude_tags` must be a list of lists of strings"),
        ({"exclude_tags": [[1]]}, "`exclude_tags` must be a list of lists of strings"),
        ({"allow_categories": [[], []]}, "one list for each of the 1 instances. Received: 2"),
        ({"num_tags": 0}, "`num_tags` must be a positive integer"),
    ],
)
def test_callers_mistake_is_refused(client, arguments, message):
    with pytest.raises(ValueError, match=message):
        client.retrieve_filtered([{}], **arguments)


def test_version_older_than_filters_is_named(server):
    with TagClient(f"127.0.0.1:{server.port}", model_name="older", timeout_s=60) as client:
        with pytest.raises(TagClientError, match="has no signature `retrieve_filtered`.* older"):
            client.retrieve_filtered([{}])


def test_rest_call_is_answered_with_a_count(server):
    document = {
        "signature_name": "retrieve_filtered",
        "inputs": {"name": ["u3"], "exclude_tags": [["t3"]], "allow_categories": [["fourth"]]},
    }
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.rest_api_port}/v1/models/tags:predict",
        json.dumps(document).encode(),
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        outputs = json.loads(response.read())["outputs"]

    assert outputs["count"] == [4]
    assert outputs["tags"] == [["t7", "t11", "t15", "t19", "", ""]]
    assert outputs["scores"] == [[16, 12, 8, 4, float("-inf"), float("-inf")]]
