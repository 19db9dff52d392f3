"""Health, metrics, limits and shutdown, as an operator uses them."""

import gzip
import http.client
import json
import re
import resource
import socket
import threading
import time

import grpc
import numpy as np
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from serving.client import TagClient
from serving.model_server.models.model_config import ModelConfig
from serving.model_server.server import ModelServer
from tests.serving.model_server import toy_models
from tests.serving.model_server.server_process import wait_until

WAIT_S = 60.0
LIMIT = 20_000
MAX_REQUESTS = 3


@pytest.fixture(scope="module")
def limited(types_versions, tmp_path_factory):
    """Runs a server of `types` with small limits."""
    config = ModelConfig("types", str(types_versions))
    with ModelServer(
        [config],
        rest_api_port=0,
        host="127.0.0.1",
        max_message_bytes=LIMIT,
        max_requests=MAX_REQUESTS,
        has_reflection=True,
    ) as server:
        server.wait_until_available(WAIT_S)
        yield server


def connect(server):
    return http.client.HTTPConnection("127.0.0.1", server.rest_api_port, timeout=WAIT_S)


def ask(server, method, path, body=None, headers=None, connection=None):
    own = connection or connect(server)
    own.request(method, path, body, headers or {})
    response = own.getresponse()
    text = response.read().decode()
    if connection is None:
        own.close()
    return response.status, text


def request(signature, **inputs):
    sent = predict_pb2.PredictRequest()
    sent.model_spec.name = "types"
    sent.model_spec.signature_name = signature
    for name, value in inputs.items():
        sent.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return sent


class Hold:
    """Keeps the requests of a server under way until it is released."""

    def __init__(self, server, monkeypatch):
        self.num_entered = threading.Semaphore(0)
        self._leave = threading.Event()
        model = server.manager.models["types"]
        acquire = model.acquire

        def held(version=None):
            self.num_entered.release()
            assert self._leave.wait(WAIT_S)
            return acquire(version)

        monkeypatch.setattr(model, "acquire", held)

    def wait_for(self, num_requests):
        for _ in range(num_requests):
            assert self.num_entered.acquire(timeout=WAIT_S)

    def release(self):
        self._leave.set()


BODY = '{"signature_name": "float32", "inputs": [1.0]}'
PREDICT = "/v1/models/types:predict"


# Message size.


def test_message_larger_than_the_limit_is_resource_exhausted_over_grpc(limited):
    options = [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(f"127.0.0.1:{limited.port}", options=options) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Predict(request("float32", v=np.zeros(LIMIT, np.float32)))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert re.search(rf"larger than max \(\d+ vs\. {LIMIT}\)", caught.value.details())
        answer = stub.Predict(request("float32", v=np.zeros(LIMIT // 8, np.float32)))
        assert len(answer.outputs["v"].float_val) == LIMIT // 8


@pytest.mark.parametrize("is_chunked", [False, True])
def test_body_larger_than_the_limit_is_413_and_the_connection_lives(limited, is_chunked):
    connection = connect(limited)
    body = b" " * (LIMIT + 1)
    status, text = ask(
        limited, "POST", PREDICT, iter([body]) if is_chunked else body, connection=connection
    )
    expected = f"Received message larger than max ({LIMIT + 1} vs. {LIMIT})"
    assert (status, json.loads(text)) == (413, {"error": expected})
    status, text = ask(limited, "POST", PREDICT, BODY, connection=connection)
    assert (status, json.loads(text)) == (200, {"outputs": [1.0]})
    connection.close()


def test_compressed_body_counts_by_what_it_unpacks_to(limited):
    body = gzip.compress(b" " * 100 * LIMIT)
    assert len(body) < LIMIT
    status, _ = ask(limited, "POST", PREDICT, body, {"Content-Encoding": "gzip"})
    assert status == 413


# Concurrency.


def test_requests_beyond_the_limit_are_429_over_rest(limited, monkeypatch):
    hold = Hold(limited, monkeypatch)
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(ask(limited, "POST", PREDICT, BODY)[0]))
        for _ in range(MAX_REQUESTS)
    ]
    for thread in threads:
        thread.start()
    hold.wait_for(MAX_REQUESTS)
    status, text = ask(limited, "POST", PREDICT, BODY)
    hold.release()
    for thread in threads:
        thread.join()
    expected = {"error": "Concurrent request limit exceeded!"}
    assert (status, json.loads(text)) == (429, expected)
    assert answers == [200] * MAX_REQUESTS
    assert ask(limited, "POST", PREDICT, BODY)[0] == 200


def test_requests_beyond_the_limit_are_resource_exhausted_over_grpc(limited, monkeypatch):
    hold = Hold(limited, monkeypatch)
    with grpc.insecure_channel(f"127.0.0.1:{limited.port}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        sent = request("int64", v=np.array([1]))
        held = [stub.Predict.future(sent) for _ in range(MAX_REQUESTS)]
        hold.wait_for(MAX_REQUESTS)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Predict(sent)
        hold.release()
        assert [list(call.result().outputs["v"].int64_val) for call in held] == [[1]] * MAX_REQUESTS
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


# Callers that send nothing.


@pytest.fixture
def silence():
    """Returns messages that never come, until the test is over."""
    over = threading.Event()

    def messages():
        over.wait(WAIT_S)
        yield from ()

    yield messages
    over.set()


@pytest.mark.parametrize("method", ["Predict", "Check", "Watch", "ServerReflectionInfo"])
def test_call_without_its_message_ends_in_time(types_versions, silence, method):
    service = {
        "Predict": "tensorflow.serving.PredictionService",
        "ServerReflectionInfo": "grpc.reflection.v1alpha.ServerReflection",
    }.get(method, "grpc.health.v1.Health")
    config = ModelConfig("types", str(types_versions))
    with ModelServer(
        [config], host="127.0.0.1", request_read_timeout_s=0.2, has_reflection=True
    ) as server:
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            call = channel.stream_stream(f"/{service}/{method}")(silence())
            with pytest.raises(grpc.RpcError) as caught:
                list(call)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert caught.value.details() == (
        "The request did not arrive within --request_read_timeout_seconds=0.2."
    )


def test_stop_does_not_wait_for_calls_without_a_message(types_versions, silence):
    server = ModelServer([ModelConfig("types", str(types_versions))], host="127.0.0.1")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        call = channel.stream_unary("/tensorflow.serving.PredictionService/Predict")
        silent = call.future(silence())
        # One that the server does not know yet is cancelled.
        assert wait_until(lambda: server._grpc_server._waiting.num_waiting == 1, WAIT_S)
        start = time.monotonic()
        assert server.stop(WAIT_S) is True
        assert time.monotonic() - start < WAIT_S / 2
        assert silent.code() is grpc.StatusCode.UNAVAILABLE


def test_connection_that_is_too_old_ends_without_an_error(types_versions):
    # A client that was told to go reconnects: many times in a second here.
    arguments = [("grpc.max_connection_age_ms", 50), ("grpc.max_connection_age_grace_ms", 60_000)]
    config = ModelConfig("types", str(types_versions))
    with ModelServer([config], host="127.0.0.1", channel_arguments=arguments) as server:
        server.wait_until_available(WAIT_S)
        with TagClient(f"127.0.0.1:{server.port}", model_name="types", max_attempts=1) as client:
            end = time.monotonic() + 1.0
            while time.monotonic() < end:
                answer = client.predict({"v": np.array([7])}, signature_name="int64")
                assert answer.outputs["v"].tolist() == [7]


def test_connections_leave_files_for_others(types_versions, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (6, 6))
    with ModelServer([ModelConfig("types", str(types_versions))], host="127.0.0.1") as server:
        address = ("127.0.0.1", server.port)
        silent = [socket.create_connection(address, timeout=WAIT_S) for _ in range(3)]
        # The server sends settings to a connection that it accepts.
        greeted = [bool(connection.recv(1)) for connection in silent]
        for connection in silent:
            connection.close()
        assert greeted == [True, True, False]
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=WAIT_S, wait_for_ready=True
            )


def test_batch_beyond_the_limit_is_refused_over_rest(types_versions):
    config = ModelConfig("types", str(types_versions))
    with ModelServer([config], rest_api_port=0, host="127.0.0.1", max_batch_size=3) as server:
        server.wait_until_available(WAIT_S)
        body = {"signature_name": "float32", "instances": [1.0] * 3}
        assert ask(server, "POST", PREDICT, json.dumps(body))[0] == 200
        body["instances"].append(1.0)
        status, text = ask(server, "POST", PREDICT, json.dumps(body))
    expected = "`v` must have at most --max_batch_size=3 examples. Received: 4. "
    assert status == 400
    assert json.loads(text)["error"].startswith(expected)


# Health and reflection.


@pytest.mark.parametrize("service", ["", "ModelService", "PredictionService"])
def test_health_is_serving_whatever_the_models_do(limited, service):
    with grpc.insecure_channel(f"127.0.0.1:{limited.port}") as channel:
        response = health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(service=service)
        )
    assert response.status == health_pb2.HealthCheckResponse.SERVING


def test_health_of_an_unknown_service_is_not_found(limited):
    with grpc.insecure_channel(f"127.0.0.1:{limited.port}") as channel:
        with pytest.raises(grpc.RpcError) as caught:
            health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service="x"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_reflection_lists_the_services(limited):
    with grpc.insecure_channel(f"127.0.0.1:{limited.port}") as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        sent = reflection_pb2.ServerReflectionRequest(list_services="")
        (response,) = stub.ServerReflectionInfo(iter([sent]))
    assert {service.name for service in response.list_services_response.service} == {
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
        "tensorflow.serving.ModelService",
        "tensorflow.serving.PredictionService",
    }


# Metrics.


def count(page, line):
    """Returns the number behind a line of the page; 0 if it has none."""
    match = re.search(rf"^{re.escape(line)} (\S+)$", page, re.MULTILINE)
    return float(match[1]) if match else 0.0


def test_metrics_count_answers_and_errors_under_the_real_names(types_versions, tmp_path):
    versions = tmp_path / "types"
    toy_models.save_toy(versions / "1", 1)
    sent = predict_pb2.PredictRequest()
    sent.inputs["x"].CopyFrom(tf.make_tensor_proto(np.array([1.0], np.float32)))
    toy_models.write_warmup(versions / "1", [sent])
    config = ModelConfig("toy", str(versions))
    with ModelServer([config], rest_api_port=0, host="127.0.0.1", metrics_path="/m") as server:
        server.wait_until_available(WAIT_S)
        body = '{"instances": [1.0]}'
        for path in ("toy:predict", "toy:predict", "nope:predict", "toy:PREDICT"):
            ask(server, "POST", f"/v1/models/{path}", body)
        ask(server, "GET", "/v1/models/toy")
        ask(server, "GET", "/v1/zzz")
        ask(server, "OPTIONS", "/v1/zzz")
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            sent.model_spec.name = "toy"
            stub.Predict(sent)
            sent.model_spec.signature_name = "nosig"
            with pytest.raises(grpc.RpcError):
                stub.Predict(sent)
        status, page = ask(server, "GET", "/m")
        assert ask(server, "GET", "/monitoring/prometheus/metrics")[0] == 404

    assert status == 200
    counted = ":tensorflow:serving:request_count"
    latency = ":tensorflow:serving:request_latency_count"
    path = versions / "1"
    runtime = ":tensorflow:serving:runtime_latency_count"
    for line, expected in {
        counted + '{model_name="toy",status="OK"}': 4,
        counted + '{model_name="toy",status="INVALID_ARGUMENT"}': 1,
        counted + '{model_name="toy",status="FAILED_PRECONDITION"}': 1,
        counted + '{model_name="",status="NOT_FOUND"}': 1,
        counted + '{model_name="",status="INVALID_ARGUMENT"}': 1,
        counted + '{model_name="",status="FAILED_PRECONDITION"}': 1,
        latency + '{model_name="toy",API="predict",entrypoint="REST"}': 2,
        latency + '{model_name="toy",API="",entrypoint="REST"}': 1,
        latency + '{model_name="toy",API="Predict",entrypoint="GRPC"}': 1,
        runtime + '{model_name="toy",API="Predict",runtime="TF1"}': 3,
        f':tensorflow:serving:model_warmup_latency_count{{model_path="{path}",status="OK"}}': 1,
        f':tensorflow:cc:saved_model:load_attempt_count{{model_path="{path}",status="success"}}': 1,
    }.items():
        assert count(page, line) == expected, line
    total = count(
        page,
        ':tensorflow:serving:request_latency_sum{model_name="toy",API="Predict",entrypoint="GRPC"}',
    )
    assert 0 < total < WAIT_S * 1e6  # microseconds


# The end.


def wait_until_refused(server):
    """Waits until the REST port accepts no more connections."""
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        try:
            ask(server, "GET", "/")
        except ConnectionError:
            return True
    return False


@pytest.fixture
def ending(types_versions):
    config = ModelConfig("types", str(types_versions))
    server = ModelServer([config], rest_api_port=0, host="127.0.0.1")
    server.start()
    server.wait_until_available(WAIT_S)
    yield server
    server.stop(0)


def test_stop_lets_requests_under_way_finish_and_refuses_new_ones(ending, monkeypatch):
    hold = Hold(ending, monkeypatch)
    kept_alive = connect(ending)
    assert ask(ending, "GET", "/v1/models/types", connection=kept_alive)[0] == 200
    rest_answers, drained = [], []
    with grpc.insecure_channel(f"127.0.0.1:{ending.port}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        call = stub.Predict.future(request("int64", v=np.array([7])))
        rest = threading.Thread(
            target=lambda: rest_answers.append(ask(ending, "POST", PREDICT, BODY))
        )
        rest.start()
        hold.wait_for(2)
        stop = threading.Thread(target=lambda: drained.append(ending.stop(WAIT_S)))
        stop.start()
        # A new connection finds nobody, and on one that is open already a new request is told to
        # go elsewhere.
        assert wait_until_refused(ending)
        status, text = ask(ending, "GET", "/v1/models/types", connection=kept_alive)
        assert (status, json.loads(text)) == (503, {"error": "The server is shutting down."})
        with pytest.raises(grpc.RpcError) as caught:
            stub.Predict(request("int64", v=np.array([8])))
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        hold.release()
        rest.join()
        stop.join()
        assert list(call.result().outputs["v"].int64_val) == [7]
    kept_alive.close()
    assert [(status, json.loads(text)) for status, text in rest_answers] == [
        (200, {"outputs": [1.0]})
    ]
    assert drained == [True]


def test_stop_is_bounded_and_says_that_requests_were_cut_off(ending, monkeypatch):
    hold = Hold(ending, monkeypatch)
    rest = threading.Thread(
        target=lambda: pytest.raises(OSError, ask, ending, "POST", PREDICT, BODY)
    )
    rest.start()
    hold.wait_for(1)
    assert ending.stop(0.05) is False
    hold.release()
    rest.join()


def test_stop_ends_the_streams_of_those_who_watch_the_health(ending):
    with grpc.insecure_channel(f"127.0.0.1:{ending.port}") as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        assert ending.stop(WAIT_S) is True
        statuses = [response.status for response in watch]
    assert statuses == [health_pb2.HealthCheckResponse.NOT_SERVING]
