"""Packing of events loses nothing, orders canonically, and keeps duplicates once."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from tests.tfx_pipeline.examples.random_users import (
    CATALOGUE,
    COLUMNS,
    IDS,
    chunk,
    event_tuples,
    file_batch,
    pack,
    with_attributes,
)
from tests.tfx_pipeline.examples.random_users import interaction_row as row
from tests.trainer.random_logs import ITEMS, PROPERTY, SPEC, moments, records
from tfx_pipeline.examples.packed_events import (
    EVENT_DTYPE,
    UserChunk,
    canonical,
    pack_by_user,
    to_user_events,
)
from tfx_pipeline.tables.validate import validate_interactions
from trainer.contract.history import UserEvents, feature_values


def validated(rows):
    batch = file_batch("interactions", rows)
    return validate_interactions(batch, now=2_000_000_000, item_index=CATALOGUE)


def test_event_is_17_bytes():
    assert EVENT_DTYPE.itemsize == 17


def test_canonical_order_is_time_item_clicked_weight():
    events = pack([(2, 0, 0, 1), (1, 5, 1, 1), (1, 5, 1, 0.5), (1, 5, 0, 9), (1, 4, 1, 1)])
    assert canonical(events).tolist() == [
        (1, 4, 1, 1.0),
        (1, 5, 0, 9.0),
        (1, 5, 1, 0.5),
        (1, 5, 1, 1.0),
        (2, 0, 0, 1.0),
    ]


def test_duplicates_differ_in_nothing():
    events = [(1, 5, 1, 1.0), (1, 5, 1, 1.0), (1, 5, 0, 1.0), (1, 5, 1, 2.0), (1, 5, 1, 1.0)]
    assert canonical(pack(events)).tolist() == [(1, 5, 0, 1.0), (1, 5, 1, 1.0), (1, 5, 1, 2.0)]


@pytest.mark.parametrize("events", [[], [(3, 1, 0, 1.0)]])
def test_canonical_of_none_or_one_is_itself(events):
    assert canonical(pack(events)).tolist() == events


@PROPERTY
@hypothesis.given(event_tuples(), st.randoms(use_true_random=False))
def test_canonical_is_the_sorted_set_whatever_the_order(events, random):
    expected = sorted(set(events))
    random.shuffle(events)
    assert canonical(pack(events)).tolist() == expected


def test_pack_by_user_gives_each_user_one_chunk_of_a_batch():
    rows = [
        row("b", "i1", 7, 0, 0.25),
        row("a", "i0", 9),
        row("b", "i0", 5),
        row("a", "i0", 9),
        row("", "i0", 9),  # rejected
    ]
    chunks = {
        user: np.frombuffer(data, EVENT_DTYPE) for user, data in pack_by_user(validated(rows))
    }
    first, second = IDS.index("i0"), IDS.index("i1")
    assert {user: events.tolist() for user, events in chunks.items()} == {
        "a": [(9, first, 1, 1.0), (9, first, 1, 1.0)],
        "b": [(7, second, 0, 0.25), (5, first, 1, 1.0)],
    }


def test_pack_by_user_gives_nothing_where_all_rows_are_bad():
    assert list(pack_by_user(validated([row("", "i0", 9)]))) == []


@PROPERTY
@hypothesis.given(st.lists(st.tuples(st.sampled_from("abcé"), st.integers(1, 9)), max_size=20))
def test_pack_by_user_loses_no_event(pairs):
    rows = [row(user, "i0", time) for user, time in pairs] or [row("", "i0", 1)]
    found = [
        (user, event["timestamp"])
        for user, data in pack_by_user(validated(rows))
        for event in np.frombuffer(data, EVENT_DTYPE)
    ]
    assert sorted(found) == sorted(pairs)
    assert len(list(pack_by_user(validated(rows)))) == len({user for user, _ in pairs})


def test_item_columns_list_what_the_items_have():
    for name, expected in (
        ("tags", {item: sorted(tags) for item, (tags, _) in ITEMS.items()}),
        ("category", {item: [category] * bool(category) for item, (_, category) in ITEMS.items()}),
        ("item_id", {item: [item] for item in ITEMS}),
    ):
        column = COLUMNS[name]
        assert list(column.vocabulary) == sorted(column.vocabulary)
        for position, item in enumerate(IDS):
            codes, _ = column.select(np.array([position]))
            assert column.vocabulary[codes].tolist() == expected[item]


def test_user_without_events_unpacks_to_nothing():
    events = to_user_events(UserChunk(), COLUMNS)
    assert len(events) == 0
    assert feature_values(events, None, 10, SPEC)["clicked_tags"] == []


@PROPERTY
@hypothesis.given(records(), moments())
def test_packed_events_and_records_mean_the_same(rows, at):
    """The pipeline and a live caller reach the common function in these two ways."""
    packed = to_user_events(chunk(rows), COLUMNS)
    live = UserEvents.from_records([with_attributes(row) for row in rows])
    np.testing.assert_array_equal(packed.timestamp, live.timestamp)
    np.testing.assert_array_equal(packed.clicked, live.clicked)
    np.testing.assert_array_equal(packed.weight, live.weight)
    profile = {"gender": "M"}
    assert feature_values(packed, profile, at, SPEC) == feature_values(live, profile, at, SPEC)
