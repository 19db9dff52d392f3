"""What a caller passes to the client reaches the model behind the server."""

import os
import shutil

import numpy as np
import pytest

from serving.client import TagClient, TagClientError, TagProfile
from serving.model_server.models.model_config import ModelConfig
from serving.model_server.server import ModelServer


@pytest.fixture
def live(tmp_path, retriever_versions):
    base_path = tmp_path / "base"
    shutil.copytree(retriever_versions / "1", base_path / "1")
    config = ModelConfig("default", str(base_path))
    with ModelServer([config], host="127.0.0.1", poll_wait_s=0.02) as server:
        server.wait_until_available(30)
        with TagClient(f"127.0.0.1:{server.port}") as client:
            yield server, client, base_path


def test_retrieve_gives_tags_and_scores_of_each_instance(live):
    _, client, _ = live
    answer = client.retrieve(
        [
            {"gender": "F", "recent": ["drama", "café"], "recent_weights": [0.5, 2]},
            {"recent": ["war"]},
            {},
        ]
    )
    assert answer.model_version == 1
    assert answer.profiles == (
        TagProfile(("F", "drama|café"), (2.5, -2.5)),
        TagProfile(("", "war|"), (1.0, -1.0)),
        TagProfile(("", "|"), (0.0, 0.0)),
    )


def test_retrieve_num_tags_takes_the_first(live):
    _, client, _ = live
    (profile,) = client.retrieve([{"gender": "F"}], num_tags=1).profiles
    assert profile == TagProfile(("F",), (0.0,))


def test_retrieve_learns_the_features_of_a_new_version(live, retriever_versions):
    server, client, base_path = live
    client.retrieve([{"gender": "F"}])
    shutil.copytree(retriever_versions / "2", base_path.parent / "staged")
    os.rename(base_path.parent / "staged", base_path / "2")
    assert server.manager.wait_until(
        lambda: server.manager.available_versions() == {"default": [2]}, 30
    )
    # The first call is refused by the server, the second names a feature that was not known before.
    assert client.retrieve([{"gender": "F"}]).model_version == 2
    (profile,) = client.retrieve([{"gender": "F", "age": "25"}]).profiles
    assert profile.tags == ("F", "25")
    with pytest.raises(ValueError, match=r"features of the model \(age, gender\)"):
        client.retrieve([{"recent": ["war"]}])


def test_predict_calls_any_signature(live):
    _, client, _ = live
    inputs = {
        "gender": np.array(["F"]),
        "recent": np.array([["a", "b"]]),
        "recent_weights": np.array([[1, 2]], np.float32),
    }
    answer = client.predict(inputs, "retrieve", ["scores"])
    assert list(answer.outputs) == ["scores"]
    assert answer.outputs["scores"].tolist() == [[3.0, -3.0]]


def test_status_tells_the_state_of_each_version(live):
    _, client, _ = live
    (version,) = client.model_status()
    assert (version.version, version.state, version.error) == (1, "AVAILABLE", "")


def test_unknown_model_says_where_to_look(live):
    server, _, _ = live
    with TagClient(f"127.0.0.1:{server.port}", model_name="nope") as client:
        with pytest.raises(TagClientError, match=r"Latest\(nope\).*--model_name"):
            client.retrieve([{}])
