"""Callers over gRPC who send nothing, half of something, or far more than it looks like."""

import threading
import zlib

import grpc
import numpy as np
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from tests.hostile.limited_server import limited_server
from tests.hostile.raw_grpc import RawCall, message
from tests.serving.client.relay import relay_to
from tests.serving.model_server import toy_models
from tests.serving.model_server.server_process import wait_until

PREDICT = "/tensorflow.serving.PredictionService/Predict"
REFLECT = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
WATCH = "/grpc.health.v1.Health/Watch"
CHECK = "/grpc.health.v1.Health/Check"
# Much longer than an answer takes on a busy machine.
TIMEOUT_S = 60.0
Code = grpc.StatusCode


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    toy_models.save_toy(folder / "1", 1)
    with limited_server(folder, "--model_name=toy", "--grpc_max_threads=4") as server:
        yield server


@pytest.fixture
def channel(server):
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(f"127.0.0.1:{server.port}", options=options) as channel:
        yield channel


@pytest.fixture
def silence():
    """Returns messages that never come, until the test is over."""
    over = threading.Event()

    def messages():
        over.wait()
        yield from ()

    yield messages
    over.set()


def request(tensor=None):
    sent = predict_pb2.PredictRequest()
    sent.model_spec.name = "toy"
    sent.inputs["x"].CopyFrom(tensor or tf.make_tensor_proto(np.float32([1.0, 3.0])))
    return sent


def check_answers(server):
    """Checks that health and a model answer a new caller."""
    with grpc.insecure_channel(
        f"127.0.0.1:{server.port}", options=[("grpc.use_local_subchannel_pool", 1)]
    ) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        answer = health.Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        answer = stub.Predict(request(), timeout=TIMEOUT_S)
        assert list(answer.outputs["y"].float_val) == [1.5, 2.5]


def refused(call, *arguments, **options):
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments, timeout=TIMEOUT_S, **options)
    return caught.value.code(), caught.value.details()


def tensor_of(shape, data_type=types_pb2.DT_FLOAT, **values):
    tensor = tensor_pb2.TensorProto(dtype=data_type, **values)
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)
    return tensor


# Callers that send nothing.


@pytest.mark.parametrize("method", [PREDICT, CHECK, WATCH])
def test_calls_without_a_message_hold_no_thread_and_keep_nobody_out(
    server, channel, silence, method
):
    num_threads = server.server.num_threads
    silent = [channel.stream_unary(method).future(silence()) for _ in range(64)]
    check_answers(server)
    assert server.server.num_threads <= num_threads + 4 + 8
    # A call that holds memory for which another waits is ended, long before the time limit.
    assert wait_until(lambda: any(call.done() for call in silent), TIMEOUT_S)
    codes = {call.code() for call in silent if call.done()}
    assert codes <= {Code.RESOURCE_EXHAUSTED, Code.DEADLINE_EXCEEDED}
    for call in silent:
        call.cancel()


def test_watchers_of_the_health_hold_no_thread(server, channel):
    num_threads = server.server.num_threads
    stub = health_pb2_grpc.HealthStub(channel)
    watches = [stub.Watch(health_pb2.HealthCheckRequest()) for _ in range(100)]
    for watch in watches:
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    check_answers(server)
    assert server.server.num_threads <= num_threads + 4 + 8
    for watch in watches:
        watch.cancel()


def test_reflection_is_off(channel):
    sent = reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString()
    call = channel.stream_stream(REFLECT)(iter([sent]), timeout=TIMEOUT_S)
    assert refused(lambda timeout: list(call))[0] is Code.UNIMPLEMENTED


def test_no_message_and_two_are_what_they_were(channel):
    call = channel.stream_unary(PREDICT)
    assert refused(call, iter([])) == (
        Code.UNIMPLEMENTED,
        f'"{PREDICT}" requires exactly one request message.',
    )
    sent = request().SerializeToString()
    answer = predict_pb2.PredictResponse.FromString(call(iter([sent, sent]), timeout=TIMEOUT_S))
    assert list(answer.outputs["y"].float_val) == [1.5, 2.5]


# Callers that send half of something.


def test_unfinished_messages_are_held_within_the_budget(server):
    size = 31 << 20
    before_mb = server.rss_mb()
    calls = [RawCall(server.port, PREDICT) for _ in range(40)]  # 1.2 GB
    body = bytes(size - 1)
    threads = [
        threading.Thread(target=call.send, args=(message(body, size),), daemon=True)
        for call in calls
    ]
    for thread in threads:
        thread.start()
    check_answers(server)
    # Calls beyond the memory are ended: then all of it has been used.
    for call in calls[:16]:
        assert call.wait()
    check_answers(server)
    assert server.is_alive
    assert server.peak_mb() < before_mb + 512 + 300
    for call in calls:
        call.close()
    for thread in threads:
        thread.join(TIMEOUT_S)


# Callers on a slow line.


@pytest.mark.parametrize(
    ("num_calls", "num_values", "bytes_per_s"),
    [(200, 25_000, 12e6), (32, 500_000, 12e6), (64, 250_000, 30e6)],
)
def test_calls_that_are_still_being_sent_are_not_taken_for_silent(
    server, num_calls, num_values, bytes_per_s
):
    sent = request(tensor_of([1, num_values], tensor_content=bytes(4 * num_values)))
    options = [("grpc.use_local_subchannel_pool", 1)]
    with (
        relay_to(f"127.0.0.1:{server.port}", bytes_per_s=bytes_per_s) as relay,
        grpc.insecure_channel(relay.target, options=options) as channel,
    ):
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        pending = [stub.Predict.future(sent, timeout=TIMEOUT_S) for _ in range(num_calls)]
        codes = [future.code() for future in pending]
    assert set(codes) == {Code.OK}


# Callers that do not read.


def test_answers_that_nobody_reads_are_held_within_the_budget(server):
    tensor = tensor_of([1000, 7500], tensor_content=bytes(30_000_000))
    body = message(request(tensor).SerializeToString())
    calls = []
    while len(calls) < 60:  # 1.8 GB, did nobody stop it
        calls.append(RawCall(server.port, PREDICT))
        assert calls[-1].send(body, is_last=True) or calls[-1].wait()
        # Answered up to the caller's flow-control window, or refused.
        assert wait_until(lambda: calls[-1].received, TIMEOUT_S)
        if b"of answers unread" in calls[-1].received:
            break
    assert 3 < len(calls) < 15
    for call in calls:
        call.close()

    def is_let_in():
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            try:
                stub.Predict(request(), timeout=TIMEOUT_S)
            except grpc.RpcError as error:
                assert "of answers unread" in error.details()
                return False
        return True

    assert wait_until(is_let_in, TIMEOUT_S)
    check_answers(server)


# Callers that send more than it looks like.


def bomb(num_mib):
    """Returns gzip of some KiB for each GiB that it unpacks to."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    first = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    again = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return first + again * (num_mib - 1)


def test_compressed_message_is_unpacked_no_further_than_the_limit(server):
    packed = bomb(2048)
    assert len(packed) < 3 << 20
    before_mb = server.rss_mb()
    calls = [RawCall(server.port, PREDICT, {"grpc-encoding": "gzip"}) for _ in range(8)]
    for call in calls:
        call.send(message(packed, is_compressed=True), is_last=True)
    for call in calls:
        assert call.wait()
        assert b"larger than max" in call.received
        call.close()
    assert server.peak_mb() < max(before_mb, server.rss_mb()) + 1000
    check_answers(server)


@pytest.mark.parametrize("kind", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_compressed_message_is_answered(channel, kind):
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    sent = request(tf.make_tensor_proto(np.ones(2000, np.float32)))
    answer = stub.Predict(sent, compression=kind, timeout=TIMEOUT_S)
    assert list(answer.outputs["y"].float_val) == [1.5] * 2000


def test_message_beyond_the_limit_is_refused(channel):
    code, text = refused(channel.unary_unary(PREDICT), bytes((32 << 20) + 1))
    assert code is Code.RESOURCE_EXHAUSTED
    assert "larger than max" in text


BATCH = "`x` must have at most --max_batch_size=4096 examples. Received: {}."
REPEATED = "`x` must have a value for each of its {} examples"
CLAIMS = {
    "one value for 200,000 users": (tensor_of([200_000], float_val=[1.0]), BATCH.format(200_000)),
    "a full batch beyond the limit": (
        tensor_of([4097], tensor_content=bytes(4 * 4097)),
        BATCH.format(4097),
    ),
    "one value for all examples": (tensor_of([4096], float_val=[1.0]), REPEATED.format(4096)),
    "no value for two examples": (tensor_of([2]), REPEATED.format(2)),
    "one value for a wide example": (
        tensor_of([1, 1 << 20, 2], float_val=[1.0]),
        "Shapes must not span more than",
    ),
    "a long string repeated": (
        tensor_of([1, 100_000], types_pb2.DT_STRING, string_val=[b"x" * 100_000]),
        "Shapes must not span more than",
    ),
    "millions of empty strings": (
        tensor_of([1500, 2000], types_pb2.DT_STRING, tensor_content=bytes(3_000_000)),
        "A request must not have more than 2097152 strings",
    ),
}


@pytest.mark.parametrize("case", CLAIMS)
def test_claim_is_refused_before_it_is_expanded(server, channel, case):
    tensor, text = CLAIMS[case]
    before_mb = server.peak_mb()
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    code, received = refused(stub.Predict, request(tensor))
    assert code is Code.INVALID_ARGUMENT
    assert received.startswith(text)
    assert server.peak_mb() < before_mb + 100


def field(number, content):
    """Returns a field of bytes, of less than 2 MiB."""
    size = len(content)
    return bytes([number << 3 | 2, size & 127 | 128, size >> 7 & 127 | 128, size >> 14]) + content


def input_of(tensor_fields):
    return field(2, b"\x0a\x01x" + field(2, tensor_fields))


# Two bytes on the wire become up to three hundred in memory.
GROWING = {
    "strings": (
        input_of(b"\x42\x00" * (1 << 19)) * 8,
        "A request must not have more than 524288 fi",
    ),
    "nested": (
        input_of(field(15, b"\x1a\x00" * (1 << 19))) * 8,
        "The request would take 2800 MB of",
    ),
    "sizes": (input_of(field(2, b"\x12\x00" * (1 << 19))) * 8, "The request would take 2800 MB of"),
    "inputs": (b"\x12\x00" * (8 << 19), "A request must not have more than 524288 fields"),
}


@pytest.mark.parametrize("case", GROWING)
def test_message_that_would_grow_is_refused_unread(server, channel, case):
    data, text = GROWING[case]
    before_mb = server.peak_mb()
    code, received = refused(channel.unary_unary(PREDICT), data)
    assert code is Code.RESOURCE_EXHAUSTED
    assert received.startswith(text)
    assert server.peak_mb() < before_mb + 150


def test_large_messages_to_other_methods_are_refused(channel):
    for method in ("PredictionService/GetModelMetadata", "ModelService/HandleReloadConfigRequest"):
        call = channel.unary_unary(f"/tensorflow.serving.{method}")
        code, text = refused(call, bytes((1 << 20) + 1))
        assert (code, text) == (
            Code.RESOURCE_EXHAUSTED,
            "Received message larger than max (1048577 vs. 1048576)",
        )


def test_worst_messages_within_the_limits_are_answered_in_turns(server, channel):
    data = request().SerializeToString() + input_of(field(15, b"\x1a\x00" * (1 << 19)))
    call = channel.unary_unary(PREDICT)
    pending = [call.future(data, timeout=TIMEOUT_S * 2) for _ in range(8)]
    check_answers(server)
    for future in pending:
        assert future.code() is Code.INVALID_ARGUMENT
    assert server.is_alive
