"""Rows of many users in the shuffle, as Arrow record batches. No Beam here.

A shuffle that moves one object per interaction, or per user, spends its time on objects. Here a
batch of rows travels as one record batch for each shard of the users: a user's events are one cell
with 17 bytes per event.
"""

from collections.abc import Iterator

import numpy as np

from tfx_pipeline.examples.event_order import latest_distinct
from tfx_pipeline.examples.packed_events import EVENT_DTYPE, pack_rows
from tfx_pipeline.tables.row_batches import ValidatedBatch
from tfx_pipeline.tables.user_hash import user_shards
from trainer.contract.arrow import pa
from trainer.contract.list_column import offsets_of

# A user's events in a batch of rows: `EVENT_DTYPE` as bytes, and counts of what was left out.
EVENT_BATCH = pa.schema(
    [
        pa.field("user_id", pa.string()),
        pa.field("events", pa.binary()),
        pa.field("num_duplicates", pa.int32()),
        pa.field("num_dropped", pa.int32()),
    ]
)
# Prefix of the names of the profile features' columns.
PROFILE_PREFIX = "profile."


def pack_events(validated: ValidatedBatch, max_events: int | None = None) -> pa.RecordBatch:
    """Groups the valid interactions of a batch by user.

    Args:
      validated: Validated interactions.
      max_events: Largest number of latest events kept per user; None: all, in the order of the
        rows.

    Returns:
      `EVENT_BATCH`, one row per user.
    """
    rows = validated.rows
    events = pack_rows(rows)
    users = rows.column("user_id").dictionary_encode()
    codes = users.indices.to_numpy()
    if (codes[1:] < codes[:-1]).any():
        order = np.argsort(codes, kind="stable")
        events, codes = events[order], codes[order]
    num_users = len(users.dictionary)
    lengths = np.bincount(codes, minlength=num_users)
    duplicates = dropped = np.zeros(num_users, np.int64)
    if max_events is not None and (lengths > max_events).any():
        kept = latest_distinct(events, codes, num_users, max_events)
        events, lengths = events[kept.rows], kept.lengths
        duplicates, dropped = kept.num_duplicates, kept.num_dropped
    return pa.RecordBatch.from_arrays(
        [
            users.dictionary,
            _cells(events, lengths),
            pa.array(duplicates.astype(np.int32)),
            pa.array(dropped.astype(np.int32)),
        ],
        schema=EVENT_BATCH,
    )


def unpack_events(batch: pa.RecordBatch) -> tuple[np.ndarray, np.ndarray]:
    """Unpacks the events of an `EVENT_BATCH`.

    Returns:
      `EVENT_DTYPE` [n], user by user, and int64 [num_users], number of events of each user.
    """
    cells = batch.column("events")
    offsets = np.frombuffer(cells.buffers()[1], np.int32)
    offsets = offsets[cells.offset : cells.offset + len(cells) + 1]
    if not len(cells) or offsets[0] == offsets[-1]:
        return np.zeros(0, EVENT_DTYPE), np.zeros(len(cells), np.int64)
    data = np.frombuffer(cells.buffers()[2], np.uint8)[offsets[0] : offsets[-1]]
    return data.view(EVENT_DTYPE), np.diff(offsets).astype(np.int64) // EVENT_DTYPE.itemsize


def pack_profiles(validated: ValidatedBatch) -> pa.RecordBatch:
    """Returns the valid rows of a batch of users, with their places in the file.

    Args:
      validated: Validated users.

    Returns:
      A batch of `user_id`, `file`, `row` and the columns of the profile features, one row per valid
      row.
    """
    rows = validated.rows
    names = [name for name in rows.schema.names if name != "user_id"]
    return pa.RecordBatch.from_arrays(
        [
            rows.column("user_id"),
            pa.array([validated.file] * rows.num_rows, pa.string()),
            pa.array(validated.row_numbers, pa.int64()),
            *(rows.column(name) for name in names),
        ],
        names=["user_id", "file", "row", *(PROFILE_PREFIX + name for name in names)],
    )


def split_by_shard(batch: pa.RecordBatch, num_shards: int) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Splits a batch by shard of the users; yields shard and rows for each shard that has rows."""
    shards = user_shards(batch.column("user_id").to_pylist(), num_shards)
    order = np.argsort(shards, kind="stable")
    ordered = batch.take(pa.array(order))
    offsets = offsets_of(np.bincount(shards, minlength=num_shards))
    for shard, (first, end) in enumerate(zip(offsets[:-1], offsets[1:], strict=True)):
        if first < end:
            yield shard, ordered.slice(first, end - first)


def to_bytes(batch: pa.RecordBatch) -> bytes:
    """Serializes a record batch, with its schema."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def from_bytes(content: bytes) -> pa.RecordBatch:
    """Reads a record batch that `to_bytes` serialized."""
    with pa.ipc.open_stream(content) as reader:
        return reader.read_next_batch()


def _cells(events: np.ndarray, lengths: np.ndarray) -> pa.Array:
    """Returns the bytes of each user's events as binary cells, without a copy."""
    offsets = (offsets_of(lengths) * EVENT_DTYPE.itemsize).astype(np.int32)
    data = np.ascontiguousarray(events).view(np.uint8)
    return pa.Array.from_buffers(
        pa.binary(), len(lengths), [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    )
