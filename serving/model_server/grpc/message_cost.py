"""The memory that a parsed message takes, computed from its bytes alone.

A field of two bytes on the wire becomes an object of a hundred bytes in memory, or of three hundred
if it is nested, and is there twice if an input is named twice: a message of 32 MiB may take
gigabytes before any check of its content is possible. Therefore the fields of large messages are
counted first, to the depth of a Predict request's structure; deeper parts are counted as the worst
case. The factors were measured with protobuf 3.20.
"""

import dataclasses
from collections.abc import Iterator

import grpc

from serving.model_server.errors import ServingError

# Messages up to this size are not counted: they cannot take much memory.
SMALL_BYTES = 64 << 10
# The most memory that a byte of any message takes.
WORST_FACTOR = 350
MAX_FIELDS = 2**19
_FIELD_BYTES = 260
# Memory of a string in the message, in Python and in TensorFlow, where it is looked up and
# embedded.
_STRING_BYTES = 300

_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5

# Numbers of the fields of PredictRequest, of a map's entry, and of TensorProto.
_INPUTS, _TENSOR = 2, 2
_SHAPE, _CONTENT, _FLOATS, _DOUBLES, _STRINGS, _RESOURCES, _VARIANTS = 2, 4, 5, 6, 8, 14, 15
_PACKED_INTEGERS = {7, 9, 10, 11, 12, 13, 16, 17}
_MODEL_SPEC = 1


@dataclasses.dataclass
class _Count:
    num_fields: int = 0
    num_bytes: int = 0


def worst_cost(message: bytes) -> int:
    """Returns the maximum memory of any message.

    Args:
      message: Bytes of the message.

    Returns:
      Number of bytes in memory.
    """
    return len(message) * WORST_FACTOR


def predict_request_cost(message: bytes) -> int:
    """Returns the maximum memory of a PredictRequest; a damaged one is counted up to the damage.

    Args:
      message: Bytes of the message.

    Returns:
      Number of bytes in memory.

    Raises:
      ServingError: RESOURCE_EXHAUSTED if there are so many fields that counting them takes long.
    """
    count = _Count()
    try:
        for number, start, end in _fields(message, 0, len(message), count):
            if number == _INPUTS:
                _count_input(message, start, end, count)
            else:
                factor = WORST_FACTOR if number == _MODEL_SPEC else 2
                count.num_bytes += factor * (end - start)
    except IndexError:
        pass  # the message is damaged: parsing it will raise the error
    return count.num_bytes + _FIELD_BYTES * count.num_fields


def _count_input(data: bytes, start: int, end: int, count: _Count) -> None:
    for number, first, last in _fields(data, start, end, count):
        if number == _TENSOR:
            _count_tensor(data, first, last, count)
        else:
            count.num_bytes += 2 * (last - first)


def _count_tensor(data: bytes, start: int, end: int, count: _Count) -> None:
    for number, first, last in _fields(data, start, end, count):
        size = last - first
        if number == _STRINGS:
            count.num_bytes += _STRING_BYTES + 4 * size
        elif number in _PACKED_INTEGERS:
            count.num_bytes += 48 * size  # an integer may take one byte, and becomes an object
        elif number in (_FLOATS, _DOUBLES, _CONTENT):
            count.num_bytes += 8 * size
        elif number in (_SHAPE, _RESOURCES, _VARIANTS):
            count.num_bytes += WORST_FACTOR * size
        else:
            count.num_bytes += 2 * size


def _fields(data: bytes, position: int, end: int, count: _Count) -> Iterator[tuple[int, int, int]]:
    """Yields the fields of a message: number, start and end of the content.

    Raises:
      IndexError: If the bytes are not valid fields, or the last field is truncated.
    """
    while position < end:
        count.num_fields += 1
        if count.num_fields > MAX_FIELDS:
            raise ServingError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"A request must not have more than {MAX_FIELDS} fields. Pack its values in "
                "`tensor_content`.",
            )
        tag = data[position]
        position += 1
        if tag > 0x7F:
            tag, position = _varint(data, position - 1)
        kind = tag & 7
        start = position
        if kind == _BYTES:
            size = data[position]
            position += 1
            if size > 0x7F:
                size, position = _varint(data, position - 1)
            start = position
            position += size
        elif kind == _VARINT:
            while data[position] > 0x7F:
                position += 1
            position += 1
        elif kind == _FOUR_BYTES:
            position += 4
        elif kind == _EIGHT_BYTES:
            position += 8
        else:
            raise IndexError  # a group, which no message of this server has
        if position > end:
            raise IndexError
        yield tag >> 3, start, position


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise IndexError
