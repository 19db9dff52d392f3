import http.client

import numpy as np
import pytest

from benchmarks.echo_server import EchoServer
from benchmarks.retrieve_callers import (
    ECHO,
    GRPC,
    REST,
    Asked,
    RemoteCaller,
    rest_retrieve,
    time_calls,
)
from serving.model_server.models.model_config import ModelConfig
from serving.model_server.server import ModelServer
from tagtower_client.feature_tensors import InputSlot
from tests.serving.model_server import toy_models

SLOTS = {
    "gender": InputSlot(is_text=True, is_list=False),
    "recent": InputSlot(is_text=True, is_list=True),
    "recent_weights": InputSlot(is_text=False, is_list=True),
}
INSTANCES = [{"gender": "F", "recent": ["drama", "café"], "recent_weights": [0.5, 2]}, {}]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    toy_models.save_retriever(folder / "1", 1)
    config = ModelConfig("default", str(folder))
    with ModelServer([config], rest_api_port=0, host="127.0.0.1") as server:
        server.wait_until_available(30)
        yield server


def test_rest_call_gives_what_the_model_answers(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_api_port)
    tags, scores = rest_retrieve(connection, SLOTS)(INSTANCES)
    connection.close()

    assert tags == [["F", "drama|café"], ["", "|"]]
    assert scores == [[2.5, -2.5], [0.0, 0.0]]


def test_remote_caller_calls_all_three_interfaces(server):
    echo = EchoServer({"2": 300_000})
    asked = Asked(INSTANCES, SLOTS, 2, {2: 100_000}, {2: 300_000})
    caller = RemoteCaller(server.port, server.rest_api_port, echo.port, asked)

    for interface in (GRPC, REST, ECHO):
        made = caller.calls(interface, 2, 5)

        assert made.seconds.shape == (5,)
        assert 0 < made.seconds.sum() <= made.ended - made.started


def test_batches_start_with_each_user_in_turn_and_some_calls_do_not_count():
    asked = []

    made = time_calls(asked.append, ["a", "b", "c"], batch_size=2, num_calls=4)

    one_round = [["a", "b"], ["b", "c"], ["c", "a"], ["a", "b"]]
    assert asked == one_round + one_round
    np.testing.assert_array_less(0, made.seconds)
