"""A model whose answers say in which batch they were computed."""

import pytest

from serving.model_server.session.servable import Servable


@pytest.fixture(scope="session")
def servable(examples_versions):
    """Loads version 1."""
    servable = Servable(str(examples_versions / "1"))
    yield servable
    servable.close()
