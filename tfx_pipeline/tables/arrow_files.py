"""Reads the files of a table as Arrow batches of bounded size, whatever their format.

Parquet, CSV and JSON lines give the same rows. Only questions of files are decided here: whether
they can be read and have the columns. `table_files` finds the files; `validate` checks the values.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import numpy as np

from tfx_pipeline.tables import csv_rows, json_lines
from tfx_pipeline.tables.declared_columns import (
    check_file_columns,
    check_table_columns,
    check_types,
    declared_columns,
    declared_names,
)
from tfx_pipeline.tables.parquet_rows import (
    DEFAULT_BATCH_ROWS,
    FileSplit,
    empty_columns,
    open_parquet,
    parquet_splits,
    read_parquet,
)
from tfx_pipeline.tables.read_limits import has_text, lines_of
from tfx_pipeline.tables.row_batches import FileBatch, rows_as_json
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
from tfx_pipeline.tables.unreadable import UNREADABLE, unreadable

_ROWS_OF_A_GLANCE = 1000


def _columns_of(path: str, table: TableSchema) -> tuple[list[str], bool]:
    """Returns the column names of a file, and whether it has any row, without reading it whole."""
    if table_format(path) == PARQUET:
        with open_parquet(path) as parquet:
            has_rows = parquet.metadata.num_rows > 0
            if has_rows:
                check_types(
                    path, parquet.schema_arrow, table, empty_columns(path, parquet.metadata)
                )
            return parquet.schema_arrow.names, has_rows
    try:
        if table_format(path) == CSV:
            with open_file(path, table.limits) as stream:
                return _csv_header(path, stream, table)
        with open_file(path, table.limits) as stream:
            has_rows = has_text(stream)
        with open_file(path, table.limits) as stream:
            lines = lines_of(stream, path, table.limits)
            return json_lines.columns_of(lines, table.required_columns), has_rows
    except (MemoryError, *UNREADABLE) as error:
        raise unreadable(path, error) from error


def _csv_header(path: str, stream: BinaryIO, table: TableSchema) -> tuple[list[str], bool]:
    try:
        return csv_rows.read_header(stream, table.limits)
    except csv_rows.HeaderError as error:
        raise ValueError(f"{path} {error}") from error


def has_column(path: str, table: TableSchema, name: str) -> bool:
    """Returns whether any row of a file has a column that the table may lack."""
    columns = (dataclasses.replace(c, is_required=True) for c in table.columns if c.name == name)
    return name in _columns_of(path, dataclasses.replace(table, columns=tuple(columns)))[0]


def check_table(pattern: str, table: TableSchema) -> list[str]:
    """Finds the files of a table and checks that they can be read; called once, before a run.

    Args:
      pattern: File, folder or glob, see `find_files`.
      table: Schema of the table.

    Returns:
      Paths of the files, sorted.

    Raises:
      ValueError: No file is found by `find_files`, or `check_files` refuses one.
    """
    files, unread = find_files(pattern)
    say_unread(unread, table.name)
    return check_files(files, pattern, table)


def check_files(files: list[str], pattern: str, table: TableSchema) -> list[str]:
    """Checks that the files of a table can be read.

    Args:
      files: Paths of the files.
      pattern: File, folder or glob that named them, for messages.
      table: Schema of the table.

    Returns:
      The paths.

    Raises:
      ValueError: A file cannot be read, a required column is missing (in a file with rows; a
        nullable one: in all files), a column has a type that cannot be read, none of the files has
        a row, or no row has a readable time. The message names file, column and remedy.
    """
    found: list[str] = []
    with_rows = []
    for path in files:
        columns, has_rows = _columns_of(path, table)
        if not has_rows:
            continue
        with_rows.append(path)
        # A file whose JSON lines are all malformed has no columns to miss; its rows are rejected.
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
    """Refuses a table without any readable time; reads little where an early row has one."""
    for column in table.columns:
        if column.kind == TIMESTAMP:
            example = _unreadable_time(files, dataclasses.replace(table, columns=(column,)))
            if example is not None:
                raise ValueError(
                    f"`{column.name}` of {table.name} must {TIMES}. "
                    f"Received: {example}, and no row of {pattern} that can be read."
                )


def _unreadable_time(files: Iterable[str], column: TableSchema) -> str | None:
    """Returns the first value that is no time; None if any row has a time, or none has a value."""
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
    """Lists the parts that can be read in parallel: row groups of Parquet, other files whole."""
    splits: list[FileSplit] = []
    for path in files:
        if table_format(path) != PARQUET:
            splits.append(FileSplit(path))
            continue
        splits += parquet_splits(path)
    return splits


def read_batches(
    split: FileSplit | str,
    table: TableSchema,
    *,
    batch_rows: int = DEFAULT_BATCH_ROWS,
) -> Iterator[FileBatch]:
    """Reads one file, or one part of it, in batches.

    Args:
      split: Path, or a part from `list_splits`.
      table: Schema of the table.
      batch_rows: Largest number of rows in a batch, which bounds memory.

    Yields:
      Batches with the declared columns as found, and every required one: empty where the file lacks
      it.

    Raises:
      ValueError: The file cannot be read, or lacks a column that may not be empty.
    """
    if isinstance(split, str):
        split = FileSplit(split)
    path = split.path
    found = table_format(path)
    if found == PARQUET:
        yield from read_parquet(split, table, batch_rows)
        return
    if found is None:
        raise ValueError(f"{path} must be a table file, by its suffix. Known are {READABLE}.")
    try:
        if found == CSV:
            yield from _read_csv(path, table, batch_rows)
            return
        with open_file(path, table.limits) as stream:
            lines = lines_of(stream, path, table.limits)
            yield from json_lines.read_json_lines(
                lines, table=table, file=path, batch_rows=batch_rows
            )
    except (MemoryError, *UNREADABLE) as error:
        raise unreadable(path, error) from error


def _read_csv(path: str, table: TableSchema, batch_rows: int) -> Iterator[FileBatch]:
    header, has_rows = _columns_of(path, table)
    if not has_rows:
        return
    check_file_columns(path, header, table)
    columns = declared_names(header, table)
    with open_file(path, table.limits) as stream:
        for batch in csv_rows.read_csv(
            stream,
            columns,
            table=table.name,
            file=path,
            batch_rows=batch_rows,
            limits=table.limits,
        ):
            yield dataclasses.replace(batch, rows=declared_columns(batch.rows, table))


def read_table(
    pattern: str,
    table: TableSchema,
    *,
    batch_rows: int = DEFAULT_BATCH_ROWS,
) -> Iterator[FileBatch]:
    """Reads all files of a table in order: `check_table`, then `read_batches` for each.

    Args:
      pattern: File, folder or glob, see `find_files`.
      table: Schema of the table.
      batch_rows: Largest number of rows in a batch.

    Yields:
      Batches of `read_batches`.

    Raises:
      ValueError: The table is refused by `check_table`, or a file by `read_batches`.
    """
    for path in check_table(pattern, table):
        yield from read_batches(path, table, batch_rows=batch_rows)
