"""Batches of many users lose nothing, keep each user in one shard, and respect the cap."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pyarrow as pa

from tests.tfx_pipeline.examples.random_users import CATALOGUE, IDS, file_batch
from tests.tfx_pipeline.examples.random_users import interaction_row as row
from tests.trainer.random_logs import PROPERTY
from tfx_pipeline.examples.packed_events import EVENT_DTYPE
from tfx_pipeline.examples.user_batches import (
    EVENT_BATCH,
    from_bytes,
    pack_events,
    pack_profiles,
    split_by_shard,
    to_bytes,
    unpack_events,
)
from tfx_pipeline.tables.user_hash import user_hash
from tfx_pipeline.tables.validate import validate_interactions, validate_users


def packed(rows, max_events=None):
    batch = file_batch("interactions", rows)
    validated = validate_interactions(batch, now=2_000_000_000, item_index=CATALOGUE)
    return pack_events(validated, max_events)


def by_user(batch):
    """Returns events by user, as lists of tuples."""
    events, lengths = unpack_events(batch)
    parts = np.split(events, np.cumsum(lengths)[:-1]) if len(lengths) else []
    users = batch.column("user_id").to_pylist()
    assert len(users) == len(set(users))
    return {user: part.tolist() for user, part in zip(users, parts, strict=True)}


def test_event_is_17_bytes_of_one_cell():
    cells = packed([row("a", "i0", 9), row("b", "i0", 9), row("a", "i0", 8)]).column("events")
    assert [len(cell) for cell in cells.to_pylist()] == [34, 17]


def test_users_have_one_row_of_a_batch_each():
    rows = [
        row("b", "i1", 7, 0, 0.25),
        row("a", "i0", 9),
        row("b", "i0", 5),
        row("a", "i0", 9),
        row("", "i0", 9),  # rejected
    ]
    first, second = IDS.index("i0"), IDS.index("i1")
    assert by_user(packed(rows)) == {
        "a": [(9, first, 1, 1.0), (9, first, 1, 1.0)],
        "b": [(7, second, 0, 0.25), (5, first, 1, 1.0)],
    }


def test_batch_without_a_good_row_has_no_user():
    assert by_user(packed([row("", "i0", 9)])) == {}


def test_beyond_the_cap_the_latest_travel_and_the_others_are_counted():
    rows = [row("a", "i0", time) for time in (3, 1, 2, 2, 5)] + [row("b", "i0", 1)] * 2
    batch = packed(rows, max_events=2)
    assert [time for time, *_ in by_user(batch)["a"]] == [3, 5]
    counts = dict(zip(batch.column("user_id").to_pylist(), batch.to_pylist(), strict=True))
    assert (counts["a"]["num_duplicates"], counts["a"]["num_dropped"]) == (1, 2)
    assert (counts["b"]["num_duplicates"], counts["b"]["num_dropped"]) == (1, 0)


def test_profiles_travel_with_their_place():
    batch = file_batch("users", [{"user_id": "a", "gender": "F"}, {"user_id": "b", "gender": None}])
    assert pack_profiles(validate_users(batch)).to_pylist() == [
        {"user_id": "a", "file": "f", "row": 1, "profile.gender": "F"},
        {"user_id": "b", "file": "f", "row": 2, "profile.gender": ""},
    ]


@PROPERTY
@hypothesis.given(
    st.lists(st.tuples(st.sampled_from("abcdeé"), st.integers(1, 9)), max_size=20),
    st.integers(1, 4),
)
def test_shards_together_are_the_batch_and_survive_as_bytes(pairs, num_shards):
    rows = [row(user, "i0", time) for user, time in pairs] or [row("", "i0", 1)]
    batch = packed(rows)
    found = {}
    for shard, part in split_by_shard(batch, num_shards):
        part = from_bytes(to_bytes(part))
        assert part.schema == EVENT_BATCH
        events = by_user(part)
        assert all(user_hash(user, "shard") % num_shards == shard for user in events)
        assert not found.keys() & events.keys()
        found |= events
    assert found == by_user(batch)
    times = sorted((user, event[0]) for user, events in found.items() for event in events)
    assert times == sorted(pairs)


def test_slice_travels_without_the_rest_of_its_batch():
    batch = packed([row("a", "i0", time) for time in range(1, 1000)] + [row("b", "i0", 1)])
    place = batch.column("user_id").to_pylist().index("b")
    assert len(to_bytes(batch.slice(place, 1))) < 1000 < len(to_bytes(batch))
    assert by_user(batch.slice(place, 1)) == {"b": [(1, IDS.index("i0"), 1, 1.0)]}


def test_empty_cells_are_no_events():
    columns = [pa.array(["a"]), pa.array([b""]), *[pa.array([0], pa.int32())] * 2]
    events, lengths = unpack_events(pa.RecordBatch.from_arrays(columns, schema=EVENT_BATCH))
    assert (events.dtype, events.tolist(), lengths.tolist()) == (EVENT_DTYPE, [], [0])
