"""A file of tags for `tagtower reindex`: read, checked row by row, and compared with saved towers.

A row names a tag with its properties or the change to it. Unusable rows are rejected with their
reason and counted, like those of the tables.
"""

import collections
import dataclasses
import json
from collections.abc import Collection, Iterable
from typing import Any

import numpy as np

from serving.servable.retagged_towers import TagChanges
from tfx_pipeline.config.data import DataConfig
from tfx_pipeline.tables import cells
from tfx_pipeline.tables.arrow_files import read_table
from tfx_pipeline.tables.inputs import limited
from tfx_pipeline.tables.line_breaks import without_line_breaks
from tfx_pipeline.tables.row_batches import FileBatch, rows_as_json
from tfx_pipeline.tables.schema import ID, LIST, NUMBER, TEXT, WRONG_TYPE, Column, TableSchema
from trainer.contract.arrow import pa
from trainer.contract.file_system import remove_file
from trainer.contract.tag_normalization import TagNormalization
from trainer.contract.whole_files import write_text

TAG_FILE = TableSchema(
    "tags",
    (
        Column("tag", ID, True, "unique in the file"),
        Column("category", TEXT, False, "category of a new tag; empty: unknown"),
        Column("vector", LIST, False, "vector of a new tag, for the view `vectors`; empty: zeros"),
        Column("weight", NUMBER, False, "factor of the popularity; 1 if absent"),
        Column("retired", NUMBER, False, "true: the tag is no longer served; false if absent"),
    ),
)
# Reasons in the order in which a row is checked, besides those of the readers.
MISSING_TAG = "missing_tag"
WEIGHT_NOT_POSITIVE = "weight_not_positive"
RETIRED_NOT_TRUE_OR_FALSE = "retired_not_true_or_false"
BAD_VECTOR = "bad_vector"
DUPLICATE_TAG = "duplicate_tag"
UNKNOWN_RETIRED = "retired_but_unknown"
UNKNOWN_TO_VIEWS = "unknown_to_views"


@dataclasses.dataclass(frozen=True)
class TagRow:
    """One usable row of a file of tags.

    Attributes:
      tag: Tag, normalised.
      category: Category of the tag, "" where unknown.
      vector: float32 [d], vector of the tag; None: there is none.
      weight: Positive factor of the tag's popularity.
      is_retired: Whether the tag is to be removed.
      place: `file`, `row` and `values` of the row, for a later rejection.
    """

    tag: str
    category: str
    vector: np.ndarray | None
    weight: float
    is_retired: bool
    place: dict[str, Any]


@dataclasses.dataclass
class TagFile:
    """The rows of a file of tags, usable and rejected.

    Attributes:
      rows: Usable rows, each with another tag.
      rejected: Rejected rows, each with its `reason`.
      named: Tags that any row names, rejected or not.
    """

    rows: list[TagRow]
    rejected: list[dict[str, Any]]
    named: set[str] = dataclasses.field(default_factory=set)

    @property
    def num_read(self) -> int:
        """Number of rows of the file."""
        return len(self.rows) + len(self.rejected)

    def set_aside(self, tags: Collection[str], reason: str) -> None:
        """Moves the rows of some tags to the rejected ones."""
        self.rejected += [_rejected(r.place, reason) for r in self.rows if r.tag in tags]
        self.rows = [row for row in self.rows if row.tag not in tags]


def read_tag_file(
    pattern: str, data: DataConfig, normalization: TagNormalization | None = None
) -> TagFile:
    """Reads a file of tags and checks its rows.

    Args:
      pattern: File, folder or glob; CSV, Parquet or JSON lines.
      data: Configuration of the normalisation of tags, and of lists in CSV files.
      normalization: Normalisation of the tags that they are compared with; None: that of `data`.

    Returns:
      The usable and the rejected rows.

    Raises:
      ValueError: The file cannot be read, or has no row or no column `tag`.
    """
    found = TagFile([], [])
    dimension: int | None = None
    for batch in read_table(pattern, limited(TAG_FILE, data)):
        found.rejected += [
            _rejected({key: row[key] for key in ("file", "row", "values")}, row["reason"])
            for row in batch.rejected.to_pylist()
        ]
        for row, reason in _judged(batch, data, normalization or data.tag_normalization):
            if not reason and row.vector is not None:
                dimension = len(row.vector) if dimension is None else dimension
                reason = BAD_VECTOR if len(row.vector) != dimension else ""
            if not reason and row.tag in found.named:
                reason = DUPLICATE_TAG
            if reason:
                found.rejected.append(_rejected(row.place, reason))
            else:
                found.rows.append(row)
            found.named.add(row.tag)
    return found


def tag_changes(file: TagFile, known: Collection[str], is_complete: bool) -> TagChanges:
    """Determines what a file changes about the tags of towers.

    Args:
      file: Rows of the file; those that retire an unknown tag are rejected.
      known: Tags of the towers.
      is_complete: Whether the file is the whole catalogue: then tags that it does not name are
        retired.

    Returns:
      The changes to the tags.
    """
    known = set(known)
    strangers = {row.tag for row in file.rows if row.is_retired and row.tag not in known}
    file.set_aside(strangers, UNKNOWN_RETIRED)
    listed = [row for row in file.rows if not row.is_retired]
    new = [row for row in listed if row.tag not in known]
    retired = {row.tag for row in file.rows if row.is_retired}
    if is_complete:
        # A rejected row is a mistake in the file, and no request to retire its tag.
        retired |= known - file.named
    return TagChanges(
        new=tuple(row.tag for row in new),
        categories=tuple(row.category for row in new),
        vectors=_stacked([row.vector for row in new]),
        retired=frozenset(retired),
        weights={row.tag: row.weight for row in listed if row.weight != 1.0},
    )


def check_rejected(file: TagFile, data: DataConfig, path: str) -> None:
    """Writes the rejected rows, and fails where they are too many.

    Args:
      file: File with its checked rows.
      data: Configuration with the threshold.
      path: JSON lines file, written where rows were rejected and removed otherwise.

    Raises:
      ValueError: Too many rows were rejected; one line, with the reasons.
    """
    remove_file(path, missing_ok=True)
    if not file.rejected:
        return
    write_text(path, (json.dumps(row, ensure_ascii=False) + "\n" for row in file.rejected))
    num_rejected = len(file.rejected)
    if num_rejected > data.max_rejected_fraction * file.num_read:
        reasons = collections.Counter(row["reason"] for row in file.rejected).most_common()
        listed = ", ".join(f"{reason}: {n}" for reason, n in reasons)
        raise ValueError(
            f"`data.max_rejected_fraction` must not be exceeded: {num_rejected} of "
            f"{file.num_read} rows of tags were rejected, {data.max_rejected_fraction:.2%} are "
            f"allowed ({listed}). They are in {path}: mend them, or raise the threshold."
        )


def _judged(
    batch: FileBatch, data: DataConfig, normalization: TagNormalization
) -> Iterable[tuple[TagRow, str]]:
    """Yields every row with the reason for its rejection, "" where there is none."""
    num_rows = batch.rows.num_rows

    def column(name: str) -> pa.Array:
        index = batch.rows.schema.get_field_index(name)
        return pa.nulls(num_rows) if index < 0 else batch.rows.column(index)

    tags, is_missing, is_wrong = cells.as_id(column("tag"))
    tags = normalization.apply(tags.to_pylist())
    categories, is_category_wrong = cells.as_text(column("category"))
    weights = cells.as_numbers(column("weight"))
    retired = cells.as_numbers(column("retired"), accept_words=True)
    vectors = _cells_of_vectors(column("vector"), data.list_notation)
    values = rows_as_json(batch.rows, np.arange(num_rows))
    for i, category in enumerate(without_line_breaks(categories).to_pylist()):
        weight = 1.0 if weights.is_missing[i] else float(weights.values[i])
        flag = 0.0 if retired.is_missing[i] else float(retired.values[i])
        vector, is_vector_bad = vectors[i]
        place = {"file": batch.file, "row": int(batch.row_numbers[i]), "values": values[i]}
        reason = ""
        if is_wrong[i] or is_category_wrong[i]:
            reason = WRONG_TYPE
        elif is_missing[i] or not tags[i]:
            reason = MISSING_TAG
        elif weights.is_invalid[i] or not 0 < weight < np.inf:
            reason = WEIGHT_NOT_POSITIVE
        elif flag not in (0.0, 1.0):
            reason = RETIRED_NOT_TRUE_OR_FALSE
        elif is_vector_bad:
            reason = BAD_VECTOR
        yield TagRow(tags[i], category, vector, weight, flag == 1.0, place), reason


def _cells_of_vectors(column: pa.Array, separator: str) -> list[tuple[np.ndarray | None, bool]]:
    """Returns each cell as float32 [d], None where it is empty; and whether it is invalid."""
    lists, is_wrong = cells.as_number_lists(column, separator=separator)
    found: list[tuple[np.ndarray | None, bool]] = []
    for cell, is_bad in zip(lists, is_wrong, strict=True):
        with np.errstate(over="ignore"):  # a value too large for 32 bits becomes infinite
            vector = np.asarray(cell.values).astype(np.float32)
        if is_bad or not np.isfinite(vector).all():
            found.append((None, True))
        else:
            found.append((vector if len(vector) else None, False))
    return found


def _stacked(vectors: list[np.ndarray | None]) -> np.ndarray | None:
    sizes = [len(vector) for vector in vectors if vector is not None]
    if not sizes:
        return None
    stacked = np.zeros((len(vectors), sizes[0]), np.float32)
    for row, vector in zip(stacked, vectors, strict=True):
        if vector is not None:
            row[:] = vector
    return stacked


def _rejected(place: dict[str, Any], reason: str) -> dict[str, Any]:
    return {"table": TAG_FILE.name, **place, "reason": reason}
