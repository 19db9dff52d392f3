"""Requests logged by a model's configuration: the files' content, and when it is written."""

import glob
import resource
import threading

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    model_pb2,
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
)

from serving.client import TagClient, TagClientError
from serving.model_server.models.model_config import ModelConfig
from serving.model_server.server import ModelServer
from serving.model_server.session import request_log
from serving.model_server.session.log_options import RequestLogOptions
from serving.model_server.session.request_log import RequestLog, RequestLogConfig
from tagtower_client.tensor_proto import to_numpy, write_numpy
from tests.serving.model_server.reload_test import predict
from tests.serving.model_server.server_process import wait_until
from trainer.contract.file_system import names_in

WAIT_S = 60.0


def read(prefix, suffix=".tfrecord"):
    """Returns the logs in all files, in the order of their times."""
    paths = sorted(glob.glob(f"{prefix}-*{suffix}"))
    return [
        prediction_log_pb2.PredictionLog.FromString(record)
        for record in tf.data.TFRecordDataset(paths).as_numpy_iterator()
    ]


def values(log):
    """Returns x and y of a log of the toy."""
    logged = log.predict_log
    return (
        to_numpy(logged.request.inputs["x"]).tolist(),
        to_numpy(logged.response.outputs["y"]).tolist(),
    )


def ask(server, *numbers):
    with TagClient(f"127.0.0.1:{server.port}", model_name="toy", max_attempts=1) as client:
        for number in numbers:
            kind = object if isinstance(number, str) else np.float32
            client.predict({"x": np.array([number], kind)})


def config(versions, prefix, rate=1.0):
    log = None if prefix is None else RequestLogConfig(str(prefix), rate)
    return ModelConfig("toy", str(versions), request_log=log)


@pytest.fixture
def prefix(tmp_path):
    return tmp_path / "logs" / "toy"  # the folder is made


def test_answered_requests_of_both_interfaces_are_logged_with_their_answers(toy_versions, prefix):
    with ModelServer([config(toy_versions, prefix)], rest_api_port=0, host="127.0.0.1") as server:
        server.wait_until_available(WAIT_S)
        ask(server, 4.0)
        assert predict(server, "toy") == (200, [2.5])
        with pytest.raises(TagClientError):
            ask(server, "no number")
        assert predict(server, "toy/versions/9")[0] == 404
        # In memory for at most a second; an early reader finds it in the part.
        assert wait_until(lambda: len(read(prefix, ".part")) == 2, WAIT_S)
        assert read(prefix) == []

    logs = read(prefix)
    assert [values(log) for log in logs] == [([4.0], [4.0]), ([1.0], [2.5])]
    for log in logs:
        spec = log.log_metadata.model_spec
        assert (spec.name, spec.version.value) == ("toy", 2)
        assert spec.signature_name == "serving_default"
        assert log.log_metadata.sampling_config.sampling_rate == 1.0
        assert log.log_metadata.timestamp_secs > 1_600_000_000
        assert log.predict_log.response.model_spec == spec
    assert glob.glob(f"{prefix}*.part") == []


def test_large_compressed_request_is_logged_as_it_was_before(toy_versions, prefix):
    numbers = np.arange(100_000, dtype=np.float32)
    request = predict_pb2.PredictRequest(model_spec=model_pb2.ModelSpec(name="toy"))
    request.model_spec.version.value = 2
    write_numpy(request.inputs["x"], numbers)
    options = [("grpc.max_receive_message_length", -1)]
    logged = config(toy_versions, prefix)
    with ModelServer([logged], host="127.0.0.1", max_batch_size=len(numbers)) as server:
        server.wait_until_available(WAIT_S)
        with grpc.insecure_channel(f"127.0.0.1:{server.port}", options) as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            answer = stub.Predict(request, timeout=WAIT_S, compression=grpc.Compression.Gzip)
    (log,) = read(prefix)
    assert log.predict_log.request == request
    assert log.predict_log.response == answer
    np.testing.assert_array_equal(to_numpy(answer.outputs["y"]), numbers / 2 + 2)


def test_reload_moves_the_log_and_ends_it(toy_versions, prefix, tmp_path):
    other = tmp_path / "other"
    with ModelServer([config(toy_versions, None)], host="127.0.0.1") as server:
        server.wait_until_available(WAIT_S)
        ask(server, 1.0)
        server.manager.reload([config(toy_versions, prefix)])
        ask(server, 2.0)
        server.manager.reload([config(toy_versions, other)])
        assert [values(log)[0] for log in read(prefix)] == [[2.0]]  # closed
        ask(server, 3.0)
        server.manager.reload([config(toy_versions, None)])
        ask(server, 5.0)
        assert [values(log)[0] for log in read(other)] == [[3.0]]


def test_reload_changes_the_rate_and_loses_nothing(toy_versions, prefix):
    asked = [float(number) for number in range(60)]
    with ModelServer([config(toy_versions, prefix)], host="127.0.0.1") as server:
        server.wait_until_available(WAIT_S)
        caller = threading.Thread(target=ask, args=(server, *asked))
        caller.start()
        rates = [1.0, 0.9999999]  # of 32 bits, as the configuration has it
        while caller.is_alive():
            rates.reverse()
            server.manager.reload([config(toy_versions, prefix, rates[0])])
        caller.join()
        page = server.manager._metrics.page()
    assert 'status="dropped"' not in page
    assert [values(log)[0][0] for log in read(prefix)] == asked
    assert len(glob.glob(f"{prefix}*")) == 1


def test_sample_is_as_large_as_its_rate_says(prefix):
    log = RequestLog(RequestLogConfig(str(prefix), 0.25))
    num_sampled = sum(log.is_sampled() for _ in range(10_000))
    log.close()
    assert 2_300 < num_sampled < 2_700  # 4.6 standard deviations
    assert glob.glob(f"{prefix}*") == []  # nothing was logged, and no file made


def message(number, size=1):
    request, response = predict_pb2.PredictRequest(), predict_pb2.PredictResponse()
    write_numpy(request.inputs["x"], np.full(size, number, np.float32))
    write_numpy(response.outputs["y"], np.array([number], np.float32))
    return request.SerializeToString(), response.SerializeToString()


def add(log, number, size=1):
    """Logs a request that counts as 100 bytes."""
    log.add(model_pb2.ModelSpec(name="toy"), lambda: message(number, size), 100)


def new_log(prefix, counts, **options):
    return RequestLog(RequestLogConfig(str(prefix), 1.0), counts, RequestLogOptions(**options))


class Counts(dict):
    def __call__(self, status, reason, number):
        key = f"{status} {reason}".strip()
        self[key] = self.get(key, 0) + number


@pytest.mark.parametrize("limit", [{"file_bytes": 1}, {"file_s": 1e-9}])
def test_files_are_closed_by_their_size_or_age_and_none_is_lost(prefix, limit):
    counts = Counts()
    log = new_log(prefix, counts, **limit)
    for number in range(3):
        add(log, number)
    log.close()
    assert [values(log)[0] for log in read(prefix)] == [[0.0], [1.0], [2.0]]
    assert len(glob.glob(f"{prefix}-*.tfrecord")) == 3
    assert counts == {"written": 3}


def test_file_is_closed_by_its_age_without_another_request(prefix):
    counts = Counts()
    log = new_log(prefix, counts, file_s=1e-9)
    add(log, 1)
    assert wait_until(lambda: len(read(prefix)) == 1, WAIT_S)
    log.close()


def test_requests_of_many_threads_are_all_in_the_files(prefix):
    counts = Counts()
    log = new_log(prefix, counts)
    threads = [
        threading.Thread(target=lambda s=start: [add(log, s + i) for i in range(50)])
        for start in range(0, 400, 50)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    assert sorted(values(log)[0] for log in read(prefix)) == [[float(i)] for i in range(400)]
    assert counts == {"written": 400}


def test_two_logs_with_one_prefix_lose_nothing(prefix):
    counts = Counts()
    logs = [new_log(prefix, counts) for _ in range(2)]
    for number in range(40):
        add(logs[number % 2], number)
    for log in logs:
        log.close()
    assert sorted(values(log)[0] for log in read(prefix)) == [[float(i)] for i in range(40)]
    assert len(glob.glob(f"{prefix}-*")) == 2


def test_log_may_lie_in_an_object_store(tmp_path):
    prefix = f"ram://{tmp_path}/logs/toy"
    log = new_log(prefix, counts := Counts(), file_bytes=1)
    add(log, 1)
    add(log, 2)
    log.close()
    names = names_in(f"ram://{tmp_path}/logs")
    assert [name.rpartition("-")[2].partition(".")[2] for name in names] == ["tfrecord"] * 2
    assert counts == {"written": 2}


def test_request_does_not_wait_while_the_log_hangs_and_a_full_queue_drops(prefix):
    counts, is_going = Counts(), threading.Event()
    log = new_log(prefix, counts, waiting_bytes=1000)

    def hang():
        assert is_going.wait(WAIT_S)
        return message(0)

    log.add(model_pb2.ModelSpec(name="toy"), hang, 100)
    for number in range(1, 13):  # returns: nine fit beside the one that is being written
        add(log, number)
    assert counts == {"dropped queue_full": 3}
    is_going.set()
    log.close()
    add(log, 13)
    assert counts == {"dropped queue_full": 3, "written": 10, "dropped closed": 1}
    assert [values(log)[0] for log in read(prefix)] == [[float(i)] for i in range(10)]


def test_request_that_cannot_be_logged_is_dropped_and_the_next_is_logged(prefix):
    def fail():
        raise RuntimeError

    log = new_log(prefix, counts := Counts())
    log.add(model_pb2.ModelSpec(name="toy"), fail, 1)
    add(log, 1)
    log.close()
    assert counts == {"dropped error": 1, "written": 1}


def test_full_disk_costs_records_and_the_next_file_is_whole(prefix, monkeypatch):
    monkeypatch.setattr(request_log, "_PAUSE_S", 0.0)
    log = new_log(prefix, counts := Counts())
    add(log, 1)
    assert wait_until(lambda: counts == {"written": 1}, WAIT_S)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        add(log, 2, size=1_000_000)
        assert wait_until(lambda: counts.get("dropped disk") == 1, WAIT_S)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    add(log, 3)
    log.close()
    assert counts == {"written": 2, "dropped disk": 1}
    assert [values(log)[0] for log in read(prefix)] == [[3.0]]
    assert len(glob.glob(f"{prefix}*.part")) == 1  # with the first record, and a cut one


def test_disk_that_refuses_costs_records_and_no_request(toy_versions, tmp_path, caplog):
    (tmp_path / "logs").write_text("a file where the folder should be")
    prefix = tmp_path / "logs" / "toy"
    with ModelServer([config(toy_versions, prefix)], rest_api_port=0, host="127.0.0.1") as server:
        server.wait_until_available(WAIT_S)
        ask(server, 1.0, 2.0)
        line = 'record_count{model_name="toy",status="dropped",reason="disk"} 2'
        page = server.manager._metrics.page
        assert wait_until(lambda: line in page(), WAIT_S), page()
    assert caplog.text.count(f"Logging requests to {prefix}: ") == 1
