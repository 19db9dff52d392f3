"""A real server's neighbours of a tag, for callers and at the command line."""

import asyncio
import json

import numpy as np
import pytest
import tensorflow as tf

from serving.client import AsyncTagClient, SimilarTags, TagClient, TagClientError, TagNeighbours
from serving.index.top_k import BruteForceIndex
from serving.model_server.models.model_config import ModelConfig
from serving.model_server.server import ModelServer
from serving.servable.export import export_servable
from serving.servable.retrieval import TagRetrieval
from tests.serving.model_server.toy_models import save_retriever
from tests.toy_towers import ToyTowers
from tfx_pipeline.cli import main

# On a circle, tag j at 10 j degrees; the bias goes the other way.
NUM_TAGS, K = 9, 4
ANGLES = np.radians(10 * np.arange(NUM_TAGS))
VECTORS = np.stack([np.cos(ANGLES), np.sin(ANGLES), 50.0 * np.arange(NUM_TAGS)], axis=1)


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    """Runs the models `tags`, in which the policy blocks t3, and `older`."""
    folder = tmp_path_factory.mktemp("models")
    served_rows = np.array([j for j in range(NUM_TAGS) if j != 3])
    ToyTowers(np.ones((1, 3)), VECTORS).save(folder / "towers")
    towers = tf.saved_model.load(str(folder / "towers"))
    index = BruteForceIndex(VECTORS[served_rows])
    module = TagRetrieval(towers, index, K, served_rows=served_rows)
    export_servable(module, str(folder / "tags" / "1"), {"index": {"num_tags": NUM_TAGS - 1}})
    save_retriever(folder / "older" / "1", 1)
    configs = [ModelConfig(name, str(folder / name)) for name in ("tags", "older")]
    with ModelServer(configs, host="127.0.0.1", poll_wait_s=0.02) as server:
        server.wait_until_available(60)
        yield f"127.0.0.1:{server.port}"


def cosines(*degrees):
    return pytest.approx(np.cos(np.radians(degrees)).tolist(), abs=1e-6)


def assert_answer(answer):
    assert isinstance(answer, SimilarTags) and answer.model_version == 1
    first, unknown, middle, blocked = answer.neighbours
    assert (first.tag, first.tags) == ("t0", ("t1", "t2", "t4", "t5"))
    assert first.scores == cosines(10, 20, 40, 50)
    assert unknown == TagNeighbours("no tag", (), ())
    # Equally near, except for rounding.
    assert set(middle.tags[:2]) == {"t4", "t6"}
    assert (middle.tag, middle.tags[2:]) == ("t5", ("t7", "t8"))
    assert middle.scores == cosines(10, 10, 20, 30)
    assert blocked == TagNeighbours("t3", (), ())


ASKED = ["t0", "no tag", "t5", "t3"]


def test_client_is_told_the_neighbours_of_each_tag(target):
    with TagClient(target, model_name="tags", timeout_s=60) as client:
        answer = client.similar_tags(ASKED)
        first = client.similar_tags(ASKED, num_tags=1)
        more = client.similar_tags(["t0"], num_tags=100)

    assert_answer(answer)
    assert [neighbours.tags for neighbours in first.neighbours] == [
        neighbours.tags[:1] for neighbours in answer.neighbours
    ]
    assert more.neighbours == answer.neighbours[:1]


def test_asyncio_client_is_told_the_same(target):
    async def ask():
        async with AsyncTagClient(target, model_name="tags", timeout_s=60) as client:
            return await client.similar_tags(ASKED)

    assert_answer(asyncio.run(ask()))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tags": []}, "`tags` must be a list of strings, at least one. Received: "),
        ({"tags": "t1"}, "`tags` must be a list of strings"),
        ({"tags": [b"t1"]}, "`tags` must be a list of strings"),
        ({"tags": ["t1"], "num_tags": 0}, "`num_tags` must be a positive integer"),
    ],
)
def test_callers_mistake_is_refused(target, arguments, message):
    with TagClient(target, model_name="tags", timeout_s=60) as client:
        with pytest.raises(ValueError, match=message):
            client.similar_tags(**arguments)


def test_version_older_than_neighbours_is_named(target):
    with TagClient(target, model_name="older", timeout_s=60) as client:
        with pytest.raises(TagClientError, match="has no signature `similar_tags`.* older"):
            client.similar_tags(["t1"])


def test_model_that_is_not_there_is_named(target):
    with TagClient(target, model_name="nobody", timeout_s=60) as client:
        with pytest.raises(TagClientError, match="NOT_FOUND"):
            client.similar_tags(["t1"])


def query(target, *flags):
    arguments = ["query", "--server", target, "--model_name", "tags", "--timeout", "60"]
    return main([*arguments, *flags])


def test_query_prints_the_neighbours(target, capsys):
    status = query(target, "--similar", "t0", "--num_tags", "3")

    assert status == 0
    header, _, *rows, version = capsys.readouterr().out.splitlines()
    assert header.split() == ["rank", "near", "t0", "cosine"]
    assert [row.split() for row in rows] == [
        ["1", "t1", "0.985"],
        ["2", "t2", "0.940"],
        ["3", "t4", "0.766"],
    ]
    assert version == "model version 1"


def test_query_as_json_has_the_neighbours(target, capsys):
    status = query(target, "--similar", "t0", "--num_tags", "2", "--json")

    assert status == 0
    content = json.loads(capsys.readouterr().out)
    assert content.pop("scores") == cosines(10, 20)
    assert content == {"tag": "t0", "tags": ["t1", "t2"], "version": 1}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--similar", "t3"], "`similar` must be a tag that the model knows and serves"),
        (["--similar", "t0", "--features", "{}"], "--similar asks for no user"),
        (["--similar", "t0", "--explain", "t1"], "give one of --items, --explain and --similar."),
        (["--similar", "t0", "--items", "3"], "give one of --items, --explain and --similar."),
    ],
)
def test_query_that_cannot_be_answered_is_one_clear_line(target, flags, message, capsys):
    status = query(target, *flags)

    assert status == 2
    assert message in capsys.readouterr().err
