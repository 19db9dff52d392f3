"""Reads files of published data sets line by line, and collects the lines that cannot be used.

The module is for the readers of `tfx_pipeline.datasets`. The user's own tables are read by
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

# Largest line; published lines have some hundred bytes.
_MOST_LINE_BYTES = 4 << 20


class SourceLine(NamedTuple):
    """One line of a source file.

    Attributes:
      number: Number of the line, from 1.
      text: Text of the line, without its end.
      fields: Fields of the line.
    """

    number: int
    text: str
    fields: list[str]


class LineBlock(NamedTuple):
    """Consecutive lines of a file.

    Attributes:
      first: Number of the first line, from 1.
      num_lines: Number of lines.
      offset: Number of bytes before them, uncompressed.
    """

    first: int
    num_lines: int
    offset: int


class RejectedLines:
    """The rejected lines of source files, with their reasons."""

    def __init__(self) -> None:
        """Initializes without any line."""
        self.rows: list[dict[str, Any]] = []

    def add(self, file: str, row: int, reason: str, line: str) -> None:
        """Adds a rejected line.

        Args:
          file: Path of its file.
          row: Number of the line, from 1.
          reason: Reason of the rejection, one of `schema.REJECT_REASONS`.
          line: Text of the line, or of its rejected part.
        """
        self.rows.append({"file": file, "row": row, "reason": reason, "values": line})

    def counts(self) -> dict[str, int]:
        """Counts the lines by reason."""
        return dict(collections.Counter(row["reason"] for row in self.rows))


def find_source_file(source: str, name: str, advice: str) -> str:
    """Finds a file in the folder to which an archive unpacks.

    Args:
      source: Folder of the unpacked archive.
      name: Name of the file; `<name>.gz` is accepted as well.
      advice: Sentence on the download and its place, without its full stop.

    Returns:
      Path of the file.

    Raises:
      ValueError: Neither file exists.
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
      path: Path of the file, plain or gzip.
      block_bytes: Smallest size of a block, uncompressed: it ends with the line that reaches it.

    Returns:
      The blocks in order, which together have all lines.

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
    """Reads the lines of a file, plain or gzip; skips blank ones.

    Args:
      path: Path of the file.
      rejected: Collection to which lines with another number of fields or undecodable bytes are
        added.
      separator: Separator between fields; it cannot be quoted.
      num_fields: Number of fields in a line.
      encoding: Encoding of the file.
      text_field: Position of a field of free text that may contain the separator itself.
      block: Lines to read; None: all. The part of a gzip file before them is unpacked, but not
        parsed.

    Yields:
      The valid lines.

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
    """Returns the lines; a too long one is cut just beyond the limit, which reveals it."""
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
