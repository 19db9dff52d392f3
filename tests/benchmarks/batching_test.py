"""The benchmark of batching: its figures by hand, and its callers against a real server."""

import pytest
from tensorflow_serving.apis import predict_pb2

from benchmarks.batching import (
    BATCHED,
    NUM_CALLERS,
    PARAMETERS,
    UNBATCHED,
    Callers,
    CallersMeasurement,
    flatten,
    summarize,
    table,
)
from serving.model_server.batching.parameters import (
    BatchingParameters,
    read_batching_parameters,
)
from serving.model_server.models.model_config import ModelConfig
from serving.model_server.server import ModelServer
from tests.report_keys import undocumented_keys, unwritten_keys
from tests.serving.model_server import toy_models


def test_rates_and_latencies_of_several_rounds():
    # 3 calls in 0.5 s and 1 in 0.3 s.
    found = summarize([([0.1, 0.2, 0.3], 0.5), ([0.4], 0.3)])

    assert found == CallersMeasurement(
        pytest.approx(5.0), pytest.approx(250.0), pytest.approx(397.0)
    )


def test_speedup_is_the_median_of_the_rounds_ratios_and_keys_are_documented():
    unbatched = [([0.1] * 2, 1.0), ([0.1] * 2, 1.0), ([0.1] * 2, 1.0)]
    batched = [([0.1] * 4, 1.0), ([0.1] * 3, 1.0), ([0.1] * 40, 1.0)]
    figures = flatten(
        {(UNBATCHED, number): unbatched for number in NUM_CALLERS}
        | {(BATCHED, number): batched for number in NUM_CALLERS}
    )

    assert [figures[f"batching.callers_{number}.speedup"] for number in NUM_CALLERS] == [2.0] * 3
    assert undocumented_keys(figures) == []
    assert unwritten_keys(figures, "benchmarks/batching.py") == []
    assert len(table(figures).splitlines()) == 2 + 2 * len(NUM_CALLERS)


def test_parameters_are_a_file_that_the_server_reads(tmp_path):
    path = tmp_path / "batching.conf"
    path.write_text(PARAMETERS)

    assert read_batching_parameters(str(path)) == BatchingParameters(
        64, 0, 100, 1, "batch_threads", pad_variable_length_inputs=True
    )


def test_callers_send_their_requests_in_turns_and_count_them(tmp_path):
    toy_models.save_toy(tmp_path / "1", 1)
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "default"
    tensor = request.inputs["x"]
    tensor.dtype = 1
    tensor.tensor_shape.dim.add(size=1)
    tensor.float_val.append(2.0)
    config = ModelConfig("default", str(tmp_path))
    with ModelServer([config], batching=BatchingParameters(num_batch_threads=1)) as server:
        server.wait_until_available(60)
        callers = Callers({BATCHED: server.port}, [request.SerializeToString()] * 2)

        seconds, together = callers.calls(BATCHED, 3, 0.2)

    assert len(seconds) >= 3
    assert all(0 < one < together for one in seconds)
