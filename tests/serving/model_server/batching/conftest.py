"""A model whose answers say in which batch they were computed."""

import pytest

from serving.model_server.session.servable import Servable
from tests.serving.model_server import toy_examples


@pytest.fixture(scope="session")
def examples_versions(tmp_path_factory):
    """Makes a folder with version 1 of the model; to be copied from, not changed."""
    folder = tmp_path_factory.mktemp("examples")
    toy_examples.save_toy_examples(folder / "1", 1)
    return folder


@pytest.fixture(scope="session")
def servable(examples_versions):
    """Loads version 1."""
    servable = Servable(str(examples_versions / "1"))
    yield servable
    servable.close()
