"""The blocking client against a server without a model that misbehaves on purpose."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import prediction_service_pb2_grpc

from serving.client import TagClient, TagClientError
from tagtower_client.tensor_proto import COMPACT_ANSWER
from tests.serving.client.certificates import make_certificate
from tests.serving.client.flaky_service import FlakyService, serve

X = {"x": np.array([1.0], np.float32)}


def test_unavailable_twice_is_tried_again_with_growing_pauses(flaky):
    flaky.num_failures = 2
    with TagClient(flaky.target) as client:
        answer = client.predict(X)
    assert answer.model_version == 7
    assert answer.outputs["y"].tolist() == [1.0]
    first, second, third = flaky.times
    assert second - first >= 0.025  # half of the first pause, the least its random factor leaves
    assert third - second >= 0.05


def test_compact_answer_is_asked_for_and_any_other_read(flaky):
    with TagClient(flaky.target) as client:
        answer = client.predict({"x": np.array([[b"a", b"b\0"]], object)})
    assert COMPACT_ANSWER in flaky.metadata[0]
    assert answer.outputs["y"].tolist() == [[b"a", b"b\0"]]


def test_unavailable_too_often_is_an_error_that_names_the_server(flaky):
    flaky.num_failures = 3
    with TagClient(flaky.target) as client:
        with pytest.raises(TagClientError, match=rf"{flaky.target}: is it started") as caught:
            client.predict(X)
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE
    assert len(flaky.times) == 3


def test_other_errors_are_not_tried_again(flaky):
    flaky.num_failures, flaky.code = 1, grpc.StatusCode.INTERNAL
    with TagClient(flaky.target) as client:
        with pytest.raises(TagClientError, match="INTERNAL: not now") as caught:
            client.predict(X)
    assert caught.value.code is grpc.StatusCode.INTERNAL
    assert isinstance(caught.value.__cause__, grpc.RpcError)
    assert len(flaky.times) == 1


def test_late_answer_is_an_error_at_the_deadline(flaky):
    flaky.release.clear()
    with TagClient(flaky.target, timeout_s=0.2) as client:
        start = time.monotonic()
        with pytest.raises(TagClientError, match="raise `timeout_s`") as caught:
            client.predict(X)
        elapsed = time.monotonic() - start
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert 0.19 <= elapsed < 5


def test_retries_end_at_the_deadline(flaky):
    flaky.num_failures = 10**6
    with TagClient(flaky.target, max_attempts=10**6) as client:
        start = time.monotonic()
        with pytest.raises(TagClientError):
            client.predict(X, timeout_s=0.5)
        assert time.monotonic() - start < 5
    assert 2 <= len(flaky.times) < 20


def test_no_server_says_how_to_start_one():
    with TagClient("127.0.0.1:1", timeout_s=2) as client:
        with pytest.raises(TagClientError, match="127.0.0.1:1: is it started .`tagtower serve`"):
            client.model_status()


def test_server_that_comes_up_late_is_reached_by_a_retry():
    service = FlakyService()
    server = grpc.server(ThreadPoolExecutor(2), options=[("grpc.so_reuseport", 1)])
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")  # bound, so that nobody else takes it
    with TagClient(f"127.0.0.1:{port}", max_attempts=20, timeout_s=30) as client:
        answers = []
        call = threading.Thread(target=lambda: answers.append(client.predict(X).model_version))
        call.start()
        server.start()
        call.join()
        server.stop(0).wait()
    assert answers == [7]


def test_many_calls_of_many_threads_share_one_connection(flaky):
    with TagClient(flaky.target) as client, ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda _: client.predict(X).model_version, range(20)))
    assert answers == [7] * 20
    assert len(flaky.peers) == 20
    assert len(set(flaky.peers)) == 1


def test_server_with_a_certificate_is_asked_with_credentials():
    certificate, key = make_certificate("127.0.0.1")
    with serve(FlakyService(), grpc.ssl_server_credentials([(key, certificate)])) as service:
        trusting = grpc.ssl_channel_credentials(certificate)
        with TagClient(service.target, credentials=trusting, timeout_s=60) as client:
            assert client.predict(X).model_version == 7
        with TagClient(service.target, timeout_s=60) as client:
            with pytest.raises(TagClientError) as in_clear:
                client.predict(X)
        strangers = grpc.ssl_channel_credentials()
        with TagClient(service.target, credentials=strangers, timeout_s=60) as client:
            with pytest.raises(TagClientError) as unknown_issuer:
                client.predict(X)
    assert in_clear.value.code is unknown_issuer.value.code is grpc.StatusCode.UNAVAILABLE
    assert len(service.times) == 1


def test_service_without_the_call_is_explained(flaky):
    with TagClient(flaky.target) as client:
        with pytest.raises(TagClientError, match="a TensorFlow Serving model server"):
            client.model_status()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target": ""}, "`target` must be host:port"),
        ({"model_name": ""}, "`model_name` must not be empty"),
        ({"timeout_s": 0}, "`timeout_s` must be positive. Received: timeout_s=0."),
        ({"max_attempts": 0}, "`max_attempts` must be a positive integer"),
        ({"list_width": 0}, "`list_width` must be a positive integer. Received: list_width=0."),
    ],
)
def test_argument_out_of_range_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        TagClient(**{"target": "localhost:8500"} | arguments)


def test_call_arguments_out_of_range_are_refused():
    with TagClient("localhost:8500") as client:
        with pytest.raises(ValueError, match="`num_tags` must be a positive integer"):
            client.retrieve([{}], num_tags=0)
        with pytest.raises(ValueError, match="`timeout_s` must be positive"):
            client.predict(X, timeout_s=-1)
