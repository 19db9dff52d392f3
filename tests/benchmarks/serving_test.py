import http.client

import numpy as np
import pytest

from benchmarks import serving
from benchmarks.serving import GRPC, IN_PROCESS, NUM_CALLS, REST, flatten, summarize, table
from serving.feature_tensors import InputSlot
from serving.model_server.model_config import ModelConfig
from serving.model_server.server import ModelServer
from tests.report_keys import undocumented_keys
from tests.serving.model_server import toy_models


def test_latest_version_is_the_highest_number(tmp_path):
    for name in ("9", "10", "staged", "1.tmp"):
        (tmp_path / name).mkdir()

    assert serving.latest_version(tmp_path).name == "10"


def test_base_path_without_a_version_says_what_to_run(tmp_path, monkeypatch):
    monkeypatch.setenv("MODEL_BASE_PATH", str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="^`MODEL_BASE_PATH` must be .* `make run` makes one"):
        serving.run(print)


def test_summary_of_calls_by_value():
    # 99 calls of 1 ms and one of 101 ms: 2 ms in the mean.
    measured = summarize(np.array([0.001] * 99 + [0.101]), batch_size=64)

    assert measured.latency_ms_p50 == pytest.approx(1)
    assert measured.latency_ms_p99 == pytest.approx(1 + 0.01 * 100)
    assert measured.requests_per_second == pytest.approx(500)
    assert measured.users_per_second == pytest.approx(32_000)


def test_keys_and_table_cover_interfaces_and_batches():
    measured = summarize(np.array([0.002]), 1)
    figures = flatten({i: dict.fromkeys(NUM_CALLS, measured) for i in (IN_PROCESS, GRPC, REST)})

    assert figures["serving.grpc.batch_64.latency_ms_p50"] == pytest.approx(2)
    assert undocumented_keys(figures) == []
    assert len(table(figures).splitlines()) == 2 + 6


def test_rest_call_gives_what_the_model_answers(tmp_path):
    toy_models.save_retriever(tmp_path / "1", 1)
    slots = {
        "gender": InputSlot(is_text=True, is_list=False),
        "recent": InputSlot(is_text=True, is_list=True),
        "recent_weights": InputSlot(is_text=False, is_list=True),
    }
    instances = [{"gender": "F", "recent": ["drama", "café"], "recent_weights": [0.5, 2]}, {}]
    config = ModelConfig("default", str(tmp_path))
    with ModelServer([config], rest_api_port=0, host="127.0.0.1") as server:
        server.wait_until_available(30)
        connection = http.client.HTTPConnection("127.0.0.1", server.rest_api_port)
        tags, scores = serving.rest_retrieve(connection, slots)(instances)
        connection.close()

    assert tags == [["F", "drama|café"], ["", "|"]]
    assert scores == [[2.5, -2.5], [0.0, 0.0]]
