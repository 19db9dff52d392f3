"""Limits on what a request may claim, before anything is expanded."""

import numpy as np
import pytest
from tensorflow.core.framework import tensor_pb2, types_pb2

from serving.model_server.errors import ServingError
from serving.model_server.session.request_limits import RequestLimits
from serving.model_server.session.signature import Signature, TensorSlot

FLOAT, STRING, COMPLEX = types_pb2.DT_FLOAT, types_pb2.DT_STRING, types_pb2.DT_COMPLEX64
LIMITS = RequestLimits(max_batch_size=4, max_strings=20, max_repeated_bytes=1000)
SIGNATURE = Signature(
    "s",
    {
        "x": TensorSlot("x", "x:0", FLOAT),
        "y": TensorSlot("y", "y:0", STRING),
        "fixed": TensorSlot("fixed", "fixed:0", FLOAT, is_batched=False),
    },
    {},
    ("x:0", "y:0", "fixed:0"),
)


def tensor(shape, data_type=FLOAT, **values):
    made = tensor_pb2.TensorProto(dtype=data_type, **values)
    for size in shape:
        made.tensor_shape.dim.add(size=size)
    return made


def refusal(**tensors):
    with pytest.raises(ServingError) as caught:
        LIMITS.check_tensors(SIGNATURE, tensors)
    assert caught.value.code.name == "INVALID_ARGUMENT"
    return caught.value.message


@pytest.mark.parametrize(
    "tensors",
    [
        {"x": tensor([4], float_val=[1.0] * 4)},
        {"x": tensor([4], tensor_content=bytes(16))},
        {"x": tensor([])},
        {"x": tensor([1])},
        {"x": tensor([0])},
        {"x": tensor([2, 3], float_val=[1.0, 2.0])},
        {"x": tensor([3], COMPLEX, scomplex_val=[1.0] * 6)},
        {"fixed": tensor([500], tensor_content=bytes(2000))},
        {"y": tensor([4, 5], STRING, tensor_content=bytes(20))},
        # Requests that other checks refuse, with their messages.
        {"x": tensor([-1])},
        {"x": tensor([2**40, 2**40])},
        {"x": tensor([3], types_pb2.DT_RESOURCE)},
        {"unknown": tensor([500])},
    ],
)
def test_what_is_carried_is_let_in(tensors):
    LIMITS.check_tensors(SIGNATURE, tensors)


def test_batch_beyond_the_limit_names_value_and_flag():
    text = "`{}` must have at most --max_batch_size=4 examples. Received: {}. "
    assert refusal(x=tensor([5], float_val=[1.0] * 5)).startswith(text.format("x", 5))
    assert refusal(y=tensor([2**62, 0], STRING)).startswith(text.format("y", 2**62))
    with pytest.raises(ServingError, match="Received: 5"):
        LIMITS.check_arrays(SIGNATURE, {"x": np.zeros([5, 1], np.float32)})
    LIMITS.check_arrays(SIGNATURE, {"x": np.zeros([4, 9]), "fixed": np.zeros(500)})


@pytest.mark.parametrize(
    ("made", "size", "carried"),
    [
        (tensor([2]), 2, 0),
        (tensor([4], float_val=[1.0, 2.0, 3.0]), 4, 3),
        (tensor([4, 2], float_val=[1.0]), 4, 1),
        (tensor([2], COMPLEX, scomplex_val=[1.0, 2.0]), 2, 1),
    ],
)
def test_value_repeated_over_examples_is_refused(made, size, carried):
    assert refusal(x=made) == (
        f"`x` must have a value for each of its {size} examples: values are repeated only within "
        f"an example. Received: {carried} values."
    )


def test_repeated_elements_count_over_all_inputs_with_their_size():
    half = tensor([1, 32], float_val=[1.0])
    LIMITS.check_tensors(SIGNATURE, {"x": half})
    text = "Shapes must not span more than 1000 bytes that the message does not hold. Received: "
    assert refusal(x=half, fixed=tensor([1, 40], float_val=[1.0])) == text + "1120."
    long = tensor([1, 2], STRING, string_val=[b"z" * 1000])
    assert refusal(y=long) == text + "1024."


def test_strings_count_over_all_inputs():
    message = refusal(
        x=tensor([4, 3], STRING, tensor_content=bytes(12)),
        y=tensor([3, 3], STRING, tensor_content=bytes(9)),
    )
    assert message.startswith("A request must not have more than 20 strings, padding included.")
    with pytest.raises(ServingError, match="Received: 21"):
        LIMITS.check_arrays(SIGNATURE, {"y": np.full([3, 7], b"", object)})
