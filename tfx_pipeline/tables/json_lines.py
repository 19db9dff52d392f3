"""JSON lines -> Arrow batches, a line at fault set aside rather than the file.

Not `pyarrow.json`: there one malformed line, or one cell of another type, fails the whole file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from tfx_pipeline.tables import schema
from tfx_pipeline.tables.list_notation import JSON, PYTHON, parse_list
from tfx_pipeline.tables.row_batches import FileBatch, rejected_rows

_ROWS_FOR_COLUMNS = 100


def _parse(line: bytes) -> dict[str, Any] | None:
    """The object in a line, None where there is none."""
    try:
        value = json.loads(line)
        if not isinstance(value, dict):
            return None
        if b"\\ud" in line or b"\\uD" in line:
            # Half a surrogate pair parses, and then cannot be written as UTF-8 anywhere.
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        return value
    except (ValueError, RecursionError):
        return None


def first_columns(stream: BinaryIO) -> list[str]:
    """Keys of the first well-formed lines of the file, in the order of their appearance."""
    names: dict[str, None] = {}
    num_rows = 0
    for line in stream:
        row = _parse(line) if line.strip() else None
        if row is not None:
            names.update(dict.fromkeys(row))
            num_rows += 1
        if num_rows == _ROWS_FOR_COLUMNS:
            break
    return list(names)


def _scalar_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value)


def _list_of_texts(value: Any, list_separator: str) -> list[str | None] | None:
    if value is None:
        return None
    if isinstance(value, str):
        return list(value.split(list_separator))
    return [_scalar_text(each) for each in value]


def _is_scalar(value: Any) -> bool:
    return not isinstance(value, (list, dict))


def _fits(value: Any, kind: str | None) -> bool:
    """Whether a JSON value can be in a column of the kind."""
    if kind is None:
        return True
    if kind != schema.LIST:
        return _is_scalar(value)
    if isinstance(value, list):
        return all(_is_scalar(each) for each in value)
    return value is None or isinstance(value, str)


def _is_usable(kind: str | None, found: pa.DataType) -> bool:
    """Whether Arrow's type for a whole column needs no look at its cells."""
    if pa.types.is_null(found) or kind is None:
        return True
    if kind == schema.LIST:
        if pa.types.is_list(found):
            return not pa.types.is_nested(found.value_type)
        return pa.types.is_string(found)
    return not pa.types.is_nested(found)


def _typed_column(values: list[Any], kind: str | None) -> pa.Array | None:
    """A column with the type that Arrow infers; None where its cells need a look each."""
    try:
        column = pa.array(values)
    except (pa.ArrowException, OverflowError):
        return None
    return column if _is_usable(kind, column.type) else None


def _text_column(values: list[Any], kind: str | None, list_separator: str) -> pa.Array:
    """A column of cells of mixed types, each kept as its text."""
    if kind is None:
        texts = [None if v is None else json.dumps(v, ensure_ascii=False) for v in values]
        return pa.array(texts, pa.string())
    if kind == schema.LIST:
        lists = [_list_of_texts(value, list_separator) for value in values]
        return pa.array(lists, pa.list_(pa.string()))
    return pa.array([_scalar_text(value) for value in values], pa.string())


def _columns(
    rows: list[dict[str, Any]], table: schema.TableSchema
) -> dict[str, tuple[list[Any], pa.Array | None]]:
    names: dict[str, None] = dict.fromkeys(table.required_columns)
    for row in rows:
        names.update(dict.fromkeys(row))
    columns = {}
    for name in names:
        values = [row.get(name) for row in rows]
        columns[name] = (values, _typed_column(values, table.kind_of(name)))
    return columns


def _file_batch(
    found: list[tuple[int, bytes, dict[str, Any] | None]],
    table: schema.TableSchema,
    file: str,
    list_separator: str,
) -> FileBatch:
    bad = [
        (number, schema.MALFORMED_ROW, _line_as_json(line))
        for number, line, row in found
        if row is None
    ]
    good = [(number, row) for number, _, row in found if row is not None]
    if list_separator in (JSON, PYTHON):
        # Texts become lists before anything depends on their neighbours.
        read = [(number, row, _with_lists(row, table, list_separator)) for number, row in good]
        good = [(number, lists) for number, _, lists in read if lists is not None]
        bad += [
            (number, schema.MALFORMED_LIST, json.dumps(row, ensure_ascii=False))
            for number, row, lists in read
            if lists is None
        ]
    columns = _columns([row for _, row in good], table)
    if any(column is None for _, column in columns.values()):
        # Rare, so only now cell by cell: what fits nowhere is rejected, the rest becomes text.
        fitting = []
        for number, row in good:
            if all(_fits(value, table.kind_of(name)) for name, value in row.items()):
                fitting.append((number, row))
            else:
                bad.append((number, schema.WRONG_TYPE, json.dumps(row, ensure_ascii=False)))
        good = fitting
        columns = _columns([row for _, row in good], table)
    arrays = [
        _text_column(values, table.kind_of(name), list_separator) if column is None else column
        for name, (values, column) in columns.items()
    ]
    bad.sort()
    return FileBatch(
        table.name,
        file,
        pa.RecordBatch.from_arrays(arrays, names=list(columns)),
        np.array([number for number, _ in good], np.int64),
        rejected_rows(
            table.name, file, [b[0] for b in bad], [b[1] for b in bad], [b[2] for b in bad]
        ),
    )


def _with_lists(
    row: dict[str, Any], table: schema.TableSchema, notation: str
) -> dict[str, Any] | None:
    """A row whose texts are lists where a list belongs; None: one is no list in the notation."""
    lists = {
        name: parse_list(value, notation)
        for name, value in row.items()
        if isinstance(value, str) and table.kind_of(name) == schema.LIST
    }
    return None if None in lists.values() else {**row, **lists}


def _line_as_json(line: bytes) -> str:
    return json.dumps(line.decode("utf-8", "replace").strip(), ensure_ascii=False)


def read_json_lines(
    stream: BinaryIO,
    *,
    table: schema.TableSchema,
    file: str,
    batch_rows: int,
    list_separator: str,
) -> Iterator[FileBatch]:
    """Reads a file with one JSON object a line; blank lines are passed over.

    A line that is no JSON object is rejected with the reason `malformed_row`, one with a list or
    an object where a single value belongs with `wrong_type`.

    Args:
      stream: the file from its beginning.
      table: whose columns say where a list belongs.
      file: path for messages.
      batch_rows: largest number of lines in a batch.
      list_separator: what separates the values of a list that comes as one string.

    Yields:
      Batches with the keys found in them as columns, and every required column.
    """
    found: list[tuple[int, bytes, dict[str, Any] | None]] = []
    for number, line in enumerate(stream, start=1):
        if not line.strip():
            continue
        found.append((number, line, _parse(line)))
        if len(found) == batch_rows:
            yield _file_batch(found, table, file, list_separator)
            found = []
    if found:
        yield _file_batch(found, table, file, list_separator)
