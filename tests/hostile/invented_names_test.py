"""A server does not keep names that callers invent, or names that are gone."""

import contextlib
import http.client
import shutil
import time

import grpc
import pytest
from tensorflow_serving.apis import get_model_status_pb2, predict_pb2, prediction_service_pb2_grpc

from serving.model_server.counts.metrics import Metrics
from serving.model_server.errors import ServingError
from serving.model_server.models import version_lifecycle as served_model
from serving.model_server.models.known_version import MAX_ENDED_VERSIONS
from serving.model_server.models.manager import MAX_REMOVED_MODELS, ModelManager
from serving.model_server.models.model_config import ModelConfig
from serving.model_server.models.model_info import model_status
from serving.model_server.server import ModelServer

WAIT_S = 60
NUM_NAMES = 3 * MAX_REMOVED_MODELS


class FakeServable:
    def __init__(self, path, version, is_wanted, metrics, memory):
        metrics.observe_warmup(path, "OK", 0.1)

    def close(self):
        pass


@pytest.fixture
def fake_loads(monkeypatch):
    monkeypatch.setattr(served_model, "load_servable", FakeServable)


@contextlib.contextmanager
def managed(*configs, poll_wait_s=0.001):
    metrics = Metrics()
    manager = ModelManager(configs, poll_wait_s, metrics=metrics)
    manager.start()
    try:
        yield manager, metrics
    finally:
        manager.stop()


def ask(server, method, path, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_api_port, timeout=WAIT_S)
    connection.request(method, path, body)
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return response.status, text


def until(condition):
    """Waits until another thread has done something."""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def states(manager, name):
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = name
    name_of = get_model_status_pb2.ModelVersionStatus.State.Name
    found = model_status(manager, request).model_version_status
    return {status.version: name_of(status.state) for status in found}


def test_requests_for_models_that_nobody_serves_share_one_label(tmp_path):
    request = predict_pb2.PredictRequest()
    names = [f"{number:03d}{'x' * 300}" for number in range(50)]
    with ModelServer(
        [ModelConfig("toy", str(tmp_path / "none"))], rest_api_port=0, host="127.0.0.1"
    ) as server:
        before = ask(server, "GET", "/monitoring/prometheus/metrics")[1]
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            for name in names:
                request.model_spec.name = name
                with pytest.raises(grpc.RpcError, match="NOT_FOUND"):
                    stub.Predict(request, timeout=WAIT_S)
                assert ask(server, "POST", f"/v1/models/{name}:predict", "{}")[0] in (400, 404)
                assert ask(server, "GET", f"/v1/models/{name}")[0] == 404
        page = ask(server, "GET", "/monitoring/prometheus/metrics")[1]
    assert "xxx" not in page
    assert ':request_count{model_name="",status="NOT_FOUND"} ' in page
    assert len(page) - len(before) < 500


def test_names_of_reloaded_models_are_forgotten_but_for_the_last(tmp_path, fake_loads):
    for number in range(NUM_NAMES):
        (tmp_path / f"m{number}" / "1").mkdir(parents=True)
    with managed() as (manager, metrics):
        for number in range(NUM_NAMES):
            name = f"m{number}"
            manager.reload([ModelConfig(name, str(tmp_path / name))])
            metrics.count_answer(name, "Predict", "GRPC", 0.1)
            assert states(manager, name) == {1: "AVAILABLE"}
        last = NUM_NAMES - 1
        # The one to be served, and those that it still reports as ended.
        until(lambda: len(manager.models) <= MAX_REMOVED_MODELS + 1)
        until(lambda: states(manager, f"m{last - 1}") == {1: "END"})
        with pytest.raises(ServingError, match="Could not find any versions of model m0"):
            states(manager, "m0")
        # Versions that are gone have no counts.
        until(lambda: metrics.page().count("m") < 2000)
        page = metrics.page()
        assert f'"m{last}"' in page and f'"m{last - 1}"' not in page
        # A name that comes back is like any other.
        manager.reload([ModelConfig("m0", str(tmp_path / "m0"))])
        assert states(manager, "m0") == {1: "AVAILABLE"}


def test_reloads_that_nothing_comes_of_leave_nothing(tmp_path):
    with managed(poll_wait_s=60) as (manager, _):
        for number in range(20):
            config = ModelConfig(f"m{number}", str(tmp_path / "none"))
            manager.reload([config], is_awaited=lambda: False)
        until(lambda: len(manager.models) <= 2)


def test_versions_that_came_and_went_are_forgotten_but_for_the_last(tmp_path, fake_loads):
    base_path = tmp_path / "base"
    last = 4 * MAX_ENDED_VERSIONS
    with managed(ModelConfig("toy", str(base_path))) as (manager, metrics):
        for version in range(1, last + 1):
            (base_path / str(version)).mkdir(parents=True)
            available = {"toy": [version]}
            until(lambda available=available: manager.available_versions() == available)
            shutil.rmtree(base_path / str(version - 1), ignore_errors=True)
        expected = {version: "END" for version in range(last - MAX_ENDED_VERSIONS, last)}
        expected[last] = "AVAILABLE"
        until(lambda: states(manager, "toy") == expected)

        def counted():
            lines = metrics.page().splitlines()
            return {line for line in lines if line.startswith(":tensorflow:cc:")}

        until(lambda: len(counted()) == MAX_ENDED_VERSIONS + 1)
        assert any(f"/{last}" in line for line in counted())
