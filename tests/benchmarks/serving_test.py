import numpy as np
import pytest

from benchmarks import serving
from benchmarks.retrieve_callers import (
    ECHO,
    FLOOR,
    GRPC,
    IN_PROCESS,
    REST,
    TENSORFLOW,
    Calls,
)
from benchmarks.serving import NUM_CALLS, NUM_CLIENTS, flatten, summarize, table
from tests.report_keys import undocumented_keys, unwritten_keys


def calls(seconds, started=0.0):
    """Returns calls that took `seconds` each, without pauses."""
    return Calls(np.array(seconds), started, started + float(np.sum(seconds)))


def test_latest_version_is_the_highest_number(tmp_path):
    for name in ("9", "10", "staged", "1.tmp"):
        (tmp_path / name).mkdir()

    assert serving.latest_version(tmp_path).name == "10"


def test_base_path_without_a_version_says_what_to_run(tmp_path, monkeypatch):
    monkeypatch.setenv("MODEL_BASE_PATH", str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="^`MODEL_BASE_PATH` must be .* `make run` makes one"):
        serving.run(print)


def test_summary_of_one_caller_over_rounds_by_value():
    # 99 calls of 1 ms and one of 101 ms, in two rounds with a pause between: 2 ms in the mean.
    rounds = [[calls([0.001] * 50)], [calls([0.001] * 49 + [0.101], started=100.0)]]

    measured = summarize(rounds, batch_size=64)

    assert measured.latency_ms_p50 == pytest.approx(1)
    assert measured.latency_ms_p99 == pytest.approx(1 + 0.01 * 100)
    assert measured.requests_per_second == pytest.approx(500)
    assert measured.users_per_second == pytest.approx(32_000)


def test_summary_of_several_callers_takes_the_time_from_the_first_start_to_the_last_end():
    rounds = [[calls([1.0, 1.0], started=10.0), calls([1.0, 1.0], started=11.0)]]

    assert summarize(rounds, 1).requests_per_second == pytest.approx(4 / 3)


def test_keys_and_table_cover_interfaces_batches_and_callers():
    measured = {(IN_PROCESS, size, 1): [[calls([0.002])]] for size in NUM_CALLS}
    measured |= {(TENSORFLOW, size, 1): [[calls([0.003])]] for size in NUM_CALLS}
    for interface, seconds in ((ECHO, 0.0005), (FLOOR, 0.002), (GRPC, 0.0025), (REST, 0.004)):
        for size in NUM_CALLS:
            for num_clients in (1, NUM_CLIENTS):
                callers = [calls([seconds]) for _ in range(num_clients)]
                measured[interface, size, num_clients] = [callers]
    figures = flatten(measured)

    assert figures["serving.grpc.batch_64.latency_ms_p50"] == pytest.approx(2.5)
    assert figures["serving.grpc.batch_1.added_to_in_process_ms_p50"] == pytest.approx(0.5)
    assert figures["serving.grpc.batch_1.added_to_tensorflow_ms_p50"] == pytest.approx(-0.5)
    assert figures["serving.grpc.batch_64.share_of_tensorflow"] == pytest.approx(1.2)
    assert figures["serving.grpc.batch_64.share_of_in_process"] == pytest.approx(0.8)
    assert figures["serving.grpc.batch_64.clients_8.share_of_in_process"] == pytest.approx(6.4)
    assert figures["serving.floor.batch_64.share_of_tensorflow"] == pytest.approx(1.5)
    assert figures["serving.rest.batch_1.clients_8.users_per_second"] == pytest.approx(2000)
    assert undocumented_keys(figures) == []
    # The other keys are not of calls.
    missing = unwritten_keys(figures, "benchmarks/serving.py")
    assert not [key for key in missing if key.startswith("serving.<")]
    # Two batch sizes: in process one caller alone, the others with one and with eight; the batch.
    assert len(table(figures).splitlines()) == 2 + 2 * (2 + 4 * 2) + 1
