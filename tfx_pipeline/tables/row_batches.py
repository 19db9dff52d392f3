"""Data types between the readers and the checks: batches of rows, and the rejected rows."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from json.encoder import encode_basestring
from typing import Any

import numpy as np

from trainer.contract.arrow import pa

# A rejected row keeps its place and its values, so that a person can find and correct it.
REJECTED_SCHEMA = pa.schema(
    [
        pa.field("table", pa.string()),
        pa.field("file", pa.string()),
        pa.field("row", pa.int64()),
        pa.field("reason", pa.string()),
        pa.field("values", pa.string()),
    ]
)

# A broken file can be one line of gigabytes; the part kept of it is for people to read.
MAX_REJECTED_CHARACTERS = 4096


@dataclasses.dataclass(frozen=True)
class FileBatch:
    """Consecutive rows of one file, as found.

    Attributes:
      table: Name of the table to which the file belongs.
      file: Path of the file.
      rows: Declared columns, with the types found in the file; a column with cells of several types
        is a union. Required columns are present.
      row_numbers: int64 [num_rows], 1-based numbers: of CSV, data rows without the header; of JSON,
        lines.
      rejected: Rows of this part that could not be read at all, `REJECTED_SCHEMA`.
    """

    table: str
    file: str
    rows: pa.RecordBatch
    row_numbers: np.ndarray
    rejected: pa.RecordBatch


@dataclasses.dataclass(frozen=True)
class ValidatedBatch:
    """The rows of a `FileBatch`, each either valid or rejected.

    Attributes:
      rows: Valid rows in canonical columns, see the `validate_*` function that made it.
      rejected: Rejected rows, including those that could not be read at all, `REJECTED_SCHEMA`.
      file: Path of the file.
      row_numbers: int64 [rows.num_rows], 1-based numbers of the valid rows.
      items_aside: string array, ids of items in rejected rows that are still used: in `items` those
        without tags, in `interactions` the unknown ones, one id per row; None: there are none.
    """

    rows: pa.RecordBatch
    rejected: pa.RecordBatch
    file: str
    row_numbers: np.ndarray
    items_aside: pa.Array | None = None

    @property
    def num_read(self) -> int:
        """Number of rows read: the valid and the rejected ones."""
        return self.rows.num_rows + self.rejected.num_rows


def rejected_rows(
    table: str,
    file: str,
    rows: Sequence[int] | np.ndarray,
    reasons: Sequence[str],
    values: Sequence[str],
) -> pa.RecordBatch:
    """Builds a `REJECTED_SCHEMA` batch; `values` is JSON, cut to `MAX_REJECTED_CHARACTERS`."""
    return pa.RecordBatch.from_arrays(
        [
            pa.array([table] * len(rows), pa.string()),
            pa.array([file] * len(rows), pa.string()),
            pa.array(rows, pa.int64()),
            pa.array(reasons, pa.string()),
            pa.array([value[:MAX_REJECTED_CHARACTERS] for value in values], pa.string()),
        ],
        schema=REJECTED_SCHEMA,
    )


def concat_rejected(batches: Iterable[pa.RecordBatch]) -> pa.RecordBatch:
    """Joins any number of `REJECTED_SCHEMA` batches into one."""
    table = pa.Table.from_batches(batches, schema=REJECTED_SCHEMA).combine_chunks()
    found = table.to_batches()
    return found[0] if found else rejected_rows("", "", [], [], [])


def count_reasons(rejected: pa.RecordBatch) -> dict[str, int]:
    """Counts rejected rows by reason."""
    counts = rejected.column("reason").value_counts().to_pylist()
    return {entry["values"]: entry["counts"] for entry in counts}


def rows_as_json(rows: pa.RecordBatch, indices: np.ndarray) -> list[str]:
    """Returns the rows at `indices`, each as one JSON object of its values as found."""
    if not len(indices):
        return []
    columns = {
        name: _values(column.take(pa.array(indices)))
        for name, column in zip(rows.schema.names, rows.columns, strict=True)
    }
    return _json_objects(columns)


def _values(column: pa.Array) -> list[Any]:
    if pa.types.is_timestamp(column.type):
        # Years after 9999 have no Python datetime; the stored integer always exists.
        column = column.cast(pa.int64())
    try:
        values: list[Any] = column.to_pylist()
        return values
    except (ValueError, OverflowError, pa.ArrowException):
        # A date before the year 1, or undecodable bytes: one such cell must not hide the others.
        return [_value(cell) for cell in column]


def _value(cell: pa.Scalar) -> Any:
    try:
        return cell.as_py()
    except (ValueError, OverflowError, pa.ArrowException):
        return f"a value of {cell.type} that cannot be shown"


def _as_shown(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def rejected_lines(rejected: pa.RecordBatch) -> list[str]:
    """Returns rejected rows (`REJECTED_SCHEMA`) as JSON lines."""
    names = rejected.schema.names
    columns = {name: rejected.column(name).to_pylist() for name in names}
    return [f"{line}\n" for line in _json_objects(columns)]


def _json_objects(columns: Mapping[str, list[Any]]) -> list[str]:
    """Returns the rows of columns, each as one JSON object.

    The result is that of `json.dumps(row, ensure_ascii=False, default=_as_shown)`, which takes five
    times as long: in a log whose items have no tags, a third of the rows may be converted here.
    """
    encode = json.JSONEncoder(ensure_ascii=False, default=_as_shown).encode

    def cell(value: Any) -> str:
        if type(value) is str:
            return encode_basestring(value)
        return repr(value) if type(value) is int else encode(value)

    cells = [
        [f"{encode_basestring(name)}: {cell(value)}" for value in values]
        for name, values in columns.items()
    ]
    return ["{" + ", ".join(row) + "}" for row in zip(*cells, strict=True)]
