"""Validates rows as found: canonical columns for valid rows, and a reason for each rejected row.

Every row is returned exactly once, valid or rejected. A row with several faults has the reason that
comes first in the list of its `validate_*` function. One batch cannot detect repeated rows: see
`build_item_catalogue`, and for users and interactions the grouping by user.
"""

from __future__ import annotations

import numpy as np

from tagtower_client.event_times import LAST_SECOND
from tfx_pipeline.tables import schema
from tfx_pipeline.tables.cells import (
    as_id,
    as_lists,
    as_numbers,
    as_text,
)
from tfx_pipeline.tables.item_catalogue import ItemCatalogue
from tfx_pipeline.tables.line_breaks import without_line_breaks
from tfx_pipeline.tables.list_notation import JSON
from tfx_pipeline.tables.row_batches import (
    FileBatch,
    ValidatedBatch,
    concat_rejected,
    rejected_rows,
    rows_as_json,
)
from tfx_pipeline.tables.times import as_seconds
from trainer.contract.arrow import pa
from trainer.contract.tag_normalization import TagNormalization

INTERACTION_ROWS = pa.schema(
    [
        pa.field("user_id", pa.string()),
        pa.field("item_id", pa.string()),
        pa.field("item_index", pa.int32()),
        pa.field("timestamp", pa.int64()),
        pa.field("clicked", pa.int8()),
        pa.field("weight", pa.float32()),
    ]
)


# Normalisation of lists of profile features: only what is also applied to a live caller's values.
_AS_WRITTEN = TagNormalization(trim=True, lowercase=False, nfc=False)


class _Verdicts:
    """The reason of each row of a batch; the first one given is kept."""

    def __init__(self, num_rows: int) -> None:
        self._codes = np.zeros(num_rows, np.int8)

    def reject(self, is_bad: np.ndarray, reason: str) -> None:
        code = schema.REJECT_REASONS.index(reason) + 1
        self._codes[is_bad & (self._codes == 0)] = code

    def ids_with(self, reason: str, ids: pa.Array) -> pa.Array | None:
        is_wanted = self._codes == schema.REJECT_REASONS.index(reason) + 1
        return ids.filter(pa.array(is_wanted)) if is_wanted.any() else None

    def split(
        self, batch: FileBatch, rows: pa.RecordBatch, items_aside: pa.Array | None = None
    ) -> ValidatedBatch:
        bad = np.flatnonzero(self._codes)
        if not len(bad):
            return ValidatedBatch(rows, batch.rejected, batch.file, batch.row_numbers)
        reasons = [schema.REJECT_REASONS[code - 1] for code in self._codes[bad]]
        values = rows_as_json(batch.rows, bad)
        rejected = rejected_rows(batch.table, batch.file, batch.row_numbers[bad], reasons, values)
        is_good = self._codes == 0
        return ValidatedBatch(
            rows.filter(pa.array(is_good)),
            concat_rejected([batch.rejected, rejected]),
            batch.file,
            batch.row_numbers[is_good],
            items_aside,
        )


def _optional(rows: pa.RecordBatch, name: str) -> pa.Array | None:
    index = rows.schema.get_field_index(name)
    return None if index < 0 else rows.column(index)


def _float32(column: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """Returns numbers as float32, null where missing; and bool [n], whether a cell is invalid."""
    numbers = as_numbers(column)
    # A finite float64 may not be a finite float32, which is the stored type.
    is_too_large = np.abs(numbers.values) > np.finfo(np.float32).max
    values = np.where(is_too_large, np.nan, numbers.values).astype(np.float32)
    return pa.array(values, from_pandas=True), numbers.is_invalid | is_too_large


def validate_interactions(
    batch: FileBatch, *, now: int, item_index: ItemCatalogue | None = None
) -> ValidatedBatch:
    """Validates rows of `interactions`.

    Reasons, in this order: missing_user_id, missing_item_id, wrong_type (of an id),
    unparsable_timestamp, timestamp_in_future, timestamp_not_positive, clicked_not_0_or_1,
    wrong_type (a weight that is no number or negative), untagged_item (its item has no tags),
    unknown_item.

    Args:
      batch: Rows as found.
      now: Time in seconds since 1970; later times are in the future. One run uses one value.
      item_index: Catalogue of the known items; None: items are not checked.

    Returns:
      Rows with the columns `INTERACTION_ROWS`: `item_index` is the position in the catalogue (-1
      without one), `weight` is 1 where absent or null.
    """
    rows = batch.rows
    verdicts = _Verdicts(rows.num_rows)
    user_ids, is_user_missing, is_user_wrong = as_id(rows.column("user_id"))
    item_ids, is_item_missing, is_item_wrong = as_id(rows.column("item_id"))
    item_ids = without_line_breaks(item_ids)
    verdicts.reject(is_user_missing, schema.MISSING_USER_ID)
    verdicts.reject(is_item_missing, schema.MISSING_ITEM_ID)
    verdicts.reject(is_user_wrong | is_item_wrong, schema.WRONG_TYPE)

    seconds = as_seconds(rows.column("timestamp"))
    verdicts.reject(seconds.is_missing | seconds.is_invalid, schema.UNPARSABLE_TIMESTAMP)
    timestamps = np.nan_to_num(seconds.values)
    verdicts.reject(timestamps > now, schema.TIMESTAMP_IN_FUTURE)
    verdicts.reject(timestamps <= 0, schema.TIMESTAMP_NOT_POSITIVE)

    clicked = as_numbers(rows.column("clicked"), accept_words=True).values
    verdicts.reject(~np.isin(clicked, (0.0, 1.0)), schema.CLICKED_NOT_0_OR_1)

    weights = _judged_weights(rows, verdicts)
    positions = _judged_positions(item_ids, item_index, verdicts)
    with np.errstate(invalid="ignore", over="ignore"):
        # Cells of rejected rows may overflow here; `split` drops them.
        canonical = pa.RecordBatch.from_arrays(
            [
                user_ids,
                item_ids,
                pa.array(positions.astype(np.int32)),
                pa.array(np.clip(timestamps, -1, LAST_SECOND).astype(np.int64)),
                pa.array((clicked == 1).astype(np.int8)),
                pa.array(weights.astype(np.float32)),
            ],
            schema=INTERACTION_ROWS,
        )
    return verdicts.split(batch, canonical, verdicts.ids_with(schema.UNKNOWN_ITEM, item_ids))


def _judged_weights(rows: pa.RecordBatch, verdicts: _Verdicts) -> np.ndarray:
    """The weights of interactions, float64 [n], 1 where there is none; rejects what is none."""
    found = _optional(rows, "weight")
    if found is None:
        return np.ones(rows.num_rows, np.float64)
    numbers = as_numbers(found)
    verdicts.reject(numbers.is_invalid | (numbers.values < 0), schema.WRONG_TYPE)
    # A finite float64 may not be a finite float32, which is what is kept.
    verdicts.reject(numbers.values > np.finfo(np.float32).max, schema.WRONG_TYPE)
    return np.where(np.isnan(numbers.values), 1.0, numbers.values)


def _judged_positions(
    item_ids: pa.Array, item_index: ItemCatalogue | None, verdicts: _Verdicts
) -> np.ndarray:
    """Where items are in the catalogue, int [n], -1 without one; rejects those it does not have."""
    if item_index is None:
        return np.full(len(item_ids), -1, np.int32)
    positions = item_index.index_of(item_ids)
    is_unknown = positions < 0
    if is_unknown.any():
        verdicts.reject(is_unknown & item_index.is_untagged(item_ids), schema.UNTAGGED_ITEM)
        verdicts.reject(is_unknown, schema.UNKNOWN_ITEM)
    return positions


def validate_items(
    batch: FileBatch,
    *,
    normalization: TagNormalization | None = None,
    list_separator: str = "|",
) -> ValidatedBatch:
    """Validates rows of `items`.

    Reasons, in this order: missing_item_id, wrong_type (an id, tags, category or title of another
    type), malformed_list (tags that are no list in the declared notation), no_tags (after
    normalisation). For repeated ids see `build_item_catalogue`.

    Args:
      batch: Rows as found.
      normalization: Normalisation of tags; None: `TagNormalization()`.
      list_separator: Separator of tags that are one string (CSV), or a notation of `list_notation`.

    Returns:
      Rows with `item_id` string, `tags` list of strings (unique, none empty), `category` string (""
      where unknown, or where the file has no such column), each value of one line, and `title`
      string where the file has it; `items_aside` has the ids of the items without tags.
    """
    rows = batch.rows
    verdicts = _Verdicts(rows.num_rows)
    item_ids, is_missing, is_wrong = as_id(rows.column("item_id"))
    item_ids = without_line_breaks(item_ids)
    tags, is_tags_wrong, is_malformed = as_lists(
        rows.column("tags"),
        separator=list_separator,
        normalization=normalization or TagNormalization(),
    )
    columns = {
        "item_id": item_ids,
        "tags": tags,
        "category": pa.array([""] * rows.num_rows, pa.string()),
    }
    is_wrong = is_wrong | is_tags_wrong
    for name in ("category", "title"):
        found = _optional(rows, name)
        if found is not None:
            columns[name], is_text_wrong = as_text(found)
            is_wrong = is_wrong | is_text_wrong
    columns["category"] = without_line_breaks(columns["category"])
    verdicts.reject(is_missing, schema.MISSING_ITEM_ID)
    verdicts.reject(is_wrong, schema.WRONG_TYPE)
    verdicts.reject(is_malformed, schema.MALFORMED_LIST)
    verdicts.reject(np.diff(np.asarray(tags.offsets)) == 0, schema.NO_TAGS)
    return verdicts.split(
        batch,
        pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns)),
        verdicts.ids_with(schema.NO_TAGS, item_ids),
    )


def validate_users(batch: FileBatch, table: schema.TableSchema = schema.USERS) -> ValidatedBatch:
    """Validates rows of `users`.

    Reasons, in this order: missing_user_id, wrong_type (an id or a text that is no single value, a
    number that is invalid or not finite in 32 bits, a list that is none), malformed_list (a text
    that is no list in its declared notation). For repeated ids see the grouping by user.

    Args:
      batch: Rows as found.
      table: Schema with the kinds of the columns; a column that it does not name is text.

    Returns:
      Rows with `user_id` and every other column of the batch. Text is a string ("" where unknown)
      of one line, a number in it its decimal string; a number is float32, null where missing; a
      list has strings, each once, of one line and without surrounding white space.
    """
    rows = batch.rows
    verdicts = _Verdicts(rows.num_rows)
    user_ids, is_missing, is_wrong = as_id(rows.column("user_id"))
    columns = {"user_id": user_ids}
    is_malformed = np.zeros(rows.num_rows, bool)
    declared = {column.name: column for column in table.columns}
    for name, column in zip(rows.schema.names, rows.columns, strict=True):
        if name == "user_id":
            continue
        kind = declared[name].kind if name in declared else schema.TEXT
        if kind == schema.NUMBER:
            columns[name], is_value_wrong = _float32(column)
        elif kind == schema.LIST:
            columns[name], is_value_wrong, is_list_malformed = as_lists(
                column,
                separator=declared[name].separator or JSON,
                normalization=_AS_WRITTEN,
            )
            is_malformed |= is_list_malformed
        else:
            values, is_value_wrong = as_text(column)
            columns[name] = without_line_breaks(values)
        is_wrong = is_wrong | is_value_wrong
    verdicts.reject(is_missing, schema.MISSING_USER_ID)
    verdicts.reject(is_wrong, schema.WRONG_TYPE)
    verdicts.reject(is_malformed, schema.MALFORMED_LIST)
    return verdicts.split(
        batch, pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))
    )
