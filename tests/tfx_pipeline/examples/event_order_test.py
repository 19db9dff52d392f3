"""The latest distinct events of users, however the log was divided before."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from tests.tfx_pipeline.examples.random_users import event_tuples, pack
from tests.trainer.random_logs import PROPERTY
from tfx_pipeline.examples.event_order import latest_distinct
from tfx_pipeline.examples.packed_events import EVENT_DTYPE


def latest(events, max_events=100):
    """Returns kept events, duplicates and dropped ones of one user."""
    packed = pack(events) if events else np.zeros(0, EVENT_DTYPE)
    found = latest_distinct(packed, np.zeros(len(packed), np.int64), 1, max_events)
    assert found.lengths.tolist() == [len(found.rows)]
    return packed[found.rows].tolist(), found.num_duplicates[0], found.num_dropped[0]


def test_latest_events_are_kept_and_the_oldest_dropped():
    events = [(5, 0, 1, 1.0), (1, 0, 1, 1.0), (3, 0, 1, 1.0), (4, 0, 1, 1.0)]
    assert latest(events, max_events=2) == ([(4, 0, 1, 1.0), (5, 0, 1, 1.0)], 0, 2)


def test_ties_at_the_cap_are_cut_in_canonical_order():
    kept, _, _ = latest([(5, item, 1, 1.0) for item in (3, 1, 2)], max_events=2)
    assert [event[1] for event in kept] == [2, 3]


def test_order_is_time_item_click_weight():
    events = [(2, 0, 0, 1.0), (1, 5, 1, 1.0), (1, 5, 1, 0.5), (1, 5, 0, 9.0), (1, 4, 1, 1.0)]
    assert latest(events)[0] == sorted(events)


def test_duplicates_are_counted_and_take_no_place():
    events = [(1, 0, 1, 1.0), (2, 0, 1, 1.0)] + [(3, 0, 1, 1.0)] * 5
    kept, duplicates, dropped = latest(events, max_events=3)
    assert [event[0] for event in kept] == [1, 2, 3]
    assert (duplicates, dropped) == (4, 0)


def test_nothing_is_kept_of_nothing():
    assert latest([]) == ([], 0, 0)


@pytest.mark.parametrize("latest_time", [2**40, 2**62])
def test_times_that_fit_no_key_with_the_user_are_ordered_all_the_same(latest_time):
    events = pack([(latest_time, 1, 1, 1.0), (1, 0, 1, 1.0), (2, 0, 1, 1.0), (1, 0, 1, 1.0)])
    user = np.array([2**23, 2**23, 0, 2**23])
    found = latest_distinct(events, user, 2**23 + 1, 10)
    assert found.rows.tolist()[0] == 2
    assert events[found.rows]["timestamp"].tolist() == [2, 1, latest_time]
    assert found.num_duplicates[2**23] == 1


users_events = st.lists(st.tuples(st.integers(0, 3), event_tuples(max_size=8)), max_size=10)


@PROPERTY
@hypothesis.given(users_events, st.integers(1, 12))
def test_many_users_equal_each_alone(parts, cap):
    user = np.array([user for user, events in parts for _ in events], np.int64)
    everything = [event for _, events in parts for event in events]
    packed = pack(everything) if everything else np.zeros(0, EVENT_DTYPE)
    found = latest_distinct(packed, user, 4, cap)
    kept = packed[found.rows].tolist()
    ends = np.cumsum(found.lengths).tolist()
    for one in range(4):
        own = [
            event for event, whose in zip(everything, user.tolist(), strict=True) if whose == one
        ]
        distinct = sorted(set(own))
        assert kept[ends[one] - found.lengths[one] : ends[one]] == distinct[-cap:]
        assert found.num_duplicates[one] == len(own) - len(distinct)
        assert found.num_dropped[one] == max(len(distinct) - cap, 0)


@PROPERTY
@hypothesis.given(
    st.lists(event_tuples(max_size=8), max_size=12),
    st.integers(1, 12),
    st.randoms(use_true_random=False),
)
def test_any_parts_cut_before_give_the_latest_of_the_sorted_set(parts, cap, random):
    cut, gone = [], 0
    for events in parts:
        if random.randrange(2):
            events, duplicates, dropped = latest(events, cap)
            gone += duplicates + dropped
        cut.append(events)
    random.shuffle(cut)
    kept, duplicates, dropped = latest([event for events in cut for event in events], cap)

    everything = [event for events in parts for event in events]
    distinct = sorted(set(everything))
    assert kept == distinct[-cap:]
    # Where a duplicate comes after its twin was dropped, it counts as dropped too: the sum holds.
    assert gone + duplicates + dropped == len(everything) - len(kept)
