"""Thousands of invalid gRPC requests, and valid ones between them.

Each is answered, never with an internal error, and the server then answers as before. Values,
types, shapes, names and texts are drawn; the bytes of each message are then damaged as well, which
no client library would do.
"""

import itertools
import random

import grpc
import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import wrappers_pb2
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    predict_pb2,
)

from tests.serving.model_server import rest_fuzz_test
from tests.serving.model_server.fuzzed_server import DEADLINE_S, damaged, fuzzed_server, lane

PREDICTION, MODEL = "/tensorflow.serving.PredictionService/", "/tensorflow.serving.ModelService/"
Code = grpc.StatusCode
# Codes for mistakes of the caller.
REFUSALS = {
    Code.INVALID_ARGUMENT,
    Code.NOT_FOUND,
    Code.FAILED_PRECONDITION,
    Code.OUT_OF_RANGE,
    Code.UNIMPLEMENTED,
}
# Requests of each lane, at least.
NUM_REQUESTS = {"tensors": 5600, "specs": 600, "garbage": 900, "reload": 100}
NUM_DAMAGED = 4


class Caller:
    """Sends bytes, counts them and checks the codes."""

    def __init__(self, server, channel):
        self.server = server
        self.num_requests = 0
        self.codes = {}
        self._channel = channel
        self._calls = {}

    def send(self, method, messages, allowed=frozenset(REFUSALS), timeout=DEADLINE_S):
        """Sends all at once; returns code and answer of each."""
        call = self._calls.setdefault(method, self._channel.unary_unary(method))
        pending = [call.future(message, timeout=timeout) for message in messages]
        self.num_requests += len(pending)
        answers = []
        for message, future in zip(messages, pending, strict=True):
            code = future.code()  # waits for it
            self.codes[code] = self.codes.get(code, 0) + 1
            assert code is Code.OK or code in allowed, (code, future.details(), message)
            answers.append((code, future.result() if code is Code.OK else future.details()))
        return answers


@pytest.fixture(scope="module")
def caller(tmp_path_factory):
    with fuzzed_server(tmp_path_factory.mktemp("fuzz")) as server:
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        with grpc.insecure_channel(f"127.0.0.1:{server.port}", options=options) as channel:
            yield Caller(server, channel)


class Signatures:
    """Inputs as the models declare them, (model, signature) -> name -> (data type, rank)."""

    def __init__(self):
        self.by_model = {}

    def read(self, caller):
        for name in ("toy", "types", "tags"):
            request = get_model_metadata_pb2.GetModelMetadataRequest(
                metadata_field=["signature_def"]
            )
            request.model_spec.name = name
            ((_, answer),) = caller.send(
                PREDICTION + "GetModelMetadata", [request.SerializeToString()]
            )
            response = get_model_metadata_pb2.GetModelMetadataResponse.FromString(answer)
            found = get_model_metadata_pb2.SignatureDefMap()
            response.metadata["signature_def"].Unpack(found)
            for signature, definition in found.signature_def.items():
                # The last two allocate as much as a value says, on any server.
                if signature not in ("__saved_model_init_op", "slow", "filled"):
                    self.by_model[name, signature] = {
                        key: (value.dtype, len(value.tensor_shape.dim))
                        for key, value in definition.inputs.items()
                    }


# The drawn values.

ODD_SIZES = [-(2**63), -1, 0, 1, 7, 2**20, 2**31, 2**32, 2**40, 2**62, 2**63 - 1]
SHAPES = st.one_of(
    st.lists(st.integers(0, 3), max_size=3),
    st.lists(st.sampled_from(ODD_SIZES), max_size=5),
    st.sampled_from([32, 33, 254, 255, 5000]).map(lambda rank: [1] * rank),
)
DATA_TYPES = st.one_of(
    st.sampled_from([types_pb2.DT_FLOAT, types_pb2.DT_STRING, types_pb2.DT_INT64]),
    st.sampled_from(sorted(types_pb2.DataType.values())),
    st.integers(-3, 200),
)
INT32, INT64 = st.integers(-(2**31), 2**31 - 1), st.integers(-(2**63), 2**63 - 1)
DOUBLES = st.floats()
FLOATS = st.floats(width=32)
VALUES = {
    "float_val": FLOATS,
    "double_val": DOUBLES,
    "half_val": INT32,
    "int_val": INT32,
    "int64_val": INT64,
    "uint32_val": st.integers(0, 2**32 - 1),
    "uint64_val": st.integers(0, 2**64 - 1),
    "bool_val": st.booleans(),
    "scomplex_val": FLOATS,
    "dcomplex_val": DOUBLES,
    "string_val": st.one_of(st.binary(max_size=8), st.sampled_from([b"u1", b"t3", b"", b"9" * 40])),
}
FIELDS = {
    types_pb2.DT_FLOAT: "float_val",
    types_pb2.DT_DOUBLE: "double_val",
    types_pb2.DT_HALF: "half_val",
    types_pb2.DT_INT64: "int64_val",
    types_pb2.DT_UINT32: "uint32_val",
    types_pb2.DT_UINT64: "uint64_val",
    types_pb2.DT_BOOL: "bool_val",
    types_pb2.DT_COMPLEX64: "scomplex_val",
    types_pb2.DT_STRING: "string_val",
}
TEXTS = st.one_of(
    st.text(max_size=5),
    st.sampled_from(["toy", "types", "tags", "x", "y", "canary", "\0", "𝄞" * 1500, "a" * 5000]),
)


@st.composite
def likely_tensors(draw, data_type, rank):
    """Strategy: a tensor of the type and rank that the signature has."""
    tensor = tensor_pb2.TensorProto(dtype=data_type)
    for _ in range(rank):
        tensor.tensor_shape.dim.add(size=draw(st.sampled_from([1, 1, 2, 0, 3])))
    field = FIELDS.get(data_type, "int_val")
    getattr(tensor, field).extend(draw(st.lists(VALUES[field], max_size=6)))
    return tensor


@st.composite
def odd_tensors(draw, data_type):
    """Strategy: a tensor that may have the right type, and values that may be of it."""
    tensor = tensor_pb2.TensorProto()
    # In proto3, a number outside the enum is accepted.
    tensor.dtype = draw(st.just(data_type) | st.just(data_type) | DATA_TYPES)
    for size in draw(SHAPES):
        tensor.tensor_shape.dim.add(size=size, name=draw(st.sampled_from(["", "", "é"])))
    tensor.tensor_shape.unknown_rank = draw(st.integers(0, 9)) == 0
    usual = FIELDS.get(tensor.dtype, "int_val")
    field = draw(st.just(usual) | st.just(usual) | st.sampled_from(sorted(VALUES)))
    getattr(tensor, field).extend(draw(st.lists(VALUES[field], max_size=5)))
    if draw(st.integers(0, 3)) == 0:
        tensor.tensor_content = draw(st.binary(max_size=33))
    if draw(st.integers(0, 19)) == 0:
        tensor.variant_val.add().tensors.add().variant_val.add()
        tensor.resource_handle_val.add(name="x")
    return tensor


@st.composite
def predict_requests(draw, signatures):
    """Strategy: a request for one of the signatures, with most of its names right."""
    (model, signature), inputs = draw(st.sampled_from(sorted(signatures.items())))
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    is_odd = draw(st.booleans())
    for name, (data_type, rank) in inputs.items():
        if is_odd and draw(st.booleans()):
            request.inputs[name].CopyFrom(draw(odd_tensors(data_type)))
        elif not is_odd or draw(st.integers(0, 9)):
            request.inputs[name].CopyFrom(draw(likely_tensors(data_type, rank)))
    if is_odd and draw(st.integers(0, 9)) == 0:
        request.inputs[draw(TEXTS)].CopyFrom(draw(odd_tensors(types_pb2.DT_FLOAT)))
    if draw(st.integers(0, 4)) == 0:
        request.output_filter.extend(
            draw(st.lists(st.sampled_from(["y", "tags", "v", "scores", "sum", "𝄞"]), max_size=3))
        )
    return request


@st.composite
def model_specs(draw, spec):
    spec.name = draw(TEXTS)
    spec.signature_name = draw(st.just("") | TEXTS)
    choice = draw(st.sampled_from(["none", "version", "label"]))
    if choice == "version":
        spec.version.CopyFrom(wrappers_pb2.Int64Value(value=draw(st.sampled_from([1, 2]) | INT64)))
    elif choice == "label":
        spec.version_label = draw(TEXTS)


def check_right_answers(caller, x):
    """Checks the toy's values by its newest version, another one and a label."""
    requests = []
    for place in ({}, {"version": wrappers_pb2.Int64Value(value=1)}, {"version_label": "canary"}):
        request = predict_pb2.PredictRequest()
        request.model_spec.MergeFrom(type(request.model_spec)(name="toy", **place))
        request.inputs["x"].CopyFrom(tf.make_tensor_proto(np.float32([x, -3.0])))
        requests.append(request.SerializeToString())
    answers = caller.send(PREDICTION + "Predict", requests, allowed=())
    for (_, answer), version in zip(answers, (2, 1, 2), strict=True):
        response = predict_pb2.PredictResponse.FromString(answer)
        assert response.model_spec.version.value == version
        assert list(response.outputs["y"].float_val) == [0.5 * x + version, -1.5 + version]


def run(caller, name, check):
    """Runs a lane, checks how much it sent, and checks the server afterwards."""
    before = caller.num_requests
    check()
    assert caller.num_requests - before >= NUM_REQUESTS[name]
    assert caller.server.is_alive
    assert caller.server.tracebacks() == []


def test_tensors_of_any_type_shape_and_size_are_answered(caller):
    signatures = Signatures()
    signatures.read(caller)
    turns = itertools.count()

    @lane(700)
    @hypothesis.given(predict_requests(signatures.by_model), st.integers(0, 2**32))
    def check(request, seed):
        message, rng = request.SerializeToString(), random.Random(seed)
        messages = [message, *(damaged(message, rng) for _ in range(NUM_DAMAGED))]
        caller.send(PREDICTION + "Predict", messages)
        check_right_answers(caller, next(turns) % 64)

    run(caller, "tensors", check)


def test_specs_of_any_name_version_and_label_are_answered(caller):
    @lane(200)
    @hypothesis.given(st.data())
    def check(data):
        predict = predict_pb2.PredictRequest()
        status = get_model_status_pb2.GetModelStatusRequest()
        metadata = get_model_metadata_pb2.GetModelMetadataRequest()
        for request in (predict, status, metadata):
            if data.draw(st.integers(0, 9)):
                data.draw(model_specs(request.model_spec))
        predict.inputs["x"].float_val.append(1.0)
        metadata.metadata_field.extend(
            data.draw(st.just(["signature_def"]) | st.lists(TEXTS, max_size=2))
        )
        caller.send(PREDICTION + "Predict", [predict.SerializeToString()])
        caller.send(PREDICTION + "GetModelMetadata", [metadata.SerializeToString()])
        caller.send(MODEL + "GetModelStatus", [status.SerializeToString()])

    run(caller, "specs", check)
    check_right_answers(caller, 5.0)


METHODS = [
    *(PREDICTION + name for name in ("Predict", "Classify", "Regress", "MultiInference")),
    PREDICTION + "GetModelMetadata",
    MODEL + "GetModelStatus",
    PREDICTION + "Nothing",
    "/grpc.health.v1.Health/Check",
    "/a.b/c",
]


def test_garbage_sent_to_any_method_is_answered(caller):
    @lane(300)
    @hypothesis.given(
        st.sampled_from(METHODS),
        st.lists(
            st.binary(max_size=64) | st.integers(1, 3000).map(lambda n: b"\x0a\x80" * n),
            min_size=3,
            max_size=5,
        ),
    )
    def check(method, messages):
        caller.send(method, messages)

    run(caller, "garbage", check)
    check_right_answers(caller, 7.0)


@st.composite
def reload_requests(draw, base_path):
    """Strategy: a configuration that cannot be served, or none."""
    request = model_management_pb2.ReloadConfigRequest()
    if draw(st.integers(0, 9)) == 0:
        request.config.custom_model_config.type_url = draw(TEXTS)
        return request
    models = request.config.model_config_list.config
    for _ in range(draw(st.integers(1, 3))):
        model = models.add(
            name=draw(TEXTS), base_path=draw(st.sampled_from(["", "toy", "../x", "C:\\", "://"]))
        )
        model.model_platform = draw(st.sampled_from(["", "tensorflow", "pytorch", "\0"]))
        model.model_type = draw(st.sampled_from([0, 1, 2, 77, -1]))
        model.version_labels[draw(TEXTS)] = draw(INT64)
    if draw(st.booleans()):  # a place that there is, and a label for no version
        model.base_path, model.model_platform, model.model_type = base_path, "tensorflow", 0
        model.version_labels["nowhere"] = 77
    return request


def test_configurations_that_cannot_be_served_change_nothing(caller):
    @lane(100)
    @hypothesis.given(reload_requests(str(caller.server.log_path.parent / "toy")))
    def check(request):
        # One bad label makes the whole configuration bad, with good models as well.
        ((code, _),) = caller.send(
            MODEL + "HandleReloadConfigRequest", [request.SerializeToString()]
        )
        assert code is not Code.OK

    run(caller, "reload", check)
    check_right_answers(caller, 11.0)


def test_lanes_have_ten_thousand_requests():
    total = sum(NUM_REQUESTS.values()) + sum(rest_fuzz_test.NUM_REQUESTS.values())
    assert total >= 10_000
