"""Notes that Beam functions emit beside their main output, and the files written from them.

Counts, rejected rows and clicks of the training part travel as one collection of (kind, value): one
collection for each kind would cost every run a tenth of a second for Beam's graph.
"""

import os
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam import pvalue

from tfx_pipeline.artifacts.json_files import read_artifact_json
from tfx_pipeline.examples.log_summary import (
    ITEMS_FILE,
    TAGS_FILE,
    TrainingCounts,
    item_lines,
    sum_counts,
    tag_lines,
)
from tfx_pipeline.tables.id_forms import FormMatches, IdSample, match_samples, merge_samples
from tfx_pipeline.tables.item_catalogue import ItemCatalogue
from tfx_pipeline.tables.row_batches import count_reasons, rejected_lines
from tfx_pipeline.tables.schema import TableSchema
from trainer.contract.arrow import pa
from trainer.contract.file_system import is_file
from trainer.contract.whole_files import write_json, write_text

COUNTS_FILE = "counts.json"
REJECTED_FILE = "rows-00000-of-00001.jsonl"
FORMS_FILE = "id_forms.json"  # keys of the report; written only where ids differ in form
# Tag of the notes among a Beam function's outputs.
NOTES = "notes"
_COUNT, _REJECTED, _CLICKS, _FORMS = "count", "rejected", "clicks", "forms"
_USERS, _ITEMS = "users", "items"


def count(name: str, number: int, *, is_zero_noted: bool = False) -> Iterator[pvalue.TaggedOutput]:
    """Notes a count; a count of 0 is left out unless `is_zero_noted`."""
    if number or is_zero_noted:
        yield pvalue.TaggedOutput(NOTES, (_COUNT, (name, number)))


def row_counts(
    table: TableSchema, num_read: int, rejected: pa.RecordBatch
) -> Iterator[pvalue.TaggedOutput]:
    """Notes the number of rows read, and the rejected rows with their counts by reason.

    Args:
      table: Table of the rows.
      num_read: Number of rows read, including rejected ones.
      rejected: Rejected rows, `REJECTED_SCHEMA`.

    Yields:
      Counts, and one note with the rejected rows.
    """
    yield from count(f"rows.read.{table.name}", num_read)
    if not rejected.num_rows:
        return
    for reason, number in count_reasons(rejected).items():
        yield from count(f"rows.rejected.{reason}", number)
        yield from count(f"rows.rejected_of.{table.name}.{reason}", number)
    yield from count(f"rows.rejected_of.{table.name}", rejected.num_rows)
    # One note for all rejected rows: a catalogue with many items without tags has many of them.
    yield pvalue.TaggedOutput(NOTES, (_REJECTED, "".join(rejected_lines(rejected))))


def clicks(counts: TrainingCounts) -> Iterator[pvalue.TaggedOutput]:
    """Notes the clicks and impressions of a shard."""
    yield pvalue.TaggedOutput(NOTES, (_CLICKS, counts))


def user_forms(log: IdSample, table: IdSample) -> pvalue.TaggedOutput:
    """Notes samples of a shard's ids: of users who have events only, and of the users table."""
    return pvalue.TaggedOutput(NOTES, (_FORMS, (_USERS, (log, table))))


def item_forms(matches: FormMatches) -> pvalue.TaggedOutput:
    """Notes interactions whose item has an id of another form in the items table."""
    return pvalue.TaggedOutput(NOTES, (_FORMS, (_ITEMS, matches)))


class WriteNotes(beam.DoFn):
    """Beam function that sums all notes of one kind and writes their files."""

    def __init__(self, summary: str, rejected: str):
        """Initializes with the folders to write to.

        Args:
          summary: Folder of `counts.json`, `tags.jsonl`, `items.jsonl` and, where ids differ in
            form, `id_forms.json`.
          rejected: Folder of the rejected rows; not written where there are none.
        """
        self.summary = summary
        self.rejected = rejected

    def process(self, notes: tuple[str, Iterable[Any]], catalogue: ItemCatalogue) -> None:
        """Sums the notes of one kind and writes their files."""
        kind, values = notes
        if kind == _COUNT:
            counts: dict[str, int] = {}
            for name, number in values:
                counts[name] = counts.get(name, 0) + number
            write_json(os.path.join(self.summary, COUNTS_FILE), counts)
        elif kind == _REJECTED:
            write_text(os.path.join(self.rejected, REJECTED_FILE), values)
        elif kind == _FORMS:
            forms = _sum_forms(values)
            if forms:
                path = os.path.join(self.summary, FORMS_FILE)
                write_json(path, forms, ensure_ascii=False, sort_keys=False)
        else:
            total = sum_counts([])
            for part in values:
                total = sum_counts([total, part])
            write_text(os.path.join(self.summary, TAGS_FILE), tag_lines(total, catalogue))
            write_text(os.path.join(self.summary, ITEMS_FILE), item_lines(total, catalogue))


def read_summary(folder: str) -> tuple[dict[str, int], dict[str, Any]]:
    """Reads the counts and the keys for ids that differ in form, as a run noted them.

    Args:
      folder: Folder of the summary.

    Returns:
      The counts, and the report's keys for ids that differ in form; each is empty without its file.
    """
    found: list[dict[str, Any]] = []
    for name in (COUNTS_FILE, FORMS_FILE):
        path = os.path.join(folder, name)
        if is_file(path):
            found.append(read_artifact_json(path))
        else:
            found.append({})
    return found[0], found[1]


def _sum_forms(notes: Iterable[tuple[str, Any]]) -> dict[str, int | str]:
    """Returns the report's keys for ids that differ in form; empty where none does."""
    logs, tables = [], []
    items: list[FormMatches] = []
    for kind, value in notes:
        if kind == _USERS:
            logs.append(value[0])
            tables.append(value[1])
        else:
            items.append(value)
    found = {_USERS: match_samples(merge_samples(logs), merge_samples(tables))}
    if items:
        first = min(items, key=lambda matches: matches[1:])
        found[_ITEMS] = first._replace(num=sum(matches.num for matches in items))
    return {
        f"id_forms.{name}.{key}": value
        for name, matches in found.items()
        if matches is not None
        for key, value in matches._asdict().items()
    }
