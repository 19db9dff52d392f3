"""Vectors that the user brings for the text of tags: a table, checked, -> one file of arrays.

A table with the columns `tag` and `vector`, in any format of the other tables. It is checked before
a run starts, whole: unlike an event, a vector cannot be set aside and done without unnoticed. Tags
are normalised as those of items are. `trainer.towers.tag_views` reads the file.
"""

import json
import os

import numpy as np
import pyarrow.compute as pc

from tfx_pipeline.config.data import DataConfig
from tfx_pipeline.tables import cells
from tfx_pipeline.tables.arrow_files import check_table, read_batches
from tfx_pipeline.tables.inputs import limited, tag_normalization
from tfx_pipeline.tables.row_batches import FileBatch
from tfx_pipeline.tables.schema import ID, LIST, Column, TableSchema
from trainer.contract.whole_files import WholeFile
from trainer.towers.tag_views import VECTOR_TAGS, VECTORS

VECTORS_FILE = "tag_vectors.npz"
TAG_VECTORS = TableSchema(
    "tag_vectors",
    (
        Column("tag", ID, True, "unique in the table"),
        Column("vector", LIST, True, "list of numbers, as many in every row"),
    ),
)


def tag_vectors_file(data: DataConfig, folder: str) -> str | None:
    """Reads and checks `data.tag_vectors`, and writes it as the Trainer reads it.

    Args:
      data: Where the table is, and how tags are normalised.
      folder: Where to write.

    Returns:
      Path of the file, the same bytes for the same rows in the same order; None: the user has none.

    Raises:
      ValueError: The table cannot be read, or a tag is missing or there twice, or a vector is no
        list of finite numbers or has another length than the first. The message names the row.
    """
    if data.tag_vectors is None:
        return None
    tags, vectors = read_tag_vectors(data, data.tag_vectors)
    path = os.path.join(folder, VECTORS_FILE)
    encoded = np.frombuffer(json.dumps(tags).encode(), np.uint8)
    with WholeFile(path, "wb") as file:
        np.savez(file.file, **{VECTOR_TAGS: encoded, VECTORS: vectors})
    return path


def read_tag_vectors(data: DataConfig, pattern: str) -> tuple[list[str], np.ndarray]:
    """Reads and checks a table of vectors.

    Args:
      data: How tags are normalised and lists in CSV files written.
      pattern: File, folder or glob.

    Returns:
      The tags, normalised, and float32 [num_tags, d], in the order of the rows.

    Raises:
      ValueError: As `tag_vectors_file`.
    """
    table = limited(TAG_VECTORS, data)
    rows: dict[str, str] = {}
    parts: list[np.ndarray] = []
    try:
        files = check_table(pattern, table)
    except ValueError as error:
        raise ValueError(f"`data.tag_vectors`: {error}") from error
    for path in files:
        for batch in read_batches(path, table):
            if batch.rejected.num_rows:
                first = batch.rejected.slice(0, 1).to_pylist()[0]
                raise _refusal(path, first["row"], f"be readable ({first['reason']})")
            tags, is_missing, is_wrong = cells.as_id(batch.rows.column("tag"))
            normalized = tag_normalization(data).apply(tags.to_pylist())
            is_missing |= is_wrong | np.array([not tag for tag in normalized], bool)
            _require_none(batch, is_missing, "have a tag")
            for tag, row in zip(normalized, batch.row_numbers.tolist(), strict=True):
                if tag in rows:
                    raise _refusal(path, row, f"have a tag of its own, not {tag!r} of {rows[tag]}")
                rows[tag] = f"{path}, row {row}"
            dimension = parts[0].shape[1] if parts else None
            parts.append(_vectors(batch, data.list_notation, dimension))
    return list(rows), np.concatenate(parts)


def _vectors(batch: FileBatch, list_separator: str, dimension: int | None) -> np.ndarray:
    """The vectors of a batch, float32 [num_rows, dimension]; None: the first row says how many."""
    lists, _ = cells.as_number_lists(batch.rows.column("vector"), separator=list_separator)
    lengths = np.asarray(pc.list_value_length(lists)).astype(np.int64)
    _require_none(batch, lengths == 0, "have a vector, a list of numbers")
    dimension = int(lengths[0]) if dimension is None else dimension
    _require_none(
        batch, lengths != dimension, f"have a vector of {dimension} numbers, as the first"
    )
    numbers = np.asarray(lists.flatten()).reshape(len(lists), dimension)
    with np.errstate(over="ignore"):  # what is too large for 32 bits becomes infinite
        vectors = numbers.astype(np.float32)
    _require_none(batch, ~np.isfinite(vectors).all(axis=1), "have a vector of finite numbers")
    return vectors


def _require_none(batch: FileBatch, is_wrong: np.ndarray, demand: str) -> None:
    if is_wrong.any():
        first = int(np.argmax(is_wrong))
        raise _refusal(batch.file, int(batch.row_numbers[first]), demand)


def _refusal(path: str, row: int, demand: str) -> ValueError:
    return ValueError(
        f"Every row of `data.tag_vectors` must {demand}. Row {row} of {path} does not."
    )
