"""The items table in compact memory, with which workers turn items into their values.

It is the one table that is held whole: some 50 bytes per item and tag, so ten million items are a
few hundred megabytes. It can be pickled, and it depends only on the set of item rows, not on their
order.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np
import pyarrow.compute as pc

from tfx_pipeline.tables import schema
from tfx_pipeline.tables.row_batches import (
    ValidatedBatch,
    concat_rejected,
    count_reasons,
    rejected_rows,
    rows_as_json,
)
from trainer.contract.arrow import pa

ATTRIBUTES = ("tags", "category", "item_id")

# Longest excerpt of a bad row in a message.
_SHOWN_CHARACTERS = 200


@dataclasses.dataclass(frozen=True)
class ItemAttribute:
    """The values of one attribute for every item, dictionary-encoded in CSR form.

    Item i has the values `vocabulary[codes[offsets[i]:offsets[i + 1]]]`, in ascending order.

    Attributes:
      codes: int32 [num_values], positions in `vocabulary`.
      offsets: int64 [num_items + 1], bounds of each item's values in `codes`.
      vocabulary: string array [num_distinct], unique, in code point order, never "".
    """

    codes: np.ndarray
    offsets: np.ndarray
    vocabulary: pa.Array

    def values_of(self, item: int) -> list[str]:
        """Returns the values of one item."""
        codes = self.codes[self.offsets[item] : self.offsets[item + 1]]
        return self.vocabulary.take(pa.array(codes)).to_pylist()


@dataclasses.dataclass(frozen=True)
class ItemCatalogue:
    """All items, in code point order of their ids.

    Attributes:
      item_ids: string array [num_items], unique and sorted.
      tags: Tags of the items, at least one for each item.
      category: Category of the items, at most one value each; none where it is unknown.
      untagged_ids: string array, unique and sorted: ids of items that have a row but no tags. These
        items are not in the catalogue.
    """

    item_ids: pa.Array
    tags: ItemAttribute
    category: ItemAttribute
    untagged_ids: pa.Array = dataclasses.field(default_factory=lambda: pa.array([], pa.string()))

    def __len__(self) -> int:
        """Returns the number of items."""
        return len(self.item_ids)

    @property
    def item_id(self) -> ItemAttribute:
        """The item's own id as an attribute, whose codes are the positions of the items."""
        n = len(self.item_ids)
        return ItemAttribute(
            np.arange(n, dtype=np.int32), np.arange(n + 1, dtype=np.int64), self.item_ids
        )

    def attribute(self, name: str) -> ItemAttribute:
        """Returns the attribute that a behaviour domain uses.

        Args:
          name: Name of the attribute: `tags`, `category` or `item_id`.

        Returns:
          The attribute of all items.

        Raises:
          ValueError: There is no attribute of that name.
        """
        if name not in ATTRIBUTES:
            raise ValueError(
                f"`attribute` must be one of {', '.join(ATTRIBUTES)}. Received: attribute={name!r}."
            )
        attribute: ItemAttribute = getattr(self, name)
        return attribute

    def index_of(self, ids: pa.Array) -> np.ndarray:
        """Returns the positions of items by id.

        Args:
          ids: string array [n], ids of items.

        Returns:
          int32 [n], positions, -1 where the catalogue has no such item.
        """
        return np.asarray(pc.index_in(ids, value_set=self.item_ids).fill_null(-1))

    def is_untagged(self, ids: pa.Array) -> np.ndarray:
        """Returns which of these items have a row but no tags, bool [n]."""
        return np.asarray(pc.is_in(ids, value_set=self.untagged_ids), dtype=bool)


def _encode(values: pa.Array, lengths: np.ndarray) -> ItemAttribute:
    """Encodes values [num_values] in CSR form, with lengths [num_items] of each item's values."""
    vocabulary = values.unique()
    vocabulary = vocabulary.take(pc.sort_indices(vocabulary))
    codes = np.asarray(pc.index_in(values, value_set=vocabulary)).astype(np.int32)
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    parents = np.repeat(np.arange(len(lengths)), lengths)
    return ItemAttribute(codes[np.lexsort((codes, parents))], offsets, vocabulary)


def _first_of_each(rows: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Returns the indices of the rows kept, sorted by the item's id, and those of repeated ids.

    Of several rows with one id the one with the smallest values is kept, so that the order of rows
    in the files does not decide.
    """
    order = np.asarray(pc.sort_indices(rows, sort_keys=[("item_id", "ascending")]))
    keys = rows.column("item_id").combine_chunks().take(pa.array(order))
    is_new = np.ones(len(keys), bool)
    is_new[1:] = np.asarray(pc.not_equal(keys[1:], keys[:-1]), dtype=bool)
    starts = np.flatnonzero(is_new)
    lengths = np.diff(np.append(starts, len(keys)))
    order = order.copy()
    for start, length in zip(starts[lengths > 1], lengths[lengths > 1], strict=True):
        group = order[start : start + length]
        values = rows.take(pa.array(group)).to_pylist()
        # Lists are compared sorted, because the catalogue keeps sets and not orders.
        contents = [
            [sorted(v) if isinstance(v, list) else v or "" for v in row.values()] for row in values
        ]
        order[start : start + length] = group[sorted(range(length), key=contents.__getitem__)]
    is_first = np.zeros(len(order), bool)
    is_first[starts] = True
    return order[is_first], order[~is_first]


def _reject_duplicates(batches: list[ValidatedBatch]) -> tuple[pa.Table, pa.RecordBatch]:
    """Rejects the repeated items of all batches, whatever the order of their rows.

    Args:
      batches: All validated batches of the table.

    Returns:
      The rows with each id once, sorted by id; and all rejected rows (`REJECTED_SCHEMA`): those of
      the batches and the repeated ones with the reason `duplicate_item`.
    """
    names: list[str] = []
    for batch in batches:
        names += [name for name in batch.rows.schema.names if name not in names]
    parts = []
    for batch in batches:
        part = pa.Table.from_batches([batch.rows])
        for name in names:
            if name not in part.column_names:
                part = part.append_column(name, pa.array([""] * len(part), pa.string()))
        parts.append(part.select(names))
    rejected = [batch.rejected for batch in batches]
    if not parts:
        return pa.table({}), concat_rejected(rejected)
    rows = pa.concat_tables(parts).combine_chunks()
    kept, repeated = _first_of_each(rows)
    if len(repeated):
        ends = np.cumsum([batch.rows.num_rows for batch in batches])
        origins = np.searchsorted(ends, repeated, side="right")
        for origin in np.unique(origins):
            batch = batches[origin]
            local = repeated[origins == origin] - (ends[origin] - batch.rows.num_rows)
            rejected.append(
                rejected_rows(
                    schema.ITEMS.name,
                    batch.file,
                    batch.row_numbers[local],
                    [schema.DUPLICATE_ITEM] * len(local),
                    rows_as_json(batch.rows, local),
                )
            )
    return rows.take(pa.array(kept)), concat_rejected(rejected)


def build_item_catalogue(
    batches: Iterable[ValidatedBatch],
) -> tuple[ItemCatalogue, pa.RecordBatch]:
    """Builds the catalogue of all items.

    Args:
      batches: All batches of the table from `validate_items`.

    Returns:
      The catalogue, and all rejected rows (`REJECTED_SCHEMA`): those of the batches, and all but
      one row of each repeated id (`duplicate_item`). An item with one row with tags and one without
      is an item with tags.

    Raises:
      ValueError: No row is valid; the one-line message has the reasons and the first of the rows.
    """
    batches = list(batches)
    rows, rejected = _reject_duplicates(batches)
    if not len(rows):
        raise ValueError(_no_item(rejected))
    columns = {name: rows.column(name).combine_chunks() for name in rows.column_names}
    tags = columns["tags"]
    category = columns["category"]
    is_known = pc.not_equal(category, "")
    return (
        ItemCatalogue(
            columns["item_id"],
            _encode(tags.flatten(), np.asarray(pc.list_value_length(tags))),
            _encode(category.filter(is_known), np.asarray(is_known).astype(np.int64)),
            _untagged(batches, columns["item_id"]),
        ),
        rejected,
    )


def _untagged(batches: Iterable[ValidatedBatch], item_ids: pa.Array) -> pa.Array:
    """Returns the ids of items of which no row has tags, unique and sorted."""
    aside = [batch.items_aside for batch in batches if batch.items_aside is not None]
    found = pa.chunked_array([*aside, pa.array([], pa.string())]).combine_chunks().unique()
    found = found.filter(pc.invert(pc.is_in(found, value_set=item_ids)))
    return found.take(pc.sort_indices(found))


def _no_item(rejected: pa.RecordBatch) -> str:
    """Returns the message for a table without a valid row, whose rows are saved nowhere else."""
    if not rejected.num_rows:
        return "`data.items` must have items with tags. Received: no row."
    reasons = sorted(count_reasons(rejected).items(), key=lambda reason: (-reason[1], reason[0]))
    listed = ", ".join(f"{reason}: {number}" for reason, number in reasons)
    first = rejected.slice(0, 1).to_pylist()[0]
    return (
        f"`data.items` must have items with tags. Received: {rejected.num_rows} rows, none of them "
        f"usable ({listed}); the first is row {first['row']} of {first['file']}: "
        f"{first['values'][:_SHOWN_CHARACTERS]}"
    )
