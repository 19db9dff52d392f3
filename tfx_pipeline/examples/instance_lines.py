"""Snapshots as JSON lines: instances of the split `now`, the input of batch prediction."""

import json
from collections.abc import Mapping

import numpy as np
import pyarrow.compute as pc

from tfx_pipeline.examples import wire_format as wire
from tfx_pipeline.examples.columns import Column, NumberColumn, TextColumn
from trainer.contract.arrow import pa

_SEPARATOR = b", "
# The texts of whole numbers below this bound come from a table instead of `np.unique`.
_LARGEST_WHOLE = 10_000


def instance_lines(columns: Mapping[str, Column]) -> bytes:
    """Returns the lines that `json.dumps` would write, with null for NaN.

    Args:
      columns: Columns by name, in the order of the lines' keys, all with the same number of
        examples.

    Returns:
      The lines in UTF-8, one per example.
    """
    pieces: list[bytes | pa.Array] = []
    for name, column in columns.items():
        before = ", " if pieces else "{"
        key = f"{before}{json.dumps(name, ensure_ascii=False)}: "
        content = _joined(column)
        if column.is_single:
            pieces += [key.encode(), content]
        else:
            pieces += [f"{key}[".encode(), content, b"]"]
    lines = wire.join([*pieces, b"}\n"])
    offsets = wire.offsets_in(lines)
    if not len(lines):
        return b""
    content = lines.buffers()[2].slice(int(offsets[0]), int(offsets[-1] - offsets[0]))
    return content.to_pybytes()


def _joined(column: Column) -> pa.Array:
    """Returns the values of each example with commas between, binary [num_examples]."""
    if isinstance(column, TextColumn):
        values = column.texts.json.take(pa.array(column.codes))
    else:
        values = _numbers(column)
    if column.is_single:
        return values
    lists = pa.ListArray.from_arrays(pa.array(column.offsets.astype(np.int32)), values)
    return pc.binary_join(lists, _SEPARATOR)


def _numbers(column: NumberColumn) -> pa.Array:
    """Returns each number as JSON, NaN as null, binary [num_values]; few values are distinct."""
    values = column.values
    is_small = (values >= 0) & (values <= _LARGEST_WHOLE)
    if is_small.all() and (values == np.floor(values)).all():
        codes = values.astype(np.int64)
        distinct = np.arange(codes.max(initial=0) + 1).astype(values.dtype)
    else:
        distinct, codes = np.unique(values, return_inverse=True)
    texts = [json.dumps(None if np.isnan(value) else value).encode() for value in distinct.tolist()]
    return pa.array(texts, pa.binary()).take(pa.array(codes))
