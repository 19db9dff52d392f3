"""The files of a table -> Arrow batches of bounded size, whatever their format.

Parquet, CSV and JSON lines give the same rows. Only what concerns files is decided here: that they
can be read, that the columns are there. Which they are is `table_files`'s; values are judged in
`validate`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import zlib
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import numpy as np
import pyarrow.parquet

from tfx_pipeline.tables import csv_rows, json_lines
from tfx_pipeline.tables.declared_columns import (
    check_file_columns,
    check_table_columns,
    check_types,
    declared_columns,
    declared_names,
)
from tfx_pipeline.tables.row_batches import FileBatch, rejected_rows, rows_as_json
from tfx_pipeline.tables.schema import TIMESTAMP, TableSchema
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
from tfx_pipeline.tables.times import TIMES, as_seconds
from trainer.arrow import UNSAFE_TYPE, pa

DEFAULT_BATCH_ROWS = 65_536
_ROWS_OF_A_GLANCE = 1000
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
            file = stack.enter_context(open_file(path))
            with _no_unsafe_type(path):
                parquet = pyarrow.parquet.ParquetFile(file)
        except (pa.ArrowInvalid, *_UNREADABLE) as error:
            raise ValueError(
                f"{path} is no readable Parquet file: {_first_line(error)} "
                "Write it again, or name the file after its real format."
            ) from error
        yield parquet


@contextlib.contextmanager
def _no_unsafe_type(path: str) -> Iterator[None]:
    """Within it the types of a file are made, which is where a hostile one would run code."""
    try:
        yield
    except (pa.ArrowException, *_UNREADABLE):
        raise
    # The hotfix raises the first, and the second where what it shows of the file is no pickle.
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"{path} must have no column of the type `{UNSAFE_TYPE}`: to read one is to run "
            "code of the file. Write the column as a plain type."
        ) from error


def _empty_columns(metadata: pyarrow.parquet.FileMetaData) -> set[str]:
    """Columns whose statistics count nulls alone; pandas gives such a one any type."""
    empty = {metadata.schema.column(i).path for i in range(metadata.num_columns)}
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        for chunk in map(group.column, range(group.num_columns)):
            found = chunk.statistics
            if found is None or not found.has_null_count or found.null_count < group.num_rows:
                empty.discard(chunk.path_in_schema)
        if not empty:
            break
    return empty


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    text = lines[0] if lines else type(error).__name__
    return text if text.endswith(".") else text + "."


@contextlib.contextmanager
def readable(path: str) -> Iterator[None]:
    """Within it, what reading a damaged file raises is one line."""
    try:
        yield
    except (pa.ArrowException, *_UNREADABLE) as error:
        if isinstance(error, ValueError) and not isinstance(error, pa.ArrowException):
            raise
        raise _unreadable(path, error) from error


def _unreadable(path: str, error: BaseException) -> ValueError:
    return ValueError(
        f"{path} cannot be read: {_first_line(error)} Check that it is complete and readable."
    )


def _columns_of(path: str, table: TableSchema) -> tuple[list[str], bool]:
    """Column names of a file, and whether it has any row (cheaply: a glance, not a scan)."""
    if table_format(path) == PARQUET:
        with _open_parquet(path) as parquet:
            has_rows = parquet.metadata.num_rows > 0
            if has_rows:
                check_types(path, parquet.schema_arrow, table, _empty_columns(parquet.metadata))
            return parquet.schema_arrow.names, has_rows
    try:
        if table_format(path) == CSV:
            with open_file(path) as stream:
                return _csv_header(path, stream)
        with open_file(path) as stream:
            has_rows = any(line.strip() for line in stream)
        with open_file(path) as stream:
            return json_lines.columns_of(stream, table.required_columns), has_rows
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error


def _csv_header(path: str, stream: BinaryIO) -> tuple[list[str], bool]:
    try:
        return csv_rows.read_header(stream)
    except ValueError as error:
        raise ValueError(f"{path} {error}") from error


def has_column(path: str, table: TableSchema, name: str) -> bool:
    """Whether a file has a column that the table may lack, in any of its rows."""
    columns = (dataclasses.replace(c, is_required=True) for c in table.columns if c.name == name)
    return name in _columns_of(path, dataclasses.replace(table, columns=tuple(columns)))[0]


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
      ValueError: a file that cannot be read, a required column missing (in a file with rows; one
        that may be empty: in all files), a column of a type that cannot be read, no row in any of
        the files, or no readable time in any row. The message names file, column and remedy.
    """
    found: list[str] = []
    with_rows = []
    for path in files:
        columns, has_rows = _columns_of(path, table)
        if not has_rows:
            continue
        with_rows.append(path)
        # A file of JSON lines that are all malformed has no column to miss; its rows are rejected.
        if columns or table_format(path) != JSON_LINES:
            check_file_columns(path, columns, table)
            found += columns
    if not with_rows:
        raise ValueError(
            f"The {table.name} table at {pattern} has no row. "
            f"Check the path, or write the rows ({len(files)} file(s) read)."
        )
    if found:
        place = with_rows[0] if len(with_rows) == 1 else pattern
        check_table_columns(place, found, table)
        _check_times(with_rows, pattern, table)
    return files


def _check_times(files: Iterable[str], pattern: str, table: TableSchema) -> None:
    """Refuses a table of whose times none can be read; a glance where the first can."""
    for column in table.columns:
        if column.kind == TIMESTAMP:
            example = _unreadable_time(files, dataclasses.replace(table, columns=(column,)))
            if example is not None:
                raise ValueError(
                    f"`{column.name}` of {table.name} must {TIMES}. "
                    f"Received: {example}, and no row of {pattern} that can be read."
                )


def _unreadable_time(files: Iterable[str], column: TableSchema) -> str | None:
    """The first value that is no time; None where any row has a time, or none has a value."""
    example = None
    for path in files:
        for batch in read_batches(path, column, batch_rows=_ROWS_OF_A_GLANCE):
            values = batch.rows.column(0)
            times = as_seconds(values)
            if not (times.is_missing | times.is_invalid).all():
                return None
            if example is None and times.is_invalid.any():
                row = int(np.argmax(times.is_invalid))
                value = json.loads(rows_as_json(batch.rows, np.array([row]))[0])
                value = next(iter(value.values()))
                example = f"{value!r} ({path}, row {batch.row_numbers[row]})"
    return example


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
        if not parquet.metadata.num_rows:
            return
        found = parquet.schema_arrow.names
        check_file_columns(split.path, found, table)
        groups = [split.row_group]
        if split.row_group is None:
            groups = list(range(parquet.metadata.num_row_groups))
        names = declared_names(found, table)
        batches = parquet.iter_batches(batch_size=batch_rows, row_groups=groups, columns=names)
        while True:
            try:
                rows = next(batches, None)
            except (pa.ArrowException, *_UNREADABLE) as error:
                raise _unreadable(split.path, error) from error
            if rows is None:
                return
            numbers = np.arange(next_row, next_row + rows.num_rows, dtype=np.int64)
            next_row += rows.num_rows
            rows = declared_columns(rows, table)
            yield FileBatch(table.name, split.path, rows, numbers, nothing)


def read_batches(
    split: FileSplit | str,
    table: TableSchema,
    *,
    batch_rows: int = DEFAULT_BATCH_ROWS,
) -> Iterator[FileBatch]:
    """Reads one file, or one part of it.

    Args:
      split: a path, or a part from `list_splits`.
      table: which table it is.
      batch_rows: largest number of rows in a batch; memory is bounded by it.

    Yields:
      Batches with the declared columns as found, and every required one: empty where the file
      lacks it.

    Raises:
      ValueError: the file cannot be read, or lacks a column that may not be empty.
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
    try:
        if found == CSV:
            yield from _read_csv(path, table, batch_rows)
            return
        with open_file(path) as stream:
            yield from json_lines.read_json_lines(
                stream, table=table, file=path, batch_rows=batch_rows
            )
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error


def _read_csv(path: str, table: TableSchema, batch_rows: int) -> Iterator[FileBatch]:
    header, has_rows = _columns_of(path, table)
    if not has_rows:
        return
    check_file_columns(path, header, table)
    columns = declared_names(header, table)
    with open_file(path) as stream:
        for batch in csv_rows.read_csv(
            stream, columns, table=table.name, file=path, batch_rows=batch_rows
        ):
            yield dataclasses.replace(batch, rows=declared_columns(batch.rows, table))


def read_table(
    pattern: str,
    table: TableSchema,
    *,
    batch_rows: int = DEFAULT_BATCH_ROWS,
) -> Iterator[FileBatch]:
    """Reads all files of a table one after the other: `check_table`, then `read_batches` of each.

    Args:
      pattern: file, folder or glob, see `find_files`.
      table: which table it is.
      batch_rows: largest number of rows in a batch.

    Yields:
      Batches as `read_batches` gives them.

    Raises:
      ValueError: see `check_table` and `read_batches`.
    """
    for path in check_table(pattern, table):
        yield from read_batches(path, table, batch_rows=batch_rows)


def text_column(path: str, name: str) -> Iterator[pa.Array]:
    """One column of a Parquet file, batch by batch, where it holds texts; else nothing is read."""
    with _open_parquet(path) as parquet:
        if name not in parquet.schema_arrow.names:
            return
        kind = parquet.schema_arrow.field(name).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        is_text = (pa.types.is_string, pa.types.is_large_string)
        if any(check(kind) for check in (*is_text, pa.types.is_binary, pa.types.is_large_binary)):
            for batch in parquet.iter_batches(DEFAULT_BATCH_ROWS, columns=[name]):
                yield batch.column(0)
