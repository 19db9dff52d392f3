"""The files of a table -> Arrow batches of bounded size, whatever their format.

Parquet, CSV and JSON lines give the same rows. Only what concerns files is decided here: that they
can be read, that the columns are there. Which they are is `table_files`'s; values are judged in
`validate`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import zlib
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from tfx_pipeline.tables import csv_rows, json_lines
from tfx_pipeline.tables.row_batches import FileBatch, rejected_rows
from tfx_pipeline.tables.schema import TableSchema
from tfx_pipeline.tables.table_files import (
    CSV,
    JSON_LINES,
    PARQUET,
    READABLE,
    find_files,
    open_file,
    say_unread,
    table_format,
)

DEFAULT_BATCH_ROWS = 65_536
_UNREADABLE = (OSError, EOFError, zlib.error)


@dataclasses.dataclass(frozen=True)
class FileSplit:
    """A part of a file that can be read by itself: the unit of parallel reading.

    Attributes:
      path: the file.
      row_group: of Parquet, which row group; None reads the whole file.
      first_row: 1-based number of the part's first row in the file.
    """

    path: str
    row_group: int | None = None
    first_row: int = 1


@contextlib.contextmanager
def _open_parquet(path: str) -> Iterator[pyarrow.parquet.ParquetFile]:
    with contextlib.ExitStack() as stack:
        try:
            parquet = pyarrow.parquet.ParquetFile(stack.enter_context(open_file(path)))
        except (pa.ArrowInvalid, *_UNREADABLE) as error:
            raise ValueError(
                f"{path} is no readable Parquet file: {_first_line(error)} "
                "Write it again, or name the file after its real format."
            ) from error
        yield parquet


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    text = lines[0] if lines else type(error).__name__
    return text if text.endswith(".") else text + "."


def _unreadable(path: str, error: BaseException) -> ValueError:
    return ValueError(
        f"{path} cannot be read: {_first_line(error)} Check that it is complete and readable."
    )


def _columns_of(path: str) -> tuple[list[str], bool]:
    """Column names of a file, and whether it has any row (cheaply: a glance, not a scan)."""
    if table_format(path) == PARQUET:
        with _open_parquet(path) as parquet:
            return parquet.schema_arrow.names, parquet.metadata.num_rows > 0
    try:
        if table_format(path) == CSV:
            with open_file(path) as stream:
                return _csv_header(path, stream)
        with open_file(path) as stream:
            has_rows = any(line.strip() for line in stream)
        with open_file(path) as stream:
            return json_lines.first_columns(stream), has_rows
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error


def _csv_header(path: str, stream: BinaryIO) -> tuple[list[str], bool]:
    try:
        return csv_rows.read_header(stream)
    except ValueError as error:
        raise ValueError(f"{path} {error}") from error


def _check_columns(path: str, found: Iterable[str], table: TableSchema) -> None:
    found = list(found)
    for name in table.required_columns:
        if name not in found:
            raise ValueError(
                f"{path} must have the column `{name}` ({table.name}). "
                f"Received: {', '.join(found) or 'no column'}. Rename or add it."
            )
    repeated = sorted({name for name in found if found.count(name) > 1})
    if repeated:
        name = repeated[0] or "a column without a name"
        raise ValueError(f"{path} must have each column once. Received twice: {name}.")


def check_table(pattern: str, table: TableSchema) -> list[str]:
    """Finds the files of a table and checks that they can be read; call it once, before a run.

    Args:
      pattern: file, folder or glob, see `find_files`.
      table: which table it is.

    Returns:
      The paths, sorted.

    Raises:
      ValueError: see `find_files` and `check_files`.
    """
    files, unread = find_files(pattern)
    say_unread(unread, table.name)
    return check_files(files, pattern, table)


def check_files(files: list[str], pattern: str, table: TableSchema) -> list[str]:
    """Checks that the files of a table can be read.

    Args:
      files: the paths.
      pattern: where they are, for messages.
      table: which table it is.

    Returns:
      The paths.

    Raises:
      ValueError: a file that cannot be read, a required column missing in a file with rows, or no
        row in any of the files. The message names file, column and remedy.
    """
    has_any_row = False
    for path in files:
        columns, has_rows = _columns_of(path)
        # A file of JSON lines that are all malformed has no column to miss; its rows are rejected.
        is_all_malformed = has_rows and not columns and table_format(path) == JSON_LINES
        if has_rows and not is_all_malformed:
            _check_columns(path, columns, table)
        has_any_row = has_any_row or has_rows
    if not has_any_row:
        raise ValueError(
            f"The {table.name} table at {pattern} has no row. "
            f"Check the path, or write the rows ({len(files)} file(s) read)."
        )
    return files


def list_splits(files: Iterable[str]) -> list[FileSplit]:
    """The parts that can be read in parallel: a Parquet row group each, other files whole."""
    splits: list[FileSplit] = []
    for path in files:
        if table_format(path) != PARQUET:
            splits.append(FileSplit(path))
            continue
        with _open_parquet(path) as parquet:
            metadata = parquet.metadata
        first_row = 1
        for group in range(metadata.num_row_groups):
            splits.append(FileSplit(path, group, first_row))
            first_row += metadata.row_group(group).num_rows
    return splits


def _read_parquet(split: FileSplit, table: TableSchema, batch_rows: int) -> Iterator[FileBatch]:
    next_row = split.first_row
    nothing = rejected_rows(table.name, split.path, [], [], [])
    with _open_parquet(split.path) as parquet:
        _check_columns(split.path, parquet.schema_arrow.names, table)
        groups = [split.row_group]
        if split.row_group is None:
            groups = list(range(parquet.metadata.num_row_groups))
        batches = parquet.iter_batches(batch_size=batch_rows, row_groups=groups)
        while True:
            try:
                rows = next(batches, None)
            except (pa.ArrowException, *_UNREADABLE) as error:
                raise _unreadable(split.path, error) from error
            if rows is None:
                return
            numbers = np.arange(next_row, next_row + rows.num_rows, dtype=np.int64)
            next_row += rows.num_rows
            yield FileBatch(table.name, split.path, rows, numbers, nothing)


def read_batches(
    split: FileSplit | str,
    table: TableSchema,
    *,
    batch_rows: int = DEFAULT_BATCH_ROWS,
    list_separator: str = "|",
) -> Iterator[FileBatch]:
    """Reads one file, or one part of it.

    Args:
      split: a path, or a part from `list_splits`.
      table: which table it is.
      batch_rows: largest number of rows in a batch; memory is bounded by it.
      list_separator: what separates the values of a list that comes as one string.

    Yields:
      Batches with all columns as found, the required ones among them.

    Raises:
      ValueError: the file cannot be read, or lacks a required column.
    """
    if isinstance(split, str):
        split = FileSplit(split)
    path = split.path
    found = table_format(path)
    if found == PARQUET:
        yield from _read_parquet(split, table, batch_rows)
        return
    if found is None:
        raise ValueError(f"{path} must be a table file, by its suffix. Known are {READABLE}.")
    header, has_rows = _columns_of(path)
    if not has_rows:
        return
    if found == CSV or header:
        _check_columns(path, header, table)
    try:
        with open_file(path) as stream:
            if found == CSV:
                yield from csv_rows.read_csv(
                    stream, header, table=table.name, file=path, batch_rows=batch_rows
                )
            else:
                yield from json_lines.read_json_lines(
                    stream,
                    table=table,
                    file=path,
                    batch_rows=batch_rows,
                    list_separator=list_separator,
                )
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error


def read_table(
    pattern: str,
    table: TableSchema,
    *,
    batch_rows: int = DEFAULT_BATCH_ROWS,
    list_separator: str = "|",
) -> Iterator[FileBatch]:
    """Reads all files of a table one after the other: `check_table`, then `read_batches` of each.

    Args:
      pattern: file, folder or glob, see `find_files`.
      table: which table it is.
      batch_rows: largest number of rows in a batch.
      list_separator: what separates the values of a list that comes as one string.

    Yields:
      Batches as `read_batches` gives them.

    Raises:
      ValueError: see `check_table` and `read_batches`.
    """
    for path in check_table(pattern, table):
        yield from read_batches(path, table, batch_rows=batch_rows, list_separator=list_separator)
