"""What a message takes once it is read, found out from its bytes alone.

A field of two bytes on the wire becomes an object of a hundred in memory, of three hundred where it
is nested, and each is there twice where an input is named twice: a message of 32 MiB may take
gigabytes before anybody can look at it. Large messages are therefore walked over first, field by
field, as far as the structure of a Predict request goes; what lies deeper is counted as the worst
there is. Measured with protobuf 3.20.
"""

import dataclasses

import grpc

from serving.model_server.errors import ServingError

# Messages up to this size are not walked over: they cannot take much.
SMALL_BYTES = 64 << 10
# The most memory that a byte of any message takes.
WORST_FACTOR = 350
MAX_FIELDS = 2**19
_FIELD_BYTES = 260
# A string in the message, in Python, in TensorFlow, looked up and embedded.
_STRING_BYTES = 300

_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5

# Field numbers.
_INPUTS, _TENSOR = 2, 2
_SHAPE, _CONTENT, _FLOATS, _DOUBLES, _STRINGS, _RESOURCES, _VARIANTS = 2, 4, 5, 6, 8, 14, 15
_PACKED_INTEGERS = {7, 9, 10, 11, 12, 13, 16, 17}
_MODEL_SPEC = 1


@dataclasses.dataclass
class _Count:
    num_fields: int = 0
    num_bytes: int = 0


def worst_cost(message: bytes) -> int:
    """What any message takes at most.

    Args:
      message: Its bytes.

    Returns:
      Bytes of memory.
    """
    return len(message) * WORST_FACTOR


def predict_request_cost(message: bytes) -> int:
    """What a PredictRequest takes at most; of a damaged one, what is read up to the damage.

    Args:
      message: Its bytes.

    Returns:
      Bytes of memory.

    Raises:
      ServingError: RESOURCE_EXHAUSTED if it has so many fields that counting them takes long.
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
        pass  # no message: its reader says so
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
            count.num_bytes += 48 * size  # one byte each, and an object each in between
        elif number in (_FLOATS, _DOUBLES, _CONTENT):
            count.num_bytes += 8 * size
        elif number in (_SHAPE, _RESOURCES, _VARIANTS):
            count.num_bytes += WORST_FACTOR * size
        else:
            count.num_bytes += 2 * size


def _fields(data: bytes, position: int, end: int, count: _Count):
    """The fields of a message: number, start and end of the content each.

    Raises:
      IndexError: If these are no fields, or the last is cut.
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
            raise IndexError  # a group, which no message of ours has
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
