"""Vectors that the user supplies for the text of tags: a validated table, written as arrays.

The table has the columns `tag` and `vector`, in any format of the other tables. It is validated as
a whole before a run starts: unlike an event, a vector cannot be rejected without consequences. Tags
are normalised like those of items. `trainer.towers.tag_views` reads the file.
"""

import json
import os

import numpy as np
import pyarrow.compute as pc

from tfx_pipeline.config.data import DataConfig
from tfx_pipeline.tables import cells
from tfx_pipeline.tables.arrow_files import check_table, read_batches
from tfx_pipeline.tables.inputs import limited
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
    """Reads and checks `data.tag_vectors`, and writes the file that the Trainer reads.

    Args:
      data: Configuration of the table, and of the normalisation of tags.
      folder: Folder to write to.

    Returns:
      Path of the file, with the same bytes for the same rows in the same order; None: no table is
      configured.

    Raises:
      ValueError: The table cannot be read, or a tag is missing or repeated, or a vector is no list
        of finite numbers or has another length than the first. The message names the row.
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
    """Reads and checks a table of tag vectors.

    Args:
      data: Configuration of the normalisation of tags, and of the notation of lists in CSV files.
      pattern: File, folder or glob of the table.

    Returns:
      The tags, normalised, and float32 [num_tags, d], their vectors, in the order of the rows.

    Raises:
      ValueError: The table is refused for a reason that `tag_vectors_file` lists.
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
            normalized = data.tag_normalization.apply(tags.to_pylist())
            is_missing |= is_wrong | np.array([not tag for tag in normalized], bool)
            _require_none(batch, is_missing, "have a tag")
            for tag, row in zip(normalized, batch.row_numbers.tolist(), strict=True):
                if tag in rows:
                    raise _refusal(
                        path, row, f"have a tag that no other row has, not {tag!r} of {rows[tag]}"
                    )
                rows[tag] = f"{path}, row {row}"
            dimension = parts[0].shape[1] if parts else None
            parts.append(_vectors(batch, data.list_notation, dimension))
    return list(rows), np.concatenate(parts)


def _vectors(batch: FileBatch, list_separator: str, dimension: int | None) -> np.ndarray:
    """Returns a batch's vectors, float32 [num_rows, dimension]; None: the first row's length."""
    lists, _ = cells.as_number_lists(batch.rows.column("vector"), separator=list_separator)
    lengths = np.asarray(pc.list_value_length(lists)).astype(np.int64)
    _require_none(batch, lengths == 0, "have a vector, a list of numbers")
    dimension = int(lengths[0]) if dimension is None else dimension
    _require_none(
        batch, lengths != dimension, f"have a vector of {dimension} numbers, as the first row has"
    )
    numbers = np.asarray(lists.flatten()).reshape(len(lists), dimension)
    with np.errstate(over="ignore"):  # a value too large for 32 bits becomes infinite
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
