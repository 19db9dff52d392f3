"""The combiner against a sorted set, for every way in which an engine may group the chunks."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from tests.tfx_pipeline.random_users import event_tuples, pack
from tests.trainer.random_logs import PROPERTY
from tfx_pipeline.event_chunks import EVENT_DTYPE, UserChunk
from tfx_pipeline.latest_events import LatestEvents


def combine(events, max_events=100):
    combiner = LatestEvents(max_events)
    accumulator = combiner.add_input(combiner.create_accumulator(), pack(events).tobytes())
    return combiner.extract_output(accumulator)


def held(accumulator):
    """Bytes in an accumulator, counted."""
    return sum(len(chunk) for chunk in accumulator[0])


def test_latest_events_are_kept_and_the_oldest_dropped():
    events = [(5, 0, 1, 1.0), (1, 0, 1, 1.0), (3, 0, 1, 1.0), (4, 0, 1, 1.0)]
    chunk = combine(events, max_events=2)
    assert chunk.to_array().tolist() == [(4, 0, 1, 1.0), (5, 0, 1, 1.0)]
    assert (chunk.num_duplicates, chunk.num_dropped) == (0, 2)


def test_ties_at_the_cap_are_cut_in_canonical_order():
    events = [(5, item, 1, 1.0) for item in (3, 1, 2)]
    assert combine(events, max_events=2).to_array()["item"].tolist() == [2, 3]


def test_duplicates_are_counted_and_take_no_place():
    events = [(1, 0, 1, 1.0), (2, 0, 1, 1.0)] + [(3, 0, 1, 1.0)] * 5
    chunk = combine(events, max_events=3)
    assert chunk.to_array()["timestamp"].tolist() == [1, 2, 3]
    assert (chunk.num_duplicates, chunk.num_dropped) == (4, 0)


def test_nothing_gives_an_empty_chunk():
    combiner = LatestEvents(3)
    assert combiner.extract_output(combiner.create_accumulator()) == UserChunk()


def test_cap_of_nothing_is_refused():
    with pytest.raises(ValueError, match="`max_events` must be a positive integer."):
        LatestEvents(0)


@PROPERTY
@hypothesis.given(
    st.lists(event_tuples(max_size=8), max_size=12),
    st.integers(1, 12),
    st.randoms(use_true_random=False),
)
def test_any_grouping_gives_the_latest_of_the_sorted_set_within_bounds(chunks, cap, random):
    combiner = LatestEvents(cap)
    size = EVENT_DTYPE.itemsize
    limit = 2 * cap * size
    accumulators = [combiner.create_accumulator()]
    for events in chunks:
        step = random.randrange(4)
        if step == 0:
            accumulators.append(combiner.create_accumulator())
        elif step == 1:
            accumulators[-1] = combiner.compact(accumulators[-1])
        elif step == 2 and len(accumulators) > 1:
            random.shuffle(accumulators)
            accumulators = [combiner.merge_accumulators(accumulators[:2]), *accumulators[2:]]
        accumulators[-1] = combiner.add_input(accumulators[-1], pack(events).tobytes())
        for accumulator in accumulators:
            assert accumulator[1] == held(accumulator) <= limit
    random.shuffle(accumulators)
    merged = combiner.merge_accumulators(accumulators)
    assert held(merged) <= limit
    result = combiner.extract_output(merged)

    everything = [event for events in chunks for event in events]
    distinct = sorted(set(everything))
    assert result.to_array().tolist() == distinct[-cap:]
    # Where a duplicate comes after its twin was dropped, it counts as dropped too: the sum holds.
    assert result.num_duplicates + result.num_dropped == len(everything) - len(distinct[-cap:])
    if len(distinct) <= cap:
        assert result.num_dropped == 0


def test_user_with_very_many_events_costs_twice_the_cap():
    combiner = LatestEvents(100)
    rng = np.random.default_rng(0)
    accumulator, largest = combiner.create_accumulator(), 0
    events = np.zeros(50, EVENT_DTYPE)
    for _ in range(400):
        events["timestamp"] = rng.integers(0, 1_000_000, 50)
        accumulator = combiner.add_input(accumulator, events.tobytes())
        largest = max(largest, held(accumulator))
    assert largest <= 2 * 100 * EVENT_DTYPE.itemsize
    chunk = combiner.extract_output(accumulator)
    assert len(chunk.to_array()) == 100
    assert chunk.num_dropped + chunk.num_duplicates == 400 * 50 - 100


def test_merging_keeps_the_inputs_as_they_were():
    """Beam may hold on to an accumulator that it has merged."""
    combiner = LatestEvents(10)
    parts = [
        combiner.add_input(combiner.create_accumulator(), pack([(time, 0, 1, 1.0)]).tobytes())
        for time in (1, 2)
    ]
    combiner.merge_accumulators(parts)
    assert [combiner.extract_output(part).to_array()["timestamp"].tolist() for part in parts] == [
        [1],
        [2],
    ]
