"""What a shard knows of its users is independent of the batches."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pyarrow as pa

from tests.tfx_pipeline.examples.random_users import (
    CATALOGUE,
    COLUMNS,
    IDS,
    event_tuples,
    file_batch,
)
from tests.trainer.random_logs import PROPERTY
from tfx_pipeline.examples.shard_users import gather_users
from tfx_pipeline.examples.user_batches import pack_events, pack_profiles
from tfx_pipeline.tables.validate import validate_interactions, validate_users
from trainer.contract.features import ProfileFeature

PROFILE = (ProfileFeature("gender"), ProfileFeature("age"))


def event_batch(pairs, max_events=100):
    """Returns (user, event tuple) pairs as one batch."""
    rows = [
        {"user_id": user, "item_id": IDS[item], "timestamp": 1 + time, "clicked": c, "weight": w}
        for user, (time, item, c, w) in pairs
    ]
    nothing = {"user_id": "", "item_id": "", "timestamp": 1, "clicked": 1}  # rejected
    batch = file_batch("interactions", rows or [nothing])
    return pack_events(
        validate_interactions(batch, now=2_000_000_000, item_index=CATALOGUE), max_events
    )


def profile_batch(rows, first_row=1):
    return pack_profiles(validate_users(file_batch("users", rows, first_row)))


def gathered(events, profiles=(), max_events=100):
    return gather_users(list(events), list(profiles), COLUMNS, PROFILE, max_events)


def events_by_user(users):
    """Returns event tuples by user."""
    events = users.events
    rows = list(
        zip(
            (events.timestamp - 1).tolist(),
            events.item.tolist(),
            events.clicked.astype(int).tolist(),
            events.weight.tolist(),
            strict=True,
        )
    )
    bounds = users.offsets.tolist()
    ids = users.user_ids.to_pylist()
    return {user: rows[bounds[i] : bounds[i + 1]] for i, user in enumerate(ids)}


def test_users_are_in_order_of_their_ids_with_or_without_events():
    found = gathered(
        [event_batch([("b", (1, 0, 1, 1.0)), ("é", (1, 0, 1, 1.0))])],
        [profile_batch([{"user_id": "a", "gender": "F", "age": 30}])],
    )
    assert found.users.user_ids.to_pylist() == ["a", "b", "é"]
    assert np.diff(found.users.offsets).tolist() == [0, 1, 1]
    assert found.users.profile["gender"].to_pylist() == ["F", "", ""]
    assert found.users.profile["age"].to_pylist() == ["30", "", ""]
    assert found.num_without_profile == 2
    assert found.rejected.num_rows == 0


def test_of_rows_for_one_user_the_smallest_is_kept_and_the_others_are_rejected():
    batches = [
        profile_batch([{"user_id": "u", "gender": "M", "x": "1"}]),
        profile_batch([{"user_id": "v", "gender": "F"}, {"user_id": "u", "gender": "A"}], 2),
    ]
    for order in (batches, batches[::-1]):
        found = gathered([], order)
        assert found.users.profile["gender"].to_pylist() == ["A", "F"]
        (rejected,) = found.rejected.to_pylist()
        assert (rejected["row"], rejected["reason"]) == (1, "duplicate_user")
        assert rejected["values"] == '{"user_id": "u", "gender": "M", "x": "1"}'


def test_dropped_events_of_a_batch_count_for_the_whole():
    early = event_batch([("u", (time, 0, 1, 1.0)) for time in range(4)], max_events=2)
    late = event_batch([("u", (9, 0, 1, 1.0))], max_events=2)
    found = gathered([early, late], max_events=2)
    assert [event[0] for event in events_by_user(found.users)["u"]] == [3, 9]
    assert found.num_dropped == 3
    assert found.users.has_older_events.tolist() == [True]


def test_nobody_is_a_shard_too():
    found = gathered([event_batch([])])
    assert (len(found.users), found.num_duplicates, found.num_dropped) == (0, 0, 0)
    assert found.users.user_ids.type == pa.string()


@PROPERTY
@hypothesis.given(
    st.lists(st.tuples(st.sampled_from("abc"), event_tuples(max_size=6)), max_size=6),
    st.integers(1, 8),
    st.randoms(use_true_random=False),
)
def test_any_batches_give_the_latest_of_each_users_sorted_set(parts, cap, random):
    pairs = [(user, event) for user, events in parts for event in events]
    random.shuffle(pairs)
    cuts = sorted(random.randrange(len(pairs) + 1) for _ in range(random.randrange(4)))
    bounds = [0, *cuts, len(pairs)]
    batches = [
        event_batch(pairs[first:end], cap)
        for first, end in zip(bounds[:-1], bounds[1:], strict=True)
    ]
    random.shuffle(batches)
    found = gathered(batches, max_events=cap)

    expected = {}
    for user in sorted({user for user, _ in pairs}):
        expected[user] = sorted({event for whose, event in pairs if whose == user})
    kept = {user: events[-cap:] for user, events in expected.items()}
    assert events_by_user(found.users) == kept
    num_kept = sum(map(len, kept.values()))
    assert found.num_duplicates + found.num_dropped == len(pairs) - num_kept
    for user, is_older in zip(kept, found.users.has_older_events.tolist(), strict=True):
        assert is_older >= (len(expected[user]) > cap)
