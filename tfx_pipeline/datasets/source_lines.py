"""Files of published data sets, line by line, with the lines that cannot be used set aside.

For the readers of `tfx_pipeline.datasets`. The user's own tables come in through
`tfx_pipeline.tables`, which reads formats with columns.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import itertools
import os
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

from tfx_pipeline.tables import schema
from tfx_pipeline.tables.table_files import open_unpacked
from trainer.contract.file_system import is_file

# A published line has some hundred bytes.
_MOST_LINE_BYTES = 4 << 20


class SourceLine(NamedTuple):
    """One line of a source file.

    Attributes:
      number: From 1.
      text: The line, without its end.
      fields: Its fields.
    """

    number: int
    text: str
    fields: list[str]


class LineBlock(NamedTuple):
    """Lines of a file that follow each other.

    Attributes:
      first: Number of the first line, from 1.
      num_lines: Number of lines.
      offset: Bytes before them, uncompressed.
    """

    first: int
    num_lines: int
    offset: int


class RejectedLines:
    """Lines set aside, with their reason."""

    def __init__(self) -> None:
        """Starts with none."""
        self.rows: list[dict[str, Any]] = []

    def add(self, file: str, row: int, reason: str, line: str) -> None:
        """Adds a line.

        Args:
          file: Its file.
          row: Its number, from 1.
          reason: One of `schema.REJECT_REASONS`.
          line: The line, or the part of it that is set aside.
        """
        self.rows.append({"file": file, "row": row, "reason": reason, "values": line})

    def counts(self) -> dict[str, int]:
        """Number of lines by reason."""
        return dict(collections.Counter(row["reason"] for row in self.rows))


def find_source_file(source: str, name: str, advice: str) -> str:
    """Path of a file in the folder that an archive unpacks to.

    Args:
      source: The folder.
      name: The file; `<name>.gz` will do as well.
      advice: What to download and where, a sentence without its full stop.

    Returns:
      The path.

    Raises:
      ValueError: There is neither.
    """
    for found in (os.path.join(source, name), os.path.join(source, name + ".gz")):
        if is_file(found):
            return found
    raise ValueError(
        f"`source` must hold {name} or {name}.gz. Received: source={source!r}. "
        f"{advice} and name the folder it unpacks to."
    )


def find_blocks(path: str, block_bytes: int) -> list[LineBlock]:
    """Cuts a file into blocks of lines.

    Args:
      path: The file, plain or gzip.
      block_bytes: A block ends with the line that makes it that long, uncompressed.

    Returns:
      The blocks, in order: all lines are in one of them.

    Raises:
      ValueError: The file cannot be read.
    """
    blocks = []
    first, offset, end, number = 1, 0, 0, 0
    with _readable(path), open_unpacked(path) as stream:
        for number, raw in enumerate(_lines(stream), start=1):
            _check_length(raw, path, number)
            end += len(raw)
            if end - offset >= block_bytes:
                blocks.append(LineBlock(first, number + 1 - first, offset))
                first, offset = number + 1, end
    if end > offset:
        blocks.append(LineBlock(first, number + 1 - first, offset))
    return blocks


def read_lines(
    path: str,
    rejected: RejectedLines,
    *,
    separator: str,
    num_fields: int,
    encoding: str,
    text_field: int | None = None,
    block: LineBlock | None = None,
) -> Iterator[SourceLine]:
    """The lines of a file, plain or gzip; blank ones are passed over.

    Args:
      path: The file.
      rejected: Where lines go that have another number of fields or bytes that are no text.
      separator: Between fields; nothing quotes it.
      num_fields: Fields of a line.
      encoding: Of the file.
      text_field: Position of a field of free text that may hold the separator itself.
      block: Which lines; None: all. Of a gzip file what is before them is unpacked, and not read.

    Yields:
      The good lines.

    Raises:
      ValueError: The file cannot be read.
    """
    with _readable(path), open_unpacked(path) as stream:
        lines = _lines(stream)
        if block is not None:
            stream.seek(block.offset)
            lines = itertools.islice(lines, block.num_lines)
        for number, raw in enumerate(lines, start=1 if block is None else block.first):
            _check_length(raw, path, number)
            line = raw.decode(encoding, "surrogateescape").rstrip("\r\n")
            if not line.strip():
                continue
            fields = line.split(separator)
            surplus = len(fields) - num_fields
            if surplus > 0 and text_field is not None:
                end = text_field + surplus + 1
                fields[text_field:end] = [separator.join(fields[text_field:end])]
            if len(fields) != num_fields or _has_undecodable_bytes(line):
                rejected.add(path, number, schema.MALFORMED_ROW, _printable(line))
            else:
                yield SourceLine(number, line, fields)


def _lines(stream: BinaryIO) -> Iterator[bytes]:
    """The lines; of one that is too long its beginning, by which it is known to be."""
    return iter(functools.partial(stream.readline, _MOST_LINE_BYTES + 1), b"")


def _check_length(line: bytes, path: str, number: int) -> None:
    if len(line) > _MOST_LINE_BYTES:
        raise ValueError(
            f"{path} must have lines of at most {_MOST_LINE_BYTES >> 20} MB. Received: a longer "
            f"one, line {number}. Download it again."
        )


@contextlib.contextmanager
def _readable(path: str) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} cannot be read: {error}. Download it again.") from error


def _has_undecodable_bytes(line: str) -> bool:
    return not line.isascii() and any("\udc80" <= char <= "\udcff" for char in line)


def _printable(line: str) -> str:
    return line.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
