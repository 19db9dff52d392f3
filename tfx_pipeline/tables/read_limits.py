"""What a table may cost in memory before anything is known of it: bounds on a row, on unpacking.

Tables are read in batches, so the memory that reading takes is that of some rows. It is bounded if
a row is, and a row is judged before it is whole: half a gigabyte in one line is a few hundred
kilobytes of gzip.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import BinaryIO

# Bytes of rows, unpacked, that a batch is made of, whatever number of rows that is.
BATCH_BYTES = 32 << 20
_BLOCK_BYTES = 1 << 20
# Whatever its ratio, a file may unpack to this: a small log of one event a million times.
_UNPACKED_BYTES = 256 << 20


@dataclasses.dataclass(frozen=True)
class ReadLimits:
    """Bounds on what is read; `data.max_row_mb` and `data.max_unpacked_ratio`.

    Attributes:
      row_bytes: of a row or a cell, unpacked.
      unpacked_ratio: of a compressed file, bytes unpacked for each of its own.
    """

    row_bytes: int = 4 << 20
    unpacked_ratio: float = 300.0

    def too_long(self, file: str, place: str) -> ValueError:
        """What is said of a row.

        Args:
          file: where it is.
          place: the row or line there.
        """
        return ValueError(
            f"{file} must have rows of at most {_in_mb(self.row_bytes)} MB. Received: a longer one "
            f"in {place}. Mend the file, or raise `data.max_row_mb`."
        )


class UnpackedFile:
    """A compressed file while it is unpacked, up to its limit."""

    def __init__(self, stream: BinaryIO, path: str, packed_bytes: int, limits: ReadLimits) -> None:
        """Initializes the file.

        Args:
          stream: what it unpacks to; closed with this.
          path: for messages.
          packed_bytes: its size as it is.
          limits: the ratio.
        """
        self._stream = stream
        self._path = path
        self._packed_bytes = packed_bytes
        self._limits = limits
        self._num_bytes = 0
        self._most = max(_UNPACKED_BYTES, int(packed_bytes * limits.unpacked_ratio))

    def read(self, num_bytes: int) -> bytes:
        """The next bytes.

        Raises:
          ValueError: the file unpacks to more than it may.
        """
        block = self._stream.read(num_bytes)
        self._num_bytes += len(block)
        if self._num_bytes > self._most:
            raise ValueError(
                f"{self._path} must unpack to at most {self._limits.unpacked_ratio:g} times its "
                f"size. Received: {self._packed_bytes} bytes that unpack to more than "
                f"{_in_mb(self._most)} MB. Check what wrote it, or raise "
                "`data.max_unpacked_ratio`."
            )
        return block

    def close(self) -> None:
        """Closes it."""
        self._stream.close()

    def __enter__(self) -> UnpackedFile:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes it."""
        self.close()


def lines_of(stream: BinaryIO, file: str, limits: ReadLimits) -> Iterator[bytes]:
    """The lines of a file without their line feeds.

    Args:
      stream: the file from its beginning.
      file: for messages.
      limits: how long a line may be.

    Yields:
      Every line, blank ones as well.

    Raises:
      ValueError: a line is too long; no more than a block of it beyond the limit was read.
    """
    # Of the line that is not whole: put together at its end alone, or each block copies it anew.
    pieces: list[bytes] = []
    num_bytes = 0
    number = 1
    while block := stream.read(_BLOCK_BYTES):
        first, *lines = block.split(b"\n")
        pieces.append(first)
        num_bytes += len(first)
        if num_bytes > limits.row_bytes:
            raise limits.too_long(file, f"line {number}")
        if not lines:
            continue
        yield b"".join(pieces)
        rest = lines.pop()
        yield from lines
        number += len(lines) + 1
        # Of the others each is of this block alone.
        if len(rest) > limits.row_bytes:
            raise limits.too_long(file, f"line {number}")
        pieces, num_bytes = [rest], len(rest)
    if num_bytes:
        yield b"".join(pieces)


def has_text(stream: BinaryIO) -> bool:
    """Whether anything but white space follows; a file of line feeds alone is read by the block."""
    while block := stream.read(_BLOCK_BYTES):
        if block.strip():
            return True
    return False


def _in_mb(num_bytes: int) -> str:
    return f"{num_bytes / (1 << 20):g}"
