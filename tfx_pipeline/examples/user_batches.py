"""Rows of many users on their way through a shuffle: Arrow record batches. No Beam here.

A shuffle that moves an object per interaction, or per user, spends its time on objects. Here a
batch of rows travels as one record batch for each shard of the users: what it holds of a user's
events is 17 bytes an event in one cell.
"""

from collections.abc import Iterator

import numpy as np

from tfx_pipeline.examples.event_order import latest_distinct
from tfx_pipeline.examples.packed_events import EVENT_DTYPE, pack_rows
from tfx_pipeline.tables.row_batches import ValidatedBatch
from tfx_pipeline.tables.user_hash import user_shards
from trainer.contract.arrow import pa
from trainer.contract.list_column import offsets_of

# A user's events in a batch of rows: `EVENT_DTYPE` as bytes, and what was dropped beyond the cap.
EVENT_BATCH = pa.schema(
    [
        pa.field("user_id", pa.string()),
        pa.field("events", pa.binary()),
        pa.field("num_duplicates", pa.int32()),
        pa.field("num_dropped", pa.int32()),
    ]
)
# A profile's columns follow, each with this before its name.
PROFILE_PREFIX = "profile."


def pack_events(validated: ValidatedBatch, max_events: int | None = None) -> pa.RecordBatch:
    """Groups the good interactions of a batch by user.

    Args:
      validated: Checked interactions.
      max_events: The latest kept of each user; None: all, in the order of the rows.

    Returns:
      `EVENT_BATCH`, a row a user.
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
    """The events of an `EVENT_BATCH`.

    Returns:
      `EVENT_DTYPE` [n], user by user, and int64 [num_users], how many are of each.
    """
    cells = batch.column("events")
    offsets = np.frombuffer(cells.buffers()[1], np.int32)
    offsets = offsets[cells.offset : cells.offset + len(cells) + 1]
    if not len(cells) or offsets[0] == offsets[-1]:
        return np.zeros(0, EVENT_DTYPE), np.zeros(len(cells), np.int64)
    data = np.frombuffer(cells.buffers()[2], np.uint8)[offsets[0] : offsets[-1]]
    return data.view(EVENT_DTYPE), np.diff(offsets).astype(np.int64) // EVENT_DTYPE.itemsize


def pack_profiles(validated: ValidatedBatch) -> pa.RecordBatch:
    """The good rows of a batch of users, with their place in the file.

    Args:
      validated: Checked users.

    Returns:
      `user_id`, `file`, `row` and the profile's columns, a row a row.
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
    """The rows of each shard of the users, one batch a shard."""
    shards = user_shards(batch.column("user_id").to_pylist(), num_shards)
    order = np.argsort(shards, kind="stable")
    ordered = batch.take(pa.array(order))
    offsets = offsets_of(np.bincount(shards, minlength=num_shards))
    for shard, (first, end) in enumerate(zip(offsets[:-1], offsets[1:], strict=True)):
        if first < end:
            yield shard, ordered.slice(first, end - first)


def to_bytes(batch: pa.RecordBatch) -> bytes:
    """A record batch as bytes, with its schema."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def from_bytes(content: bytes) -> pa.RecordBatch:
    """What `to_bytes` took."""
    with pa.ipc.open_stream(content) as reader:
        return reader.read_next_batch()


def _cells(events: np.ndarray, lengths: np.ndarray) -> pa.Array:
    """Bytes of the events of each user, without a copy."""
    offsets = (offsets_of(lengths) * EVENT_DTYPE.itemsize).astype(np.int32)
    data = np.ascontiguousarray(events).view(np.uint8)
    return pa.Array.from_buffers(
        pa.binary(), len(lengths), [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    )
