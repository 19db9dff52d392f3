import numpy as np
import pytest
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from benchmarks.request_log import CASES, WITH, WITHOUT, faults, flatten, models_config, table
from benchmarks.retrieve_callers import Calls
from serving.model_server.models.model_config import read_model_configs
from serving.model_server.session.request_log import RequestLogConfig
from tests.report_keys import undocumented_keys, unwritten_keys


def rounds(seconds, num_callers):
    """Returns two rounds of callers, each with 100 calls that took `seconds` each."""
    calls = Calls(np.full(100, seconds), 0.0, 100 * seconds)
    return [[calls] * num_callers] * 2


def test_rates_and_times_of_both_and_their_ratios():
    measured = {(WITHOUT, *case): rounds(0.002, case[1]) for case in CASES}
    measured |= {(WITH, *case): rounds(0.0025, case[1]) for case in CASES}
    figures = flatten(measured) | {"request_log.num_written": 9, "request_log.num_dropped": 0}

    case = "request_log.batch_1.clients_8"
    assert figures[f"{case}.without_requests_per_second"] == pytest.approx(8 / 0.002)
    assert figures[f"{case}.requests_ratio"] == pytest.approx(0.8)
    assert figures[f"{case}.with_latency_ms_p99"] == pytest.approx(2.5)
    assert figures[f"{case}.latency_ratio"] == pytest.approx(1.25)
    assert len(table(figures).splitlines()) == 2 + len(CASES)
    assert undocumented_keys(figures) == []
    assert unwritten_keys(figures, "benchmarks/request_log.py") == []
    assert faults(figures) == []
    assert faults(figures | {"request_log.num_dropped": 2}) == [
        "2 records of the request log were dropped"
    ]


def test_one_of_two_models_has_a_log(tmp_path):
    text = models_config(tmp_path, "/logs/a")
    config = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    assert [(c.name, c.request_log) for c in read_model_configs(config)] == [
        (WITHOUT, None),
        (WITH, RequestLogConfig("/logs/a", 1.0)),
    ]
