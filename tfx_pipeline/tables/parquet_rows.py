"""Reads Parquet as Arrow batches of bounded size.

A row group of few bytes can be gigabytes once it is read: a repeated value is stored once, and its
million rows store only its code; a list of a million equal values stores their number. So the
number of rows in a batch is determined before the batch is read.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet

from tfx_pipeline.tables.declared_columns import (
    check_file_columns,
    declared_columns,
    declared_names,
)
from tfx_pipeline.tables.read_limits import ReadLimits
from tfx_pipeline.tables.row_batches import FileBatch, rejected_rows
from tfx_pipeline.tables.schema import TableSchema
from tfx_pipeline.tables.table_files import open_file
from tfx_pipeline.tables.unreadable import UNREADABLE, first_line, unreadable
from trainer.contract.arrow import UNSAFE_TYPE, pa

DEFAULT_BATCH_ROWS = 65_536
# Memory per value besides its bytes while its row is checked: offsets, positions, codes.
_VALUE_BYTES = 100
# Largest size of a batch once it is read, with the text of every row, even where it is stored once.
_MOST_BATCH_BYTES = 64 << 20


@dataclasses.dataclass(frozen=True)
class FileSplit:
    """A part of a file that can be read separately: the unit of parallel reading.

    Attributes:
      path: Path of the file.
      row_groups: Row groups of a Parquet file; None: the whole file.
      first_row: 1-based number of the part's first row in the file.
    """

    path: str
    row_groups: tuple[int, ...] | None = None
    first_row: int = 1


@contextlib.contextmanager
def open_parquet(path: str, coded: Sequence[str] = ()) -> Iterator[pyarrow.parquet.ParquetFile]:
    """Opens a Parquet file for reading.

    Args:
      path: Path of the file.
      coded: Names of text columns that are read as dictionary codes.

    Yields:
      The open file.

    Raises:
      ValueError: The file is not Parquet, or one that would run code.
    """
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(open_file(path, ReadLimits()))
            with _no_unsafe_type(path):
                parquet = pyarrow.parquet.ParquetFile(file, read_dictionary=list(coded) or None)
        except (pa.ArrowException, MemoryError, *UNREADABLE) as error:
            raise ValueError(
                f"{path} is not a readable Parquet file: {first_line(error)} "
                "Write it again, or name the file after its real format."
            ) from error
        try:
            yield parquet
        except UnicodeDecodeError as error:  # from a column's name
            raise unreadable(path, error) from error


@contextlib.contextmanager
def _no_unsafe_type(path: str) -> Iterator[None]:
    """Turns the error of a column type that would run code into a line that names the file."""
    try:
        yield
    except (pa.ArrowException, *UNREADABLE):
        raise
    # The hotfix raises RuntimeError, or ValueError where the part that it shows is no pickle.
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"{path} must have no column of the type `{UNSAFE_TYPE}`: reading one runs code from "
            "the file. Write the column as a plain type."
        ) from error


def empty_columns(path: str, metadata: pyarrow.parquet.FileMetaData) -> set[str]:
    """Returns the columns whose statistics count only nulls; pandas may give these any type."""
    empty = {metadata.schema.column(i).path for i in range(metadata.num_columns)}
    types = [metadata.schema.column(i).physical_type for i in range(metadata.num_columns)]
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        for i in range(group.num_columns):
            chunk = group.column(i)
            if i >= len(types) or chunk.physical_type != types[i]:
                # pyarrow 10 ends the process when it is asked for the statistics of such a chunk.
                raise unreadable(path, pa.ArrowInvalid("a row group has a column of another type"))
            found = chunk.statistics
            if found is None or not found.has_null_count or found.null_count < group.num_rows:
                empty.discard(chunk.path_in_schema)
        if not empty:
            break
    return empty


def parquet_splits(path: str) -> Iterator[FileSplit]:
    """Returns the parts of a file: its row groups, small ones together."""
    with open_parquet(path) as parquet:
        metadata = parquet.metadata
        sizes = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    groups: list[int] = []
    first_row, num_rows = 1, 0
    for group, size in enumerate(sizes):
        groups.append(group)
        num_rows += size
        # Each part opens the file again and reads the metadata of all its groups.
        if num_rows >= DEFAULT_BATCH_ROWS or group == len(sizes) - 1:
            yield FileSplit(path, tuple(groups), first_row)
            first_row += num_rows
            groups, num_rows = [], 0


def read_parquet(split: FileSplit, table: TableSchema, batch_rows: int) -> Iterator[FileBatch]:
    """Reads a Parquet file or a part of it, see `arrow_files.read_batches`."""
    next_row = split.first_row
    nothing = rejected_rows(table.name, split.path, [], [], [])
    with open_parquet(split.path) as parquet:
        if not parquet.metadata.num_rows:
            return
        found = parquet.schema_arrow.names
        check_file_columns(split.path, found, table)
        groups = split.row_groups
        if groups is None:
            groups = tuple(range(parquet.metadata.num_row_groups))
        names = declared_names(found, table)
        for rows in bounded_batches(parquet, split.path, groups, names, batch_rows, table.limits):
            numbers = np.arange(next_row, next_row + rows.num_rows, dtype=np.int64)
            next_row += rows.num_rows
            rows = declared_columns(rows, table)
            yield FileBatch(table.name, split.path, rows, numbers, nothing)


def bounded_batches(
    parquet: pyarrow.parquet.ParquetFile,
    path: str,
    groups: Sequence[int],
    names: Sequence[str],
    batch_rows: int,
    limits: ReadLimits,
) -> Iterator[pa.RecordBatch]:
    """Reads some row groups in batches of as many rows as memory allows.

    Args:
      parquet: The open file.
      path: Path of the file.
      groups: Indices of the row groups.
      names: Names of the columns to read.
      batch_rows: Largest number of rows in a batch.
      limits: Limits on the length of a row.

    Yields:
      Batches of the columns.

    Raises:
      ValueError: The file is truncated, or a value in it is longer than a row may be.
    """
    try:
        texts = _text_columns(parquet.metadata, names)
        with open_parquet(path, tuple(texts)) as coded:
            sizes = [
                _rows_at_once(coded, path, group, names, texts, batch_rows, limits)
                for group in groups
            ]
        # One group at a time: reading several damaged ones together ends the process (pyarrow 10).
        batches = (
            (batch, batch.num_rows / rows)
            for group, rows in zip(groups, sizes, strict=True)
            for batch in _of_group(parquet, path, group, names, min(batch_rows, rows))
        )
        yield from _gathered(batches, batch_rows)
    except (pa.ArrowException, MemoryError, *UNREADABLE) as error:
        if isinstance(error, ValueError) and not isinstance(error, pa.ArrowException):
            raise
        raise unreadable(path, error) from error


def _of_group(
    parquet: pyarrow.parquet.ParquetFile, path: str, group: int, names: Sequence[str], num_rows: int
) -> Iterator[pa.RecordBatch]:
    """Reads a row group by column: pyarrow 10 crashes on columns of different lengths."""
    columns = [
        parquet.iter_batches(batch_size=num_rows, row_groups=[group], columns=[name])
        for name in names
    ]
    while True:
        found = [next(batches, None) for batches in columns]
        whole = [batch for batch in found if batch is not None]
        if len({batch.num_rows for batch in whole}) > 1 or 0 < len(whole) < len(found):
            error = pa.ArrowInvalid(f"the columns of row group {group + 1} differ in length")
            raise unreadable(path, error)
        if not whole:
            return
        yield pa.RecordBatch.from_arrays([batch.column(0) for batch in whole], list(names))


def _gathered(
    batches: Iterable[tuple[pa.RecordBatch, float]], batch_rows: int
) -> Iterator[pa.RecordBatch]:
    """Combines small batches, as each batch causes the same fixed cost later.

    Args:
      batches: Batches, each with its share of the memory that a batch may use.
      batch_rows: Largest number of rows in a batch.

    Yields:
      Batches with the rows in their order.
    """
    held: list[pa.RecordBatch] = []
    num_rows, used = 0, 0.0
    for batch, part in batches:
        for column in batch.columns:
            _check_codes(column)
        if held and (num_rows + batch.num_rows > batch_rows or used + part > 1):
            yield _together(held)
            held, num_rows, used = [], 0, 0.0
        held.append(batch)
        num_rows += batch.num_rows
        used += part
    if held:
        yield _together(held)


def _check_codes(column: pa.Array) -> None:
    """Refuses dictionary codes out of range, which pyarrow 10 would follow out of its memory."""
    while pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        column = column.values
    if pa.types.is_dictionary(column.type) and column.null_count < len(column):
        ends = pc.min_max(column.indices).as_py()
        if ends["min"] < 0 or ends["max"] >= len(column.dictionary):
            raise pa.ArrowInvalid("an index is outside the dictionary")


def _together(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    if len(batches) == 1:
        return batches[0]
    columns = [
        pa.concat_arrays([batch.column(i) for batch in batches])
        for i in range(batches[0].num_columns)
    ]
    return pa.RecordBatch.from_arrays(columns, batches[0].schema.names)


def _text_columns(metadata: pyarrow.parquet.FileMetaData, names: Sequence[str]) -> dict[str, str]:
    """Returns the declared column of each text column of the file, by the path of the latter."""
    columns = map(metadata.schema.column, range(metadata.num_columns))
    paths = [column.path for column in columns if column.physical_type == "BYTE_ARRAY"]
    owners = {path: _owner(path, names) for path in paths}
    return {path: name for path, name in owners.items() if name is not None}


def _owner(path: str, names: Sequence[str]) -> str | None:
    return next((name for name in names if path == name or path.startswith(f"{name}.")), None)


def _rows_at_once(
    coded: pyarrow.parquet.ParquetFile,
    path: str,
    group: int,
    names: Sequence[str],
    texts: Mapping[str, str],
    batch_rows: int,
    limits: ReadLimits,
) -> int:
    """Returns how many rows of a group fit into memory, if its lists have similar lengths."""
    metadata = coded.metadata.row_group(group)
    values_of_row: dict[str, float] = {}
    mean_bytes: dict[str, float] = {}
    for chunk in map(metadata.column, range(metadata.num_columns)):
        name = _owner(chunk.path_in_schema, names)
        if name is not None:
            values_of_row[name] = chunk.num_values / max(1, metadata.num_rows)
            mean_bytes[name] = chunk.total_uncompressed_size / max(1, chunk.num_values)
            if max(values_of_row[name], mean_bytes[name]) > limits.row_bytes:
                raise limits.too_long(path, f"row group {group + 1}, column `{name}`")
    most_rows = {
        name: _rows_that_fit(n * (mean_bytes[name] + _VALUE_BYTES))
        for name, n in values_of_row.items()
    }
    if texts:
        columns = list(dict.fromkeys(texts.values()))
        batches = coded.iter_batches(batch_size=1, row_groups=[group], columns=columns)
        for name, column in zip(columns, next(batches, pa.record_batch([])).columns, strict=False):
            longest = _longest(column)
            if longest > limits.row_bytes:
                raise limits.too_long(path, f"row group {group + 1}, column `{name}`")
            # A damaged group may name the column differently.
            most = most_rows.get(name, batch_rows)
            # The number if every row had the longest text, which is not so in an ordinary file.
            fewest = _rows_that_fit(values_of_row.get(name, 1) * (longest + _VALUE_BYTES))
            if fewest < min(batch_rows, most, metadata.num_rows):
                fewest = _rows_of_texts(coded, group, name, (fewest, min(batch_rows, most)))
            most_rows[name] = min(most, fewest)
    return min(most_rows.values(), default=batch_rows)


def _rows_that_fit(row_bytes: float) -> int:
    return max(1, int(_MOST_BATCH_BYTES / max(1.0, row_bytes)))


def _rows_of_texts(
    coded: pyarrow.parquet.ParquetFile, group: int, name: str, bounds: tuple[int, int]
) -> int:
    """Counts how many rows fit, by their actual texts; reading these as codes needs little memory.

    Args:
      coded: The open file, its texts read as dictionary codes.
      group: Index of the row group.
      name: Name of the column.
      bounds: Smallest and largest number to return.

    Returns:
      The number of rows.
    """
    fewest, most = bounds
    # With a power of two, parts of a half or a quarter begin where batches of that size will begin.
    rows = 1 << (most.bit_length() - 1)
    heaviest = num_rows = 0
    try:
        for batch in coded.iter_batches(batch_size=rows, row_groups=[group], columns=[name]):
            num_rows += batch.num_rows
            row_bytes = _bytes_of_values(batch.column(0))
            while rows > fewest:
                heaviest = max(heaviest, _heaviest_part(row_bytes, rows))
                if heaviest <= _MOST_BATCH_BYTES:
                    break
                rows //= 2
                heaviest = 0
            if rows <= fewest:
                return fewest
    except pa.ArrowException:  # pyarrow may read as text what it cannot read as codes
        return fewest
    # A group that fits leaves room for the following ones.
    return (
        max(rows, int(num_rows * _MOST_BATCH_BYTES / max(1, heaviest)))
        if num_rows <= rows
        else rows
    )


def _heaviest_part(row_bytes: np.ndarray, num_rows: int) -> int:
    """Returns the most bytes in any `num_rows` consecutive rows, counted from the first."""
    if not row_bytes.size:
        return 0
    return int(np.add.reduceat(row_bytes, np.arange(0, row_bytes.size, num_rows)).max())


def _bytes_of_values(column: pa.Array) -> np.ndarray:
    """Returns the bytes of each value of a column once its texts are expanded, int64 [values]."""
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        ends = np.concatenate([[0], np.cumsum(_bytes_of_values(column.values))])
        return np.diff(ends[column.offsets.to_numpy()])
    if not pa.types.is_dictionary(column.type):
        return np.full(len(column), _VALUE_BYTES, np.int64)
    texts = pc.fill_null(pc.binary_length(column.dictionary), 0).to_numpy(zero_copy_only=False)
    lengths = np.append(texts.astype(np.int64), 0)  # the last length is that of null
    codes = pc.fill_null(column.indices, len(texts)).to_numpy(zero_copy_only=False)
    # A damaged code may be out of range; that is reported where the texts are read.
    return lengths.take(codes, mode="clip") + _VALUE_BYTES


def _longest(column: pa.Array) -> int:
    """Returns the bytes of the longest text in the dictionary of a column."""
    while pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        column = column.values
    if not pa.types.is_dictionary(column.type):
        return 0
    return pc.max(pc.binary_length(column.dictionary)).as_py() or 0


def text_column(path: str, name: str, limits: ReadLimits) -> Iterator[pa.Array]:
    """Yields one column of a Parquet file in batches; nothing where it does not hold texts."""
    with open_parquet(path) as parquet:
        if name not in parquet.schema_arrow.names:
            return
        kind = parquet.schema_arrow.field(name).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        is_text = (pa.types.is_string, pa.types.is_large_string)
        if any(check(kind) for check in (*is_text, pa.types.is_binary, pa.types.is_large_binary)):
            groups = range(parquet.metadata.num_row_groups)
            for batch in bounded_batches(parquet, path, groups, [name], DEFAULT_BATCH_ROWS, limits):
                yield batch.column(0)
