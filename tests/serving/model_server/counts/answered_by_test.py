"""Which version, label and signature answered: in the answer's metadata, headers and metrics."""

import http.client
import json

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from serving.model_server.counts.answered_by import AnsweredBy
from serving.model_server.models.model_config import ModelConfig
from serving.model_server.models.version_policy import AllVersions
from serving.model_server.server import ModelServer
from tagtower_client.tensor_proto import write_numpy
from tests.serving.model_server.server_process import wait_until

WAIT_S = 60.0
OURS = "tagtower-"


@pytest.fixture(scope="module")
def labelled(toy_versions):
    """Runs a server of both versions of `toy`, the first one with a label that is not ASCII."""
    config = ModelConfig("toy", str(toy_versions), AllVersions(), {"ständig": 1})
    with ModelServer([config], rest_api_port=0, host="127.0.0.1") as server:
        assert wait_until(lambda: server.manager.available_versions() == {"toy": [2, 1]}, WAIT_S)
        assert wait_until(lambda: server.manager.is_ready, WAIT_S)
        yield server


def ask(server, signature="", inputs=(), **version):
    """Sends a request over gRPC; returns the tagtower metadata of the answer."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "toy", signature
    if "number" in version:
        request.model_spec.version.value = version["number"]
    if "label" in version:
        request.model_spec.version_label = version["label"]
    for name, values in dict(inputs or {"x": np.array([1.0], np.float32)}).items():
        write_numpy(request.inputs[name], values)
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        _, call = stub.Predict.with_call(request, timeout=WAIT_S)
        return {key: value for key, value in call.trailing_metadata() if key.startswith(OURS)}


def post(server, path, document):
    """Sends a request over REST; returns the status and the tagtower headers of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_api_port, timeout=WAIT_S)
    connection.request("POST", f"/v1/models/{path}:predict", json.dumps(document))
    response = connection.getresponse()
    response.read()
    connection.close()
    headers = {key.lower(): value for key, value in response.getheaders()}
    return response.status, {key: headers[key] for key in headers if key.startswith(OURS)}


def test_answer_names_version_label_and_signature(labelled):
    latest = {"tagtower-model-version": "2", "tagtower-signature": "serving_default"}
    by_label = {
        "tagtower-model-version": "1",
        "tagtower-version-label": "st%C3%A4ndig",
        "tagtower-signature": "kinds",
    }
    row = {"instances": [{"x": 1.0}]}
    kinds = {"signature_name": "kinds", "inputs": {"i": [1]}}

    assert ask(labelled) == latest
    assert ask(labelled, number=2) == latest
    assert ask(labelled, "kinds", {"i": np.array([1], np.int32)}, label="ständig") == by_label
    assert post(labelled, "toy", row) == (200, latest)
    assert post(labelled, "toy/labels/st%C3%A4ndig", kinds) == (200, by_label)
    assert post(labelled, "toy", {"instances": [{"x": "no number"}]}) == (400, {})


def test_requests_are_counted_by_version_label_and_signature(labelled):
    def count(**labels):
        given = ",".join(f'{name}="{value}"' for name, value in labels.items())
        lines = labelled.manager._metrics.page().splitlines()
        found = [line for line in lines if line.startswith(":tagtower:answer_count{" + given)]
        return sum(int(line.rpartition(" ")[2]) for line in found)

    before = count(model_name="toy", version="1", label="ständig")
    ask(labelled, label="ständig")
    post(labelled, "toy/labels/st%C3%A4ndig", {"instances": [{"x": "no number"}]})
    with pytest.raises(grpc.RpcError):
        ask(labelled, "unknown", number=1)
    assert count(model_name="toy", version="1", label="ständig") == before + 2
    by = {"model_name": "toy", "version": "1", "label": "ständig"}
    by["signature"] = "serving_default"
    assert count(**by, entrypoint="GRPC", status="OK") >= 1
    assert count(**by, entrypoint="REST", status="INVALID_ARGUMENT") == 1
    unknown = {"model_name": "toy", "version": "1", "label": "", "signature": ""}
    assert count(**unknown, entrypoint="GRPC", status="FAILED_PRECONDITION") == 1


def test_counts_of_forgotten_versions_are_removed(toy_versions):
    config = ModelConfig("toy", str(toy_versions), AllVersions())
    with ModelServer([config], host="127.0.0.1", poll_wait_s=0.05) as server:
        assert wait_until(lambda: server.manager.available_versions() == {"toy": [2, 1]}, WAIT_S)
        ask(server, number=1)
        metrics = server.manager._metrics
        metrics.count_answered_by(AnsweredBy("toy", "", "77", ""), "GRPC", "OK", 1.0)
        assert wait_until(lambda: 'version="77"' not in metrics.page(), WAIT_S)
        assert 'answer_count{model_name="toy",version="1",' in metrics.page()
        assert 'answer_latency_count{model_name="toy",version="1",' in metrics.page()
