"""Counts and rejected rows as tagged outputs of Beam functions."""

import json
from collections.abc import Iterator

import pyarrow as pa
from apache_beam import pvalue

from tfx_pipeline.tables.row_batches import count_reasons
from tfx_pipeline.tables.schema import TableSchema

REJECTED, COUNTS = "rejected", "counts"


def count(name: str, number: int) -> Iterator[pvalue.TaggedOutput]:
    """One count; a count of 0 has no key."""
    if number:
        yield pvalue.TaggedOutput(COUNTS, (name, number))


def row_counts(
    table: TableSchema, num_read: int, rejected: pa.RecordBatch
) -> Iterator[pvalue.TaggedOutput]:
    """Rows read, and the rejected ones with their counts.

    Args:
      table: Where they are from.
      num_read: Rows read, the rejected ones included.
      rejected: `REJECTED_SCHEMA`.

    Yields:
      Outputs tagged `COUNTS` (name and number) and `REJECTED` (JSON).
    """
    yield from count(f"rows.read.{table.name}", num_read)
    if not rejected.num_rows:
        return
    for reason, number in count_reasons(rejected).items():
        yield from count(f"rows.rejected.{reason}", number)
    yield from count(f"rows.rejected_of.{table.name}", rejected.num_rows)
    for row in rejected.to_pylist():
        yield pvalue.TaggedOutput(REJECTED, json.dumps(row, ensure_ascii=False))
