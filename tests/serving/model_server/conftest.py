"""Models and a server shared by the tests of a module; TensorFlow is imported once a process."""

import pytest

from serving.model_server.models.model_config import ModelConfig
from serving.model_server.models.version_policy import LatestVersions
from serving.model_server.server import ModelServer
from tests.serving.model_server import toy_examples, toy_models


@pytest.fixture(scope="session")
def toy_versions(tmp_path_factory):
    """Makes a folder with versions 1 and 2 of `toy`; to be copied from, not changed."""
    folder = tmp_path_factory.mktemp("toy")
    for version in (1, 2):
        toy_models.save_toy(folder / str(version), version)
    return folder


@pytest.fixture(scope="session")
def types_versions(tmp_path_factory):
    """Makes version 1 of a model with one signature for each data type, and a slow one."""
    folder = tmp_path_factory.mktemp("types")
    toy_models.save_types(folder / "1")
    return folder


@pytest.fixture(scope="session")
def retriever_versions(tmp_path_factory):
    """Makes versions 1 and 2 of a retriever, the second with other features."""
    folder = tmp_path_factory.mktemp("retriever")
    toy_models.save_retriever(folder / "1", 1)
    toy_models.save_retriever(folder / "2", 2, is_wider=True)
    return folder


@pytest.fixture(scope="session")
def examples_versions(tmp_path_factory):
    """Makes version 1 of a model of serialized examples and lists."""
    folder = tmp_path_factory.mktemp("examples")
    toy_examples.save_toy_examples(folder / "1", 1)
    return folder


@pytest.fixture(scope="module")
def server(toy_versions):
    """Runs a server of both versions of `toy`."""
    config = ModelConfig("toy", str(toy_versions), LatestVersions(2))
    with ModelServer([config], rest_api_port=0, host="127.0.0.1", has_reflection=True) as server:
        assert server.manager.wait_until(
            lambda: server.manager.available_versions() == {"toy": [2, 1]}, 30
        )
        yield server
