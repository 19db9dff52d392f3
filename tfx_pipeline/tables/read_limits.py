"""Limits on the memory that a table may use before its content is known: rows and unpacking.

Tables are read in batches, so reading takes the memory of some rows. It is bounded if a row is, and
a row is checked before it is complete: half a gigabyte in one line is a few hundred kilobytes of
gzip.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import BinaryIO

# Bytes of unpacked rows in a batch, whatever their number.
BATCH_BYTES = 32 << 20
_BLOCK_BYTES = 1 << 20
# Size to which a file may unpack at any ratio, as a small log with one event a million times does.
_UNPACKED_BYTES = 256 << 20


@dataclasses.dataclass(frozen=True)
class ReadLimits:
    """Limits on what is read; `data.max_row_mb` and `data.max_unpacked_ratio`.

    Attributes:
      row_bytes: Largest size of a row or a cell in bytes, unpacked.
      unpacked_ratio: Largest number of unpacked bytes per byte of a compressed file.
    """

    row_bytes: int = 4 << 20
    unpacked_ratio: float = 300.0

    def too_long(self, file: str, place: str) -> ValueError:
        """Returns the error for a row that is too long.

        Args:
          file: Path of the file.
          place: Row or line in the file.
        """
        return ValueError(
            f"{file} must have rows of at most {_in_mb(self.row_bytes)} MB. Received: a longer one "
            f"in {place}. Mend the file, or raise `data.max_row_mb`."
        )


class UnpackedFile:
    """A compressed file that is unpacked up to its limit."""

    def __init__(self, stream: BinaryIO, path: str, packed_bytes: int, limits: ReadLimits) -> None:
        """Initializes with the unpacked stream and the limit.

        Args:
          stream: Stream of the unpacked bytes; closed with this object.
          path: Path of the file, for messages.
          packed_bytes: Size of the compressed file in bytes.
          limits: Limits with the largest ratio.
        """
        self._stream = stream
        self._path = path
        self._packed_bytes = packed_bytes
        self._limits = limits
        self._num_bytes = 0
        self._most = max(_UNPACKED_BYTES, int(packed_bytes * limits.unpacked_ratio))

    def read(self, num_bytes: int) -> bytes:
        """Reads the next bytes of the unpacked file.

        Raises:
          ValueError: The file unpacks to more than its limit.
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
        """Closes the unpacked stream."""
        self._stream.close()

    def __enter__(self) -> UnpackedFile:
        """Returns the file itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the unpacked stream."""
        self.close()


def lines_of(stream: BinaryIO, file: str, limits: ReadLimits) -> Iterator[bytes]:
    """Yields the lines of a file without their line feeds.

    Args:
      stream: Stream at the start of the file.
      file: Path of the file, for messages.
      limits: Limits on the length of a line.

    Yields:
      All lines, including blank ones.

    Raises:
      ValueError: A line is too long; at most one block beyond the limit was read.
    """
    # Pieces of the incomplete line: joined only at its end, or else each block would copy it again.
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
        # Each of the other lines lies within this block.
        if len(rest) > limits.row_bytes:
            raise limits.too_long(file, f"line {number}")
        pieces, num_bytes = [rest], len(rest)
    if num_bytes:
        yield b"".join(pieces)


def has_text(stream: BinaryIO) -> bool:
    """Returns whether anything but white space follows; reads by the block, not by the line."""
    while block := stream.read(_BLOCK_BYTES):
        if block.strip():
            return True
    return False


def _in_mb(num_bytes: int) -> str:
    return f"{num_bytes / (1 << 20):g}"
