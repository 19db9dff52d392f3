"""What Beam functions note beside their output, and the files that are written of it.

Counts, rejected rows and clicks of the training part travel as one collection of (kind, value):
a collection of its own for each would cost every run a tenth of a second for Beam's graph.
"""

import json
import os
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam import pvalue

from tfx_pipeline.log_summary import (
    ITEMS_FILE,
    TAGS_FILE,
    TrainingCounts,
    item_lines,
    sum_counts,
    tag_lines,
)
from tfx_pipeline.renamed_file import write_text
from tfx_pipeline.tables.item_catalogue import ItemCatalogue
from tfx_pipeline.tables.row_batches import count_reasons
from tfx_pipeline.tables.schema import TableSchema

COUNTS_FILE = "counts.json"
REJECTED_FILE = "rows-00000-of-00001.jsonl"
# Tag of the output.
NOTES = "notes"
_COUNT, _REJECTED, _CLICKS = "count", "rejected", "clicks"


def count(name: str, number: int, *, is_zero_noted: bool = False) -> Iterator[pvalue.TaggedOutput]:
    """Notes a count; a count of 0 has no key, unless it is asked for."""
    if number or is_zero_noted:
        yield pvalue.TaggedOutput(NOTES, (_COUNT, (name, number)))


def row_counts(
    table: TableSchema, num_read: int, rejected: pa.RecordBatch
) -> Iterator[pvalue.TaggedOutput]:
    """Notes rows read, and the rejected ones with their counts.

    Args:
      table: Where they are from.
      num_read: Rows read, the rejected ones included.
      rejected: `REJECTED_SCHEMA`.

    Yields:
      The notes.
    """
    yield from count(f"rows.read.{table.name}", num_read)
    if not rejected.num_rows:
        return
    for reason, number in count_reasons(rejected).items():
        yield from count(f"rows.rejected.{reason}", number)
    yield from count(f"rows.rejected_of.{table.name}", rejected.num_rows)
    for row in rejected.to_pylist():
        line = json.dumps(row, ensure_ascii=False) + "\n"
        yield pvalue.TaggedOutput(NOTES, (_REJECTED, line))


def clicks(counts: TrainingCounts) -> Iterator[pvalue.TaggedOutput]:
    """Notes clicks and impressions of a shard."""
    yield pvalue.TaggedOutput(NOTES, (_CLICKS, counts))


class WriteNotes(beam.DoFn):
    """All notes of one kind -> their files."""

    def __init__(self, summary: str, rejected: str):
        """Initializes with folders.

        Args:
          summary: Of `counts.json`, `tags.jsonl` and `items.jsonl`.
          rejected: Of the rows set aside; left alone where there are none.
        """
        self.summary = summary
        self.rejected = rejected

    def process(self, notes: tuple[str, Iterable[Any]], catalogue: ItemCatalogue) -> None:
        """Sums and writes."""
        kind, values = notes
        if kind == _COUNT:
            counts: dict[str, int] = {}
            for name, number in values:
                counts[name] = counts.get(name, 0) + number
            text = json.dumps(dict(sorted(counts.items())), indent=1) + "\n"
            write_text(os.path.join(self.summary, COUNTS_FILE), [text])
        elif kind == _REJECTED:
            write_text(os.path.join(self.rejected, REJECTED_FILE), values)
        else:
            total = sum_counts([])
            for part in values:
                total = sum_counts([total, part])
            write_text(os.path.join(self.summary, TAGS_FILE), tag_lines(total, catalogue))
            write_text(os.path.join(self.summary, ITEMS_FILE), item_lines(total, catalogue))
