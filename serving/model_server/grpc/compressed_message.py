"""Decompression of gRPC messages within a size limit.

The library would unpack a message as a whole and only then compare its size with the limit: two
megabytes can become two gigabytes. Therefore its decompression is turned off. The library does not
tell which messages are compressed, but their first bytes do: no message of this server begins with
a field 3 of an unknown kind (gzip) or a field 15 (zlib, gRPC's `deflate`).
"""

import zlib

import grpc

from serving.model_server.errors import ServingError, invalid_argument

_GZIP = b"\x1f\x8b\x08"
_ZLIB_FIRST = 0x78
# zlib detects gzip or zlib by the first bytes.
_ANY_KIND = 32 + zlib.MAX_WBITS
_STEP_BYTES = 1 << 20


def is_compressed(message: bytes) -> bool:
    """Returns whether a message is compressed."""
    if message[:1] == _GZIP[:1]:
        return message.startswith(_GZIP)
    return (
        len(message) > 1
        and message[0] == _ZLIB_FIRST
        and int.from_bytes(message[:2], "big") % 31 == 0
    )


def unpack(message: bytes, limit: int) -> bytes:
    """Unpacks a compressed message.

    Args:
      message: Compressed bytes, for which `is_compressed` is true.
      limit: Maximum size of the unpacked message.

    Returns:
      The unpacked message.

    Raises:
      ServingError: If the message is larger, in the library's words, or damaged.
    """
    unpacker = zlib.decompressobj(_ANY_KIND)
    parts, size, rest = [], 0, message
    try:
        while not unpacker.eof:
            part = unpacker.decompress(rest, _STEP_BYTES)
            rest = unpacker.unconsumed_tail
            size += len(part)
            if size > limit:
                raise too_large(size, limit)
            if not part and not rest:
                break
            parts.append(part)
    except zlib.error as error:
        raise _damaged() from error
    if not unpacker.eof or unpacker.unused_data:
        raise _damaged()
    return b"".join(parts)


def too_large(size: int, limit: int) -> ServingError:
    """Returns the error for a message that is too large, in the library's words."""
    return ServingError(
        grpc.StatusCode.RESOURCE_EXHAUSTED, f"Received message larger than max ({size} vs. {limit})"
    )


def _damaged() -> ServingError:
    return invalid_argument("The request is not a message of this method.")
