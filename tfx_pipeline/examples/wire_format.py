"""Protocol buffers' wire format for many messages at once, as Arrow arrays of bytes.

Protobuf's own library writes one message at a time from one Python object per value, which once was
a quarter of the time for making examples. This module has only what a `tf.Example` needs: integers
of variable length and length-delimited fields. The tests compare all of it with what protobuf's own
library writes and reads.

https://protobuf.dev/programming-guides/encoding
"""

from collections.abc import Iterable

import numpy as np
import pyarrow.compute as pc

from trainer.contract.arrow import pa
from trainer.contract.list_column import offsets_of

# Tags of fields: field number * 8 + wire type 2, "length delimited". This is the tag of field 1 of
# a message: an entry of a list of bytes or of a map, a map's key, and packed numbers.
LIST_VALUE = b"\x0a"


def varints(values: np.ndarray) -> pa.Array:
    """Encodes integers as varints, each as short as possible.

    Args:
      values: int [n]; a negative number takes ten bytes, as in protobuf.

    Returns:
      binary [n], the varints.
    """
    data, lengths = varint_bytes(values)
    return binary_array(data, offsets_of(lengths))


def varint_bytes(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Encodes integers as concatenated varints.

    Returns:
      uint8 [num_bytes], the varints, and int64 [n], length of each in bytes.
    """
    rest = values.astype(np.int64).view(np.uint64)
    if not len(rest) or rest.max() < 128:
        return rest.astype(np.uint8), np.ones(len(rest), np.int64)
    lengths = np.ones(len(rest), np.int64)
    for size in range(1, -(-int(rest.max()).bit_length() // 7)):
        lengths += rest >= np.uint64(1 << (7 * size))
    starts = np.cumsum(lengths) - lengths
    data = np.empty(int(lengths.sum()), np.uint8)
    for place in range(int(lengths.max())):
        is_there = lengths > place
        digit = (rest[is_there] >> np.uint64(7 * place)) & np.uint64(127)
        has_more = lengths[is_there] > place + 1
        data[starts[is_there] + place] = digit.astype(np.uint8) | (has_more.astype(np.uint8) << 7)
    return data, lengths


def length_delimited(tag: bytes, content: pa.Array) -> pa.Array:
    """Puts tag and length before each content, binary [n]."""
    return join([tag, varints(lengths_of(content)), content])


def join(pieces: Iterable[bytes | pa.Array]) -> pa.Array:
    """Concatenates arrays element by element.

    Args:
      pieces: Arrays, binary [n], or bytes that are the same for all elements; at least one array.

    Returns:
      binary [n], the concatenated elements.
    """
    arrays = [
        pa.scalar(piece, pa.binary()) if isinstance(piece, bytes) else piece for piece in pieces
    ]
    return pc.binary_join_element_wise(*arrays, pa.scalar(b"", pa.binary()))


def blank(content: pa.Array, is_blank: np.ndarray) -> pa.Array:
    """Replaces the elements where `is_blank` by empty ones."""
    return pc.if_else(pa.array(is_blank), pa.scalar(b"", pa.binary()), content)


def lengths_of(content: pa.Array) -> np.ndarray:
    """Returns the length of each element in bytes, int64 [n]."""
    return np.diff(offsets_in(content)).astype(np.int64)


def offsets_in(content: pa.Array) -> np.ndarray:
    """Returns the offsets of a binary or string array's elements in its data, int32 [n + 1]."""
    if not len(content):
        return np.zeros(1, np.int32)
    offsets = np.frombuffer(content.buffers()[1], np.int32)
    return offsets[content.offset : content.offset + len(content) + 1]


def regroup(content: pa.Array, offsets: np.ndarray) -> pa.Array:
    """Joins ranges of elements, without a copy.

    Args:
      content: binary [n], elements.
      offsets: int [m + 1]; range i has the elements from `offsets[i]` to below `offsets[i + 1]`.

    Returns:
      binary [m], the joined ranges.
    """
    found = offsets_in(content)[offsets]
    return pa.Array.from_buffers(
        pa.binary(), len(offsets) - 1, [None, pa.py_buffer(found), content.buffers()[2]]
    )


def binary_array(data: np.ndarray, offsets: np.ndarray) -> pa.Array:
    """Cuts bytes at offsets into an Arrow array, without a copy.

    Args:
      data: Contiguous array of any type.
      offsets: int [n + 1], offsets in bytes.

    Returns:
      binary [n], the cut pieces.
    """
    buffers = [None, pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(data.view(np.uint8))]
    return pa.Array.from_buffers(pa.binary(), len(offsets) - 1, buffers)
