"""A server that joins requests: gRPC and REST, its stop, an unload, and its flags."""

import http.client
import json
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from serving.model_server.batching.parameters import BatchingParameters
from serving.model_server.models.model_config import ModelConfig
from serving.model_server.models.version_state import VersionState
from serving.model_server.server import ModelServer

HOUR = 3_600_000_000
WAIT_S = 60.0


def new_server(versions, **parameters):
    return ModelServer(
        [ModelConfig("toy", str(versions))],
        rest_api_port=0,
        poll_wait_s=0.05,
        batching=BatchingParameters(batch_timeout_micros=HOUR, **parameters),
    )


@pytest.fixture
def server(examples_versions):
    """Runs a server whose batches wait until two rows are there."""
    with new_server(examples_versions, max_batch_size=2) as server:
        server.wait_until_available(WAIT_S)
        yield server


def lists(*tags):
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "toy", "lists"
    request.inputs["tags"].CopyFrom(tf.make_tensor_proto([[tag] for tag in tags]))
    weights = np.full((len(tags), 1), 2.0, np.float32)
    request.inputs["tags_weights"].CopyFrom(tf.make_tensor_proto(weights))
    return request


def get(server, method, path, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_api_port, timeout=WAIT_S)
    try:
        connection.request(method, path, body)
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def wait_for_rows(server, number):
    """Waits until so many rows are in the queue."""
    line = f':batching_session:input_batch_size_sum{{model_name="toy"}} {number}.0'
    end = time.monotonic() + WAIT_S
    while line not in get(server, "GET", "/monitoring/prometheus/metrics"):
        assert time.monotonic() < end
        time.sleep(0.01)


def test_callers_over_grpc_and_rest_share_a_call(server):
    body = {"signature_name": "lists", "instances": [{"tags": ["b"], "tags_weights": [3.0]}]}
    with (
        grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel,
        ThreadPoolExecutor(1) as rest,
    ):
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        first = stub.Predict.future(lists("a"), timeout=WAIT_S)
        second = rest.submit(get, server, "POST", "/v1/models/toy:predict", json.dumps(body))

        outputs = first.result().outputs
        assert (outputs["num_rows"].int_val[:], outputs["sum"].float_val[:]) == ([2], [2.0])
        assert json.loads(second.result(WAIT_S))["predictions"] == [
            {"num_rows": 2, "num_tags": 1.0, "sum": 3.0, "width": 1}
        ]


def test_errors_reach_the_callers_with_their_codes(server):
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Predict(lists("a", "b", "c"), timeout=WAIT_S)
    message = "Task size 3 is larger than maximum input batch size 2"
    assert (caught.value.code(), caught.value.details()) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        message,
    )
    rows = [{"tags": ["b"], "tags_weights": [3.0]}] * 3
    body = json.dumps({"signature_name": "lists", "instances": rows})
    assert json.loads(get(server, "POST", "/v1/models/toy:predict", body)) == {"error": message}


def test_waiting_requests_keep_their_version_and_are_answered_when_the_server_stops(server):
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        waiting = stub.Predict.future(lists("a"), timeout=WAIT_S)
        wait_for_rows(server, 1)
        server.manager.reload([])
        model = server.manager.models["toy"]
        unloading = VersionState.UNLOADING
        assert server.manager.wait_until(
            lambda: [status.state for status in model.statuses()] == [unloading], WAIT_S
        )

        assert server.stop(WAIT_S)

        assert waiting.result().outputs["num_rows"].int_val[:] == [1]
        assert server.manager.wait_until(
            lambda: [status.state for status in model.statuses()] == [VersionState.END], WAIT_S
        )
