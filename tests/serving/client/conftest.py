"""Servers that the tests of the clients share."""

import pytest
import tensorflow as tf

from serving.index.top_k import BruteForceIndex
from serving.model_server.models.model_config import ModelConfig
from serving.model_server.server import ModelServer
from serving.servable.event_features import EventFeatures
from serving.servable.export import export_servable
from serving.servable.retrieval import TagRetrieval
from tests.serving.client.flaky_service import FlakyService, serve
from tests.serving.client.listening_towers import (
    DESCRIPTION,
    SPEC,
    TAGS,
    VECTORS,
    K,
    ListeningTowers,
)
from trainer.contract.tag_normalization import TagNormalization


@pytest.fixture
def flaky():
    with serve(FlakyService()) as service:
        yield service


@pytest.fixture(scope="session")
def version_dir(tmp_path_factory):
    """Version 1 of a servable of `ListeningTowers`."""
    folder = tmp_path_factory.mktemp("listening")
    ListeningTowers().save(folder / "towers")
    towers = tf.saved_model.load(str(folder / "towers"))
    categories = ["old" if tag in ("jazz", "blues") else "new" for tag in TAGS]
    module = TagRetrieval(towers, BruteForceIndex(VECTORS), K, tag_categories=categories)
    events = EventFeatures(SPEC, TagNormalization())
    export_servable(module, str(folder / "base" / "1"), DESCRIPTION, event_features=events)
    return folder / "base" / "1"


@pytest.fixture(scope="session")
def server(version_dir):
    """Runs a server of it, over gRPC and REST."""
    labels = {"stable": 1}
    config = ModelConfig("default", str(version_dir.parent), version_labels=labels)
    with ModelServer([config], rest_api_port=0, host="127.0.0.1", poll_wait_s=0.02) as server:
        server.wait_until_available(120)
        yield server


@pytest.fixture(scope="session")
def target(server):
    return f"127.0.0.1:{server.port}"
