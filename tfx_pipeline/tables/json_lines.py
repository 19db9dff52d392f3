"""Reads JSON lines as Arrow batches; a faulty line is rejected, not the whole file.

`pyarrow.json` is not used, as one malformed line, or one cell of another type, fails the whole file
there. A cell keeps the type that JSON gives it, and `cells` decides its value from that type and
the column's kind alone. A column whose cells have several types is a union of them, so no cell is
ever converted to the type of its neighbours.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Collection, Iterable, Iterator
from typing import Any

import numpy as np

from tfx_pipeline.tables import schema
from tfx_pipeline.tables.read_limits import BATCH_BYTES
from tfx_pipeline.tables.row_batches import FileBatch, rejected_rows
from trainer.contract.arrow import pa

_ARROW_TYPES = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}
_NONE = type(None)
_NESTED = {list, dict}
_INT64 = range(-(2**63), 2**63)


def _object(line: bytes) -> dict[str, Any] | None:
    """Returns the object in a line, None where there is none."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _parse(line: bytes, names: Collection[str]) -> dict[str, Any] | None:
    """Returns the declared members of the object in a line, None where there is no valid object."""
    value = _object(line)
    if value is None:
        return None
    row = {name: value[name] for name in names if name in value}
    try:
        if b"\\ud" in line or b"\\uD" in line:
            # Half a surrogate pair parses, but cannot be written as UTF-8.
            json.dumps(row, ensure_ascii=False).encode("utf-8")
    except ValueError:
        return None
    return row


def columns_of(lines: Iterable[bytes], required: Collection[str]) -> list[str]:
    """Returns the keys of the objects in a file, in the order of their appearance.

    Args:
      lines: Lines of the file; they are read until every required column was seen.
      required: Names of the columns that the caller needs.

    Returns:
      The keys; [] where no line is an object.
    """
    missing = set(required)
    found: dict[str, None] = {}
    for line in lines:
        row = _object(line) if line.strip() else None
        if row is not None:
            found.update(dict.fromkeys(row))
            missing.difference_update(row)
            if not missing:
                break
    return list(found)


def _misfits(values: list[Any], kind: str | None) -> list[int]:
    """Returns the positions of values that no column of the kind can hold, whatever its type."""
    types = set(map(type, values))
    if kind != schema.LIST:
        return [i for i, v in enumerate(values) if type(v) in _NESTED] if types & _NESTED else []
    if types <= {list, str, _NONE}:
        inner = set(map(type, itertools.chain.from_iterable(v for v in values if type(v) is list)))
        if not inner & _NESTED:
            return []
    return [i for i, value in enumerate(values) if not _fits_list(value)]


def _fits_list(value: Any) -> bool:
    if isinstance(value, list):
        return not any(type(each) in _NESTED for each in value)
    return value is None or isinstance(value, str)


def _scalars(values: list[Any]) -> pa.Array:
    """Returns a column of single values, each with its own type."""
    types = set(map(type, values)) - {_NONE}
    if not types:
        return pa.nulls(len(values))
    if len(types) == 1:
        try:
            return pa.array(values, _ARROW_TYPES[types.pop()])
        except OverflowError:
            types = {int}
    children: dict[type, list[Any]] = {kind: [] for kind in _ARROW_TYPES}
    codes = {kind: code for code, kind in enumerate(children)}
    type_codes, offsets = [], []
    for value in values:
        kind = str if value is None else type(value)
        if kind is int and value not in _INT64:
            # Too large for Arrow's integers: its digits keep the whole value.
            kind, value = str, str(value)
        type_codes.append(codes[kind])
        offsets.append(len(children[kind]))
        children[kind].append(value)
    return pa.UnionArray.from_dense(
        pa.array(type_codes, pa.int8()),
        pa.array(offsets, pa.int32()),
        [pa.array(child, _ARROW_TYPES[kind]) for kind, child in children.items()],
    )


def _lists(values: list[Any]) -> pa.Array:
    """Returns a column of lists and of strings that hold one."""
    is_text = np.array([isinstance(value, str) for value in values], bool)
    if is_text.any():
        if all(value is None or isinstance(value, str) for value in values):
            return pa.array(values, pa.string())
        places = np.where(is_text, np.cumsum(is_text), np.cumsum(~is_text)) - 1
        lists = _lists([value for value in values if not isinstance(value, str)])
        texts = pa.array([value for value in values if isinstance(value, str)], pa.string())
        return pa.UnionArray.from_dense(
            pa.array(is_text.astype(np.int8)), pa.array(places.astype(np.int32)), [lists, texts]
        )
    offsets = np.zeros(len(values) + 1, np.int32)
    np.cumsum([0 if value is None else len(value) for value in values], out=offsets[1:])
    # A null in place of a list's start offset makes the list null.
    is_null = [value is None for value in values]
    starts = pa.array(offsets, mask=np.array([*is_null, False]))
    inner = itertools.chain.from_iterable(value for value in values if value is not None)
    return pa.ListArray.from_arrays(starts, _scalars(list(inner)))


def _file_batch(
    found: list[tuple[int, bytes, dict[str, Any] | None]], table: schema.TableSchema, file: str
) -> FileBatch:
    bad = [
        (number, schema.MALFORMED_ROW, _line_as_json(line))
        for number, line, row in found
        if row is None
    ]
    good = [(number, row) for number, _, row in found if row is not None]
    present = set(table.required_columns).union(*(row for _, row in good))
    names = [column.name for column in table.columns if column.name in present]
    columns = {name: [row.get(name) for _, row in good] for name in names}
    misfits = {i for name in names for i in _misfits(columns[name], table.kind_of(name))}
    if misfits:
        for i in misfits:
            number, row = good[i]
            bad.append((number, schema.WRONG_TYPE, json.dumps(row, ensure_ascii=False)))
        good = [each for i, each in enumerate(good) if i not in misfits]
        columns = {name: [row.get(name) for _, row in good] for name in names}
    bad.sort()
    return FileBatch(
        table.name,
        file,
        pa.RecordBatch.from_arrays(
            [
                (_lists if table.kind_of(name) == schema.LIST else _scalars)(values)
                for name, values in columns.items()
            ],
            names=names,
        ),
        np.array([number for number, _ in good], np.int64),
        rejected_rows(
            table.name, file, [b[0] for b in bad], [b[1] for b in bad], [b[2] for b in bad]
        ),
    )


def _line_as_json(line: bytes) -> str:
    return json.dumps(line.decode("utf-8", "replace").strip(), ensure_ascii=False)


def read_json_lines(
    lines: Iterable[bytes], *, table: schema.TableSchema, file: str, batch_rows: int
) -> Iterator[FileBatch]:
    """Reads a file with one JSON object per line; blank lines are skipped.

    A line that is no JSON object is rejected with the reason `malformed_row`, a line with a list or
    an object in place of a single value with `wrong_type`.

    Args:
      lines: Lines of the file, see `read_limits.lines_of`.
      table: Schema of the table; other members of the objects are ignored.
      file: Path of the file, for messages.
      batch_rows: Largest number of lines in a batch.

    Yields:
      Batches with the declared columns found in them, and every required column.
    """
    names = [column.name for column in table.columns]
    found: list[tuple[int, bytes, dict[str, Any] | None]] = []
    num_bytes = 0
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        found.append((number, line, _parse(line, names)))
        num_bytes += len(line)
        if len(found) == batch_rows or num_bytes > BATCH_BYTES:
            yield _file_batch(found, table, file)
            found = []
            num_bytes = 0
    if found:
        yield _file_batch(found, table, file)
