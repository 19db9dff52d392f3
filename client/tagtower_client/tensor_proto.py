"""Conversion between numpy arrays and TensorProto, as TensorFlow's C++ reads and writes them.

A tensor is a message of either kind: the client's (`tagtower_client.messages`) or TensorFlow's own,
which the model server has.
Both directions are whole-array operations: no Python loop over elements, except over strings.
Floats in `*_val` fields are read and written as their bytes on the wire (a packed field is the
array, little-endian, after a tag and its length), about seventy times as fast as value by value.
"""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np

from tagtower_client.messages import DataType

# Metadata of a Predict call that asks for `tensor_content` instead of one field per string in the
# answer. This project's client sends it; other servers ignore it, and this project's server gives
# callers that do not send it the usual form.
COMPACT_ANSWER = ("tagtower-answer-form", "tensor-content")

# Number of the type of a reference minus that of what it refers to.
_REFERENCE = 100
_NUMPY_TYPES: dict[int, type] = {
    DataType.DT_FLOAT: np.float32,
    DataType.DT_DOUBLE: np.float64,
    DataType.DT_HALF: np.float16,
    DataType.DT_INT8: np.int8,
    DataType.DT_INT16: np.int16,
    DataType.DT_INT32: np.int32,
    DataType.DT_INT64: np.int64,
    DataType.DT_UINT8: np.uint8,
    DataType.DT_UINT16: np.uint16,
    DataType.DT_UINT32: np.uint32,
    DataType.DT_UINT64: np.uint64,
    DataType.DT_BOOL: np.bool_,
    DataType.DT_COMPLEX64: np.complex64,
    DataType.DT_COMPLEX128: np.complex128,
}
# Plain numbers, since callers write them as text: `str` of a member of the enum is its name.
_DATA_TYPES: dict[np.dtype, int] = {
    np.dtype(numpy_type): int(number) for number, numpy_type in _NUMPY_TYPES.items()
}

# The repeated field that holds values of each type; types that are not listed here use `int_val`.
_VALUE_FIELDS: dict[int, str] = {
    DataType.DT_FLOAT: "float_val",
    DataType.DT_DOUBLE: "double_val",
    DataType.DT_HALF: "half_val",
    DataType.DT_INT64: "int64_val",
    DataType.DT_UINT32: "uint32_val",
    DataType.DT_UINT64: "uint64_val",
    DataType.DT_BOOL: "bool_val",
    DataType.DT_COMPLEX64: "scomplex_val",
    DataType.DT_COMPLEX128: "dcomplex_val",
    DataType.DT_STRING: "string_val",
}

# The largest length of a packed string whose varint takes one byte.
_LAST_SHORT = 0x7F
# Wire tag, field number and wire type 2, of the packed fields that hold the array's own bytes.
_PACKED_TAGS: dict[int, int] = {DataType.DT_FLOAT: 5 << 3 | 2, DataType.DT_DOUBLE: 6 << 3 | 2}
# Maximum number of elements that a shape may claim and the message does not hold. TensorFlow
# allocates whatever the shape says, so that a request of twenty bytes can take all memory.
MAX_REPEATED = 2**20


def data_type_name(data_type: int) -> str:
    """Returns TensorFlow's name of a data type, such as `float` for DT_FLOAT."""
    if data_type > _REFERENCE:
        return data_type_name(data_type - _REFERENCE) + "_ref"
    return DataType(data_type).name[len("DT_") :].lower()


def data_type_of(array: np.ndarray) -> int:
    """Returns the number of an array's DataType; objects, bytes and text are strings.

    Raises:
      ValueError: If TensorFlow has no such type, or this module does not know it.
    """
    if array.dtype.kind in "OSU":
        return int(DataType.DT_STRING)
    if array.dtype not in _DATA_TYPES:
        raise ValueError(
            f"`dtype` must be a number, a bool or a string. Received: dtype={array.dtype}."
        )
    return _DATA_TYPES[array.dtype]


def is_readable(data_type: int) -> bool:
    """Returns whether this module reads tensors of a data type."""
    return data_type == DataType.DT_STRING or data_type in _NUMPY_TYPES


def num_values(tensor: Any) -> int:
    """Returns how many elements the `*_val` field holds, whatever the shape says, without a copy.

    Args:
      tensor: Tensor whose type `is_readable`.
    """
    values = getattr(tensor, _VALUE_FIELDS.get(tensor.dtype, "int_val"))
    is_complex = tensor.dtype in (DataType.DT_COMPLEX64, DataType.DT_COMPLEX128)
    return len(values) // 2 if is_complex else len(values)


def to_numpy(tensor: Any) -> np.ndarray:
    """Reads a tensor in either of its forms, `tensor_content` or the repeated `*_val` field.

    If a `*_val` field is shorter than the shape, its last value is repeated (zero if it is empty),
    and values beyond the shape are dropped, as TensorFlow does. Unlike TensorFlow, this function
    refuses a shape that is far too large for the message: one with more than `MAX_REPEATED`
    elements that the message does not hold, or an empty one whose other dimensions span as many,
    because an operation that reduces over the empty axis would allocate them.

    Args:
      tensor: Dense tensor of a number, bool or string type.

    Returns:
      Array of the tensor's shape, not writable if it shares the proto's memory; strings are an
      object array of bytes.

    Raises:
      ValueError: If the type is unknown, a dimension is negative, or the content does not fit the
        shape or is too small for it.
    """
    if tensor.tensor_shape.unknown_rank:
        raise ValueError("`tensor_shape` must have a rank. Received: unknown_rank=True.")
    shape = [dimension.size for dimension in tensor.tensor_shape.dim]
    if any(size < 0 for size in shape):
        raise ValueError(f"`tensor_shape` must have no negative size. Received: {shape}.")
    size = math.prod(shape)
    if not size:
        _require_proportion(shape, math.prod(dimension for dimension in shape if dimension))
    if tensor.dtype == DataType.DT_STRING:
        if not tensor.tensor_content and len(tensor.string_val) < size:
            _require_proportion(shape, size)
        return _string_values(tensor, size).reshape(shape)
    numpy_type = _NUMPY_TYPES.get(tensor.dtype)
    if numpy_type is None:
        raise ValueError(
            f"`dtype` must be a number, a bool or a string. Received: dtype={tensor.dtype}."
        )
    if tensor.tensor_content:
        content = tensor.tensor_content
        if len(content) != size * np.dtype(numpy_type).itemsize:
            raise ValueError(
                f"`tensor_content` must fit the shape {shape}. Received: {len(content)} bytes."
            )
        return np.frombuffer(content, dtype=numpy_type).reshape(shape)
    values = _numeric_values(tensor, numpy_type)
    if len(values) < size:
        _require_proportion(shape, size)
    return _repeat_last(values, size).reshape(shape)


def write_numpy(tensor: Any, array: np.ndarray) -> None:
    """Writes an array into the `*_val` field of its type, the form of TensorFlow Serving's answers.

    Args:
      tensor: Empty tensor to write into, such as a new entry of a map.
      array: Array of any shape; bytes, text, and objects that are bytes or text become strings.

    Raises:
      ValueError: If TensorFlow has no type for the array's type.
    """
    data_type = data_type_of(array)
    _write_type(tensor, array, data_type)
    flat = array.reshape(-1)
    if data_type == DataType.DT_STRING:
        tensor.string_val.extend(_as_bytes(flat))
        return
    if data_type in _PACKED_TAGS:
        _write_packed(tensor, _PACKED_TAGS[data_type], flat)
        return
    if data_type == DataType.DT_HALF:
        flat = flat.view(np.uint16)
    elif data_type in (DataType.DT_COMPLEX64, DataType.DT_COMPLEX128):
        flat = flat.view(flat.real.dtype)
    getattr(tensor, _VALUE_FIELDS.get(data_type, "int_val")).extend(flat.tolist())


def write_compact(tensor: Any, array: np.ndarray) -> None:
    """Writes an array into `tensor_content`, the form that is cheapest to read.

    Strings are packed as TensorFlow packs them (`port::EncodeStringList`): a request of 64 users
    then costs a third of a request with one field per string.

    Args:
      tensor: Empty tensor to write into.
      array: Array of any shape.

    Raises:
      ValueError: If TensorFlow has no type for the array's type.
    """
    data_type = data_type_of(array)
    _write_type(tensor, array, data_type)
    if data_type == DataType.DT_STRING:
        tensor.tensor_content = _encode_strings(_as_bytes(array.reshape(-1)))
    else:
        tensor.tensor_content = array.tobytes()


def _write_type(tensor: Any, array: np.ndarray, data_type: int) -> None:
    tensor.dtype = data_type
    # The shape must be present for a scalar as well, where it is empty.
    tensor.tensor_shape.SetInParent()
    for size in array.shape:
        tensor.tensor_shape.dim.add(size=size)


def _as_bytes(flat: np.ndarray) -> list[bytes]:
    values = flat.tolist()
    kinds = set(map(type, values))
    if kinds <= {bytes}:
        return values
    if not kinds <= {bytes, str, np.bytes_, np.str_}:
        names = sorted(kind.__name__ for kind in kinds)
        raise ValueError(
            f"`array` of objects must hold bytes or text alone. Received: {', '.join(names)}."
        )
    return [value.encode() if isinstance(value, str) else bytes(value) for value in values]


def _write_packed(tensor: Any, tag: int, flat: np.ndarray) -> None:
    content = flat.astype(flat.dtype.newbyteorder("<"), copy=False).tobytes()
    if content:
        tensor.MergeFromString(bytes([tag]) + _varint(len(content)) + content)


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _read_packed(tensor: Any, numpy_type: type) -> np.ndarray:
    """Reads the values of a packed field from its bytes on the wire."""
    field = _VALUE_FIELDS[tensor.dtype]
    # A copy that has no other field: the array is at the end of its serialized bytes.
    alone = type(tensor)()
    alone.CopyFrom(tensor)
    alone.DiscardUnknownFields()
    for other, _ in tensor.ListFields():
        if other.name != field:
            alone.ClearField(other.name)
    content = alone.SerializeToString()
    count = len(getattr(tensor, field))
    wire_type: np.dtype = np.dtype(numpy_type).newbyteorder("<")
    return np.frombuffer(content, wire_type, count, len(content) - count * wire_type.itemsize)


def _require_proportion(shape: list[int], size: int) -> None:
    if size > MAX_REPEATED:
        raise ValueError(
            f"`tensor_shape` must not span more than {MAX_REPEATED} elements that the message does "
            f"not hold. Received: {shape}."
        )


def _numeric_values(tensor: Any, numpy_type: type) -> np.ndarray:
    if tensor.dtype in _PACKED_TAGS:
        return _read_packed(tensor, numpy_type)
    values = getattr(tensor, _VALUE_FIELDS.get(tensor.dtype, "int_val"))
    if tensor.dtype == DataType.DT_HALF:
        return np.array(values, dtype=np.uint32).astype(np.uint16).view(np.float16)
    if tensor.dtype in (DataType.DT_COMPLEX64, DataType.DT_COMPLEX128):
        part = np.float32 if tensor.dtype == DataType.DT_COMPLEX64 else np.float64
        return np.array(values[: len(values) // 2 * 2], dtype=part).view(numpy_type)
    if _VALUE_FIELDS.get(tensor.dtype) is None:
        return np.array(values, dtype=np.int32).astype(numpy_type)  # wraps as a C++ cast does
    return np.array(values, dtype=numpy_type)


def _repeat_last(values: np.ndarray, size: int) -> np.ndarray:
    if len(values) >= size:
        return values[:size]
    repeated = np.full(size, values[-1] if len(values) else 0, dtype=values.dtype)
    repeated[: len(values)] = values
    return repeated


def _string_values(tensor: Any, size: int) -> np.ndarray:
    if tensor.tensor_content:
        strings = _decode_strings(tensor.tensor_content, size)
    else:
        strings = list(tensor.string_val[:size])
        strings += [strings[-1] if strings else b""] * (size - len(strings))
    array = np.empty(size, dtype=object)
    array[:] = strings
    return array


def _encode_strings(strings: list[bytes]) -> bytes:
    """Writes TensorFlow's packed strings: all lengths as varints, then all bytes."""
    lengths = list(map(len, strings))
    if max(lengths, default=0) > _LAST_SHORT:
        return b"".join([*map(_varint, lengths), *strings])
    return bytes(lengths) + b"".join(strings)


def _decode_strings(content: bytes, size: int) -> list[bytes]:
    """Reads TensorFlow's packed strings, as `_encode_strings` writes them."""
    if size > len(content):
        raise ValueError("`tensor_content` must hold a length for each string.")
    lengths, position = _decode_lengths(content, size)
    if len(content) - position != sum(lengths):
        raise ValueError("`tensor_content` must hold as many bytes as its strings are long.")
    # To read from a file in memory is four times as fast as slicing.
    file = io.BytesIO(content)
    file.seek(position)
    return list(map(file.read, lengths))


def _decode_lengths(content: bytes, size: int) -> tuple[list[int], int]:
    """Returns the lengths of packed strings, and the position after them."""
    if size == 0 or max(content[:size]) <= _LAST_SHORT:
        return list(content[:size]), size
    position = 0
    lengths: list[int] = []
    while len(lengths) < size:
        length = shift = 0
        while True:
            if position >= len(content) or shift > 63:
                raise ValueError("`tensor_content` must hold a length for each string.")
            byte = content[position]
            position += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        lengths.append(length)
    return lengths, position
