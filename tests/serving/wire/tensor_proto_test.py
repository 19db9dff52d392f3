import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2

import serving  # noqa: F401  (selects Keras 2 before TensorFlow)
from tagtower_client.tensor_proto import MAX_REPEATED, to_numpy, write_compact, write_numpy

NUMBERS = [
    np.float16,
    np.float32,
    np.float64,
    np.int8,
    np.int16,
    np.int32,
    np.int64,
    np.uint8,
    np.uint16,
    np.uint32,
    np.uint64,
    np.bool_,
    np.complex64,
    np.complex128,
]


def compact(array):
    tensor = tensor_pb2.TensorProto()
    write_compact(tensor, array)
    return tensor


def from_numpy(array):
    tensor = tensor_pb2.TensorProto()
    write_numpy(tensor, array)
    return tensor


def example(numpy_type):
    rng = np.random.default_rng(0)
    return (rng.normal(size=(2, 3)) * 50).round(1).astype(numpy_type)


@pytest.mark.filterwarnings("ignore:Casting complex values")
@pytest.mark.parametrize("numpy_type", NUMBERS)
@pytest.mark.parametrize("write", [from_numpy, compact])
def test_what_is_written_tensorflow_reads(write, numpy_type):
    array = np.abs(example(numpy_type))
    tensor = write(array)
    np.testing.assert_array_equal(tf.make_ndarray(tensor), array)
    assert tf.make_ndarray(tensor).dtype == array.dtype
    np.testing.assert_array_equal(to_numpy(tensor), array)


@pytest.mark.parametrize("numpy_type", NUMBERS)
def test_what_tensorflow_writes_is_read(numpy_type):
    array = example(numpy_type)
    np.testing.assert_array_equal(to_numpy(tf.make_tensor_proto(array)), array)
    scalar = to_numpy(tf.make_tensor_proto(array[0, 0]))
    assert scalar.shape == () and scalar == array[0, 0]


@pytest.mark.parametrize(
    "array",
    [
        np.array([["a", "é"]]),
        np.array([[b"a", "é".encode()]], dtype=object),
        np.array([["a", "é"]], object),
    ],
)
def test_strings_of_every_kind_are_utf8_bytes(array):
    tensor = from_numpy(array)
    assert tensor.string_val == [b"a", "é".encode()]
    assert to_numpy(tensor).tolist() == [[b"a", "é".encode()]]
    assert to_numpy(compact(array)).tolist() == [[b"a", "é".encode()]]


@pytest.mark.parametrize(
    "strings", [[], [""], ["", "a" * 127], ["a" * 128, "", "é" * 40_000, "b"], ["x"] * 300]
)
def test_packed_strings_are_read_by_tensorflow(strings):
    array = np.array([string.encode() for string in strings], object)

    tensor = compact(array)

    # The C++ that TensorFlow Serving reads a request with.
    read = tf.io.parse_tensor(tensor.SerializeToString(), tf.string)
    assert read.numpy().tolist() == to_numpy(tensor).tolist() == array.tolist()
    assert not tensor.string_val


@pytest.mark.parametrize("numpy_type", [np.float32, np.float64])
def test_floats_are_read_whatever_else_the_tensor_holds(numpy_type):
    array = np.array([[1.5, -0.0, np.inf], [np.nan, 1e-40, 3.0]], numpy_type)
    tensor = from_numpy(array)
    tensor.string_val.append(b"in the way")

    np.testing.assert_array_equal(to_numpy(tensor), array)
    # Neither the order of memory nor an empty array is in the way.
    np.testing.assert_array_equal(to_numpy(from_numpy(array.T)), array.T)
    assert to_numpy(from_numpy(array[:0])).shape == (0, 3)
    assert to_numpy(from_numpy(array[0, 0])) == 1.5


def test_packed_strings_are_read():
    content = bytes([2, 0, 3]) + b"hi" + b"abc"
    tensor = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, tensor_content=content)
    tensor.tensor_shape.dim.add(size=3)
    assert to_numpy(tensor).tolist() == [b"hi", b"", b"abc"]


@pytest.mark.parametrize(
    ("values", "size", "expected"),
    [([1, 2], 4, [1, 2, 2, 2]), ([], 2, [0, 0]), ([1, 2, 3], 2, [1, 2]), ([], 0, [])],
)
def test_value_list_of_another_length_is_repeated_or_cut(values, size, expected):
    tensor = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, float_val=values)
    tensor.tensor_shape.dim.add(size=size)
    assert to_numpy(tensor).tolist() == expected
    strings = tensor_pb2.TensorProto(
        dtype=types_pb2.DT_STRING, string_val=[str(value).encode() for value in values]
    )
    strings.tensor_shape.dim.add(size=size)
    assert to_numpy(strings).tolist() == [str(v).encode() if values else b"" for v in expected]


def malformed(**fields):
    shape = fields.pop("shape", [2])
    tensor = tensor_pb2.TensorProto(**fields)
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)
    return tensor


@pytest.mark.parametrize(
    "tensor",
    [
        malformed(dtype=types_pb2.DT_FLOAT, tensor_content=b"123"),
        malformed(dtype=types_pb2.DT_FLOAT, shape=[-1]),
        malformed(float_val=[1.0]),
        malformed(dtype=types_pb2.DT_VARIANT),
        malformed(dtype=types_pb2.DT_STRING, tensor_content=b"\x05\x00abc"),
        malformed(dtype=types_pb2.DT_STRING, tensor_content=b"\xff"),
        tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, tensor_shape={"unknown_rank": True}),
    ],
)
def test_malformed_tensor_is_refused(tensor):
    with pytest.raises(ValueError, match="Received|must hold"):
        to_numpy(tensor)


@pytest.mark.parametrize(
    "array", [np.array(["2020"], "datetime64[Y]"), np.array([1, "a"], dtype=object)]
)
def test_array_of_another_type_is_refused(array):
    with pytest.raises(ValueError, match="Received"):
        from_numpy(array)


@pytest.mark.parametrize(
    "shape",
    [[MAX_REPEATED + 1], [2**40], [2**40, 2**40], [2**63 - 1] * 5, [2**31, 0], [0, 2**62, 3]],
)
@pytest.mark.parametrize("data_type", [types_pb2.DT_FLOAT, types_pb2.DT_STRING])
def test_shape_out_of_proportion_to_the_message_is_refused(shape, data_type):
    tensor = tensor_pb2.TensorProto(dtype=data_type, float_val=[1.0], string_val=[b"a"])
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)
    with pytest.raises(ValueError, match=f"^`tensor_shape` must not span more than {MAX_REPEATED}"):
        to_numpy(tensor)


def test_value_is_repeated_up_to_the_limit_and_a_full_message_may_be_larger():
    repeated = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, float_val=[3.0])
    repeated.tensor_shape.dim.add(size=MAX_REPEATED)
    assert to_numpy(repeated).sum() == 3.0 * MAX_REPEATED
    full = np.arange(MAX_REPEATED + 1, dtype=np.int32)
    for tensor in (from_numpy(full), compact(full)):
        np.testing.assert_array_equal(to_numpy(tensor), full)
