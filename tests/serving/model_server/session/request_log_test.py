"""Requests logged by a model's configuration: the files' content, and when it is written."""

import glob
import threading

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from serving.client import TagClient, TagClientError
from serving.model_server.models.model_config import ModelConfig
from serving.model_server.server import ModelServer
from serving.model_server.session.request_log import RequestLog, RequestLogConfig
from tagtower_client.tensor_proto import to_numpy, write_numpy
from tests.serving.model_server.reload_test import predict
from tests.serving.model_server.server_process import wait_until

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


def test_sample_is_as_large_as_its_rate_says(prefix):
    log = RequestLog(RequestLogConfig(str(prefix), 0.25))
    num_sampled = sum(log.is_sampled() for _ in range(10_000))
    log.close()
    assert 2_300 < num_sampled < 2_700  # 4.6 standard deviations
    assert glob.glob(f"{prefix}*") == []  # nothing was logged, and no file made


def message(number):
    request, response = predict_pb2.PredictRequest(), predict_pb2.PredictResponse()
    write_numpy(request.inputs["x"], np.array([number], np.float32))
    write_numpy(response.outputs["y"], np.array([number], np.float32))
    return request, response


class Counts(dict):
    def __call__(self, status, number):
        self[status] = self.get(status, 0) + number


def test_files_are_closed_by_their_size_and_none_is_lost(prefix):
    counts = Counts()
    log = RequestLog(RequestLogConfig(str(prefix), 1.0), counts, file_bytes=1)
    for number in range(3):
        log.add(*message(number))
        assert wait_until(lambda n=number: len(glob.glob(f"{prefix}*d")) == n + 1, WAIT_S)
    log.close()
    assert sorted(values(log)[0] for log in read(prefix)) == [[0.0], [1.0], [2.0]]
    assert counts == {"written": 3}


def test_requests_of_many_threads_are_all_in_the_files(prefix):
    counts = Counts()
    log = RequestLog(RequestLogConfig(str(prefix), 1.0), counts)
    threads = [
        threading.Thread(target=lambda s=start: [log.add(*message(s + i)) for i in range(50)])
        for start in range(0, 400, 50)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    assert sorted(values(log)[0] for log in read(prefix)) == [[float(i)] for i in range(400)]
    assert counts == {"written": 400}


def test_what_does_not_fit_into_memory_is_dropped_and_counted(prefix):
    counts = Counts()
    log = RequestLog(RequestLogConfig(str(prefix), 1.0), counts, waiting_bytes=10)
    log.add(*message(1))
    log.close()
    log.add(*message(2))  # after the end
    assert counts == {"dropped": 2}


def test_disk_that_refuses_costs_records_and_no_request(toy_versions, tmp_path, caplog):
    (tmp_path / "logs").write_text("a file where the folder should be")
    prefix = tmp_path / "logs" / "toy"
    with ModelServer([config(toy_versions, prefix)], rest_api_port=0, host="127.0.0.1") as server:
        server.wait_until_available(WAIT_S)
        ask(server, 1.0, 2.0)
        line = ':tagtower:request_log:record_count{model_name="toy",status="dropped"} 2'
        page = server.manager._metrics.page
        assert wait_until(lambda: line in page(), WAIT_S), page()
    assert caplog.text.count(f"Logging requests to {prefix}: ") == 1
