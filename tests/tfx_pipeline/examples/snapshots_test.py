"""Moments, parts and labels by hand, and no event on the wrong side of a snapshot's time."""

import dataclasses

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from tests.tfx_pipeline.examples.random_users import (
    CATALOGUE,
    COLUMNS,
    canonical,
    user_block,
    with_attributes,
)
from tests.tfx_pipeline.examples.user_snapshots import user_snapshots
from tests.trainer.random_logs import (
    DAY,
    ITEMS,
    PROPERTY,
    SPEC,
    START,
    distinct_events,
    item_values,
    naive_feature_values,
    records,
)
from tfx_pipeline.config.examples import ExamplesConfig
from tfx_pipeline.examples import moments as snapshot_moments
from tfx_pipeline.examples.columns import Texts
from tfx_pipeline.examples.moments import user_part
from tfx_pipeline.examples.packed_events import to_user_events
from tfx_pipeline.examples.snapshots import SnapshotMaker
from tfx_pipeline.examples.time_split import TimeSplit
from tfx_pipeline.tables.user_hash import user_hash
from trainer.contract import features as f
from trainer.contract.history import UserEvents

CONFIG = ExamplesConfig(snapshots_per_user=4)
NOW = START + 100 * DAY
FEATURE_NAMES = set(SPEC.raw_names)
HISTORY_NAMES = {f.HISTORY_TAGS, f.HISTORY_TAG_COUNTS, f.HISTORY_NUM_EVENTS, f.HISTORY_ITEMS}
ALWAYS = {f.USER_ID, f.SNAPSHOT_TIME} | FEATURE_NAMES


def user_of(part, config=CONFIG):
    """Returns the id of a user who falls into a part."""
    return next(f"{part}{i}" for i in range(1000) if user_part(f"{part}{i}", config) == part)


USERS = {part: user_of(part) for part in f.SPLITS}


def snapshots(rows, part="test", config=CONFIG, profile=None, now=NOW):
    events = to_user_events(canonical(rows), COLUMNS)
    return list(user_snapshots(USERS[part], events, profile, SPEC, config, now))


def row(item, timestamp, clicked=1, **others):
    return with_attributes(
        {"item_id": item, "timestamp": START + timestamp, "clicked": clicked, **others}
    )


# --- parts ---


def test_parts_have_their_share_of_the_users():
    config = ExamplesConfig(validation_fraction=0.1, test_fraction=0.2)
    parts = [user_part(f"user-{i}", config) for i in range(20_000)]
    shares = {part: parts.count(part) / len(parts) for part in f.SPLITS}
    assert sum(shares.values()) == 1.0
    # Three standard deviations of a share of 20,000 users are below 0.01.
    assert shares == {
        "train": pytest.approx(0.7, abs=0.01),
        "validation": pytest.approx(0.1, abs=0.01),
        "test": pytest.approx(0.2, abs=0.01),
    }


def test_part_depends_on_user_and_seed_alone():
    users = [f"u{i}" for i in range(500)]
    parts = [user_part(user, ExamplesConfig(seed=3)) for user in users]
    others = ExamplesConfig(seed=3, snapshots_per_user=1, num_shards=9, max_events_per_user=5)
    assert [user_part(user, others) for user in users] == parts
    assert [user_part(user, ExamplesConfig(seed=4)) for user in users] != parts


def test_more_validation_users_leave_the_test_users_where_they_are():
    small, large = (ExamplesConfig(validation_fraction=share) for share in (0.1, 0.4))
    for user in (f"u{i}" for i in range(300)):
        if user_part(user, small) != "train":
            assert user_part(user, large) == user_part(user, small)


def test_hash_is_the_same_in_every_process():
    # Written down once: Python's own `hash` would differ with every process.
    assert user_hash("u1", "shard") == 0x974A3928184C1044
    assert user_hash("u1", "a") != user_hash("u1", "b")
    assert 0 <= user_hash("é", "a") < 2**64


# --- moments ---


def cut_of(timestamps, fraction):
    """The time at which a held-out user with events at these times is cut."""
    rows = [row("i0", time, weight=1.0 + i) for i, time in enumerate(timestamps)]
    cut, _ = snapshots(rows, "test", dataclasses.replace(CONFIG, cut_fraction=fraction))
    return cut.values[f.SNAPSHOT_TIME] - START


@pytest.mark.parametrize(
    ("timestamps", "fraction", "expected"),
    [
        ([10, 20, 30, 40, 50], 0.8, 50),  # four of five before it
        ([1, 2, 3, 4, 5, 6, 7, 8, 9, 10], 0.8, 9),
        ([1, 2, 3, 4, 5, 6], 0.8, 6),  # 4.8 events: the first moment at or after is the sixth
        ([1, 2, 3, 4, 5, 6], 0.5, 4),
        ([7], 0.8, 7),  # one event: a label without a history
        ([7, 8], 0.8, 8),
        ([7, 8], 0.1, 8),
        ([10, 20, 30, 50, 50], 0.8, 50),  # the second of the cut goes to the labels as a whole
        ([10, 50, 50, 50, 50], 0.8, 50),
        ([50, 50, 50, 50, 50], 0.8, 50),
    ],
)
def test_cut_is_the_first_moment_at_or_after_the_fraction(timestamps, fraction, expected):
    assert cut_of(timestamps, fraction) == expected


@PROPERTY
@hypothesis.given(
    st.lists(st.integers(1, 12), min_size=1, max_size=30), st.sampled_from([0.1, 0.5, 0.8, 0.9])
)
def test_cut_leaves_a_label_and_no_more_history_than_the_fraction(timestamps, fraction):
    times = np.array(sorted(timestamps))
    time = cut_of(timestamps, fraction)
    assert time in timestamps
    assert (times < time).sum() <= np.ceil(fraction * len(times))
    assert (times >= time).sum() >= 1
    # It is the earliest such moment, except for the events in its own second.
    assert (times <= time).sum() > np.floor(fraction * len(times)) or time == times[-1]


def test_held_out_user_is_cut_once_and_seen_now():
    rows = [row("i0", second) for second in (1, 2, 3, 4, 5, 5)]
    for part in ("validation", "test"):
        found = snapshots(rows, part)
        assert [snapshot.split for snapshot in found] == [part, "now"]
        # Exact duplicates are one event: 0.8 of five events lie before the fifth.
        assert [snapshot.values[f.SNAPSHOT_TIME] for snapshot in found] == [START + 5, NOW]


def test_training_user_has_moments_of_their_first_95_percent_of_events():
    rows = [row("i0", second) for second in range(100)]
    config = ExamplesConfig(snapshots_per_user=1000)
    times = [s.values[f.SNAPSHOT_TIME] - START for s in snapshots(rows, "train", config)[:-1]]
    assert times == list(range(95))


def test_training_snapshots_of_one_moment_are_one():
    config = ExamplesConfig(snapshots_per_user=50)
    found = snapshots([row("i0", 0), row("i1", 9)], "train", config)
    assert [s.values[f.SNAPSHOT_TIME] - START for s in found[:-1]] == [0, 9]


def test_seed_moves_the_training_moments():
    rows = [row("i0", second) for second in range(1000)]
    times = {}
    for seed in (0, 0, 1):
        config = dataclasses.replace(CONFIG, seed=seed)
        user = user_of("train", config)
        events = UserEvents.from_records(rows)
        found = user_snapshots(user, events, None, SPEC, config, NOW)
        times.setdefault(seed, []).append([s.values[f.SNAPSHOT_TIME] for s in found])
    assert times[0][0] == times[0][1]
    assert times[0][0] != times[1][0]


# --- labels, by hand ---


def test_labels_are_the_clicks_from_the_cut_on():
    rows = [
        row("i0", 1),  # a, b
        row("i1", 2, clicked=0),  # b
        row("i0", 3, weight=2.0),
        row("i1", 4),
        row("i10", 5, weight=0.5),  # c, é, zz
        row("i2", 5, clicked=0),  # a, zz, ω
        row("i2", 6),
        row("i2", 7),
    ]
    config = ExamplesConfig(cut_fraction=0.5)
    labelled, now = snapshots(rows, config=config)
    values = labelled.values
    assert values[f.SNAPSHOT_TIME] == START + 5
    labels = dict(zip(values[f.LABEL_TAGS], values[f.LABEL_TAG_WEIGHTS], strict=True))
    assert labels == {"a": 2, "c": 1, "zz": 3, "é": 1, "ω": 2}
    assert values[f.IMPRESSION_NUM_TAGS] == [3, 3, 3, 3]
    assert values[f.IMPRESSION_TAGS] == ["c", "zz", "é"] + ["a", "zz", "ω"] * 3
    assert values[f.IMPRESSION_CLICKED] == [1.0, 0.0, 1.0, 1.0]
    assert values[f.IMPRESSION_WEIGHTS] == [0.5, 1.0, 1.0, 1.0]
    history = dict(zip(values[f.HISTORY_TAGS], values[f.HISTORY_TAG_COUNTS], strict=True))
    assert history == {"a": 2, "b": 3}  # clicks, not weights; the skipped one is none
    assert values[f.HISTORY_NUM_EVENTS] == 4
    assert values[f.LABEL_ITEMS] == ["i10", "i2"]
    assert values[f.HISTORY_ITEMS] == ["i0", "i1"]
    assert labelled.num_impressions_dropped == 0
    assert set(now.values) == ALWAYS


def test_training_snapshot_has_labels_and_no_history_of_evaluation():
    values = snapshots([row("i0", 1), row("i1", 2)], "train")[0].values
    assert (values[f.HISTORY_TAGS], values[f.HISTORY_TAG_COUNTS]) == ([], [])
    assert (values[f.LABEL_ITEMS], values[f.HISTORY_ITEMS]) == ([], [])
    assert set(values[f.LABEL_TAGS]) >= {"b"}


def test_label_cap_keeps_the_most_clicked_of_a_training_snapshot_only(monkeypatch):
    monkeypatch.setattr(snapshot_moments, "SNAPSHOT_SHARES", (0.0, 0.01))
    rows = [row("i0", 1), row("i0", 2), row("i1", 3), row("i10", 4)]  # b 3, a 2, c é zz 1
    config = ExamplesConfig(max_label_tags=3)
    values = snapshots(rows, "train", config)[0].values
    assert values[f.LABEL_TAGS] == ["b", "a", "c"]
    assert values[f.LABEL_TAG_WEIGHTS] == [3.0, 2.0, 1.0]
    truth = snapshots(rows, "test", dataclasses.replace(config, cut_fraction=0.01))[0].values
    assert truth[f.LABEL_TAGS] == ["a", "b", "c", "zz", "é"]  # the truth is never cut


@pytest.mark.parametrize(
    ("part", "cap"), [("train", "max_train_impressions"), ("test", "max_eval_impressions")]
)
def test_impression_cap_takes_a_sample_in_order_and_counts_the_rest(monkeypatch, part, cap):
    monkeypatch.setattr(snapshot_moments, "SNAPSHOT_SHARES", (0.0, 0.1))
    rows = [row("i0" if second % 3 else "i1", second, second % 2) for second in range(60)]
    config = ExamplesConfig(cut_fraction=0.1, snapshots_per_user=1, **{cap: 20})
    labelled = snapshots(rows, part, config)[0]
    time = labelled.values[f.SNAPSHOT_TIME] - START
    assert len(labelled.values[f.IMPRESSION_CLICKED]) == 20
    assert len(labelled.values[f.IMPRESSION_TAGS]) == sum(labelled.values[f.IMPRESSION_NUM_TAGS])
    assert labelled.num_impressions_dropped == 60 - time - 20
    # It is a sample: not simply the first or the last ones.
    everything = [float(second % 2) for second in range(time, 60)]
    clicked = labelled.values[f.IMPRESSION_CLICKED]
    assert clicked not in (everything[:20], everything[-20:])
    # The truth of a held-out user is every later click, sampled impressions or not.
    clicks = sum(second % 2 for second in range(time, 60))
    labels = dict(
        zip(labelled.values[f.LABEL_TAGS], labelled.values[f.LABEL_TAG_WEIGHTS], strict=True)
    )
    assert labels["b"] == clicks


# --- cold users ---


@pytest.mark.parametrize("part", f.SPLITS)
def test_user_without_events_is_seen_now_only(part):
    events = to_user_events(canonical([]), COLUMNS)
    profile = {"gender": "F", "age": "30"}
    (now,) = user_snapshots(USERS[part], events, profile, SPEC, CONFIG, NOW)
    assert (now.split, now.values[f.SNAPSHOT_TIME]) == ("now", NOW)
    assert (now.values["gender"], now.values["age"]) == ("F", "30")
    assert all(now.values[domain.name] == [] for domain in SPEC.domains)


def test_user_without_a_profile_is_unknown_in_every_snapshot():
    for snapshot in snapshots([row("i0", 1), row("i1", 2)], profile=None):
        assert (snapshot.values["gender"], snapshot.values["age"]) == ("", "")


# --- properties over random logs ---


def naive_labels(rows, time):
    """Returns clicks by tag at or after `time`, and impressions in canonical order."""
    later = [event for event in distinct_events(rows) if event[0] >= time]
    counts = {}
    for event in later:
        for tag in item_values(event[1], "tags") if event[2] else ():
            counts[tag] = counts.get(tag, 0.0) + 1.0
    return counts, later


def naive_history(rows, time):
    """Returns clicks by tag before `time`."""
    counts = {}
    for event in distinct_events(rows):
        for tag in item_values(event[1], "tags") if event[2] and event[0] < time else ():
            counts[tag] = counts.get(tag, 0.0) + 1.0
    return counts


@PROPERTY
@hypothesis.given(records(), st.sampled_from(f.SPLITS))
def test_features_look_back_and_labels_look_forward(rows, part):
    config = dataclasses.replace(CONFIG, max_label_tags=5, max_train_impressions=6)
    profile = {"gender": "F"}
    for snapshot in snapshots(rows, part, config, profile):
        values, time = snapshot.values, snapshot.values[f.SNAPSHOT_TIME]
        expected = naive_feature_values(rows, profile, time, SPEC)
        assert {name: values[name] for name in FEATURE_NAMES} == expected
        if snapshot.split == "now":
            assert set(values) == ALWAYS
            continue
        counts, later = naive_labels(rows, time)
        labels = dict(zip(values[f.LABEL_TAGS], values[f.LABEL_TAG_WEIGHTS], strict=True))
        shown = len(values[f.IMPRESSION_CLICKED])
        assert len(later) == shown + snapshot.num_impressions_dropped
        if part == "train":
            best = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
            assert labels == dict(best[: config.max_label_tags])
            assert shown <= config.max_train_impressions
        else:
            assert labels == counts
            names, clicks = values[f.HISTORY_TAGS], values[f.HISTORY_TAG_COUNTS]
            assert dict(zip(names, clicks, strict=True)) == naive_history(rows, time)
            clicked = [event for event in distinct_events(rows) if event[2]]
            for name, is_label in ((f.LABEL_ITEMS, True), (f.HISTORY_ITEMS, False)):
                items = {event[1] for event in clicked if (event[0] >= time) == is_label}
                assert values[name] == sorted(items)
        assert values[f.HISTORY_NUM_EVENTS] == len(distinct_events(rows)) - len(later)
        if not snapshot.num_impressions_dropped:
            assert values[f.IMPRESSION_CLICKED] == [float(event[2]) for event in later]
            assert values[f.IMPRESSION_WEIGHTS] == [event[3] for event in later]
            tags = [tag for event in later for tag in item_values(event[1], "tags")]
            assert values[f.IMPRESSION_TAGS] == tags


@PROPERTY
@hypothesis.given(records(), st.sampled_from(["validation", "test"]))
def test_other_events_after_the_cut_change_neither_features_nor_history(rows, part):
    hypothesis.assume(rows)
    before = snapshots(rows, part)[0].values
    time = before[f.SNAPSHOT_TIME]

    def change(row):
        return row if row["timestamp"] < time else {**row, "clicked": 1 - row["clicked"]}

    # As many events at the same times, so that the cut stays: only their content is another.
    after = snapshots([change(row) for row in rows], part)[0].values
    assert after[f.SNAPSHOT_TIME] == time
    for name in FEATURE_NAMES | HISTORY_NAMES:
        assert after[name] == before[name], name
    events = [event for event in distinct_events(rows) if event[0] >= time]
    assert sum(after[f.IMPRESSION_CLICKED]) == len(events) - sum(before[f.IMPRESSION_CLICKED])


@PROPERTY
@hypothesis.given(records(), st.sampled_from(f.SPLITS), st.randoms(use_true_random=False))
def test_order_of_rows_does_not_matter(rows, part, random):
    config = dataclasses.replace(CONFIG, max_train_impressions=3, max_eval_impressions=3)
    expected = snapshots(rows, part, config)
    random.shuffle(rows)
    assert snapshots(rows, part, config) == expected


def test_items_of_the_oracle_have_all_kinds_of_attributes():
    assert {category for _, category in ITEMS.values()} >= {"", "x"}
    assert max(len(tags) for tags, _ in ITEMS.values()) > 1


# --- blocks of users ---


def values_of_block(found):
    """Returns (user, part, values) of every snapshot of a block."""
    everything = []
    for row, part in enumerate(found.part.tolist()):
        values = {name: column.value(row) for name, column in found.labelled.items()}
        everything.append((values[f.USER_ID], f.SPLITS[part], values))
    num_users = len(found.num_training)
    for row in range(num_users):
        values = {name: column.value(row) for name, column in found.now.items()}
        everything.append((values[f.USER_ID], f.NOW_SPLIT, values))
    return sorted(everything, key=lambda one: one[0])


@PROPERTY
@hypothesis.given(
    st.lists(records(), max_size=6),
    st.sampled_from([None, TimeSplit(START + 4 * DAY, START + 7 * DAY)]),
)
def test_users_of_a_block_equal_each_alone(logs, time_split):
    """A user's snapshots do not depend on the other users of the block."""
    config = dataclasses.replace(
        CONFIG, max_train_impressions=4, max_eval_impressions=6, max_label_tags=2
    )
    users = {f"u{number}": rows for number, rows in enumerate(logs)}
    profiles = {user: {"gender": user} for user in list(users)[::2]}
    block = user_block(users, profiles, ("gender", "age"), with_older={"u1"})
    texts = {name: Texts(CATALOGUE.attribute(name).vocabulary) for name in COLUMNS}
    maker = SnapshotMaker(texts, SPEC, config, NOW, time_split)
    found = maker.snapshots(block)

    expected = []
    for user, rows in users.items():
        events = to_user_events(canonical(rows), COLUMNS)
        for snapshot in user_snapshots(
            user,
            events,
            profiles.get(user),
            SPEC,
            config,
            NOW,
            time_split,
            has_older_events=user == "u1",
        ):
            expected.append((user, snapshot.split, snapshot.values))
    assert values_of_block(found) == expected
    halves = [block.slice(0, len(users) // 2), block.slice(len(users) // 2, len(users))]
    assert [one for half in halves for one in values_of_block(maker.snapshots(half))] == expected


def test_block_is_split_by_events_and_by_users(monkeypatch):
    monkeypatch.setattr("tfx_pipeline.examples.user_block._EVENTS_PER_BLOCK", 5)
    monkeypatch.setattr("tfx_pipeline.examples.user_block._USERS_PER_BLOCK", 3)
    sizes = [3, 2, 1, 9, 0, 0, 0, 0, 1]
    rows = {f"u{i}": [row("i0", second) for second in range(n)] for i, n in enumerate(sizes)}
    blocks = list(user_block(rows).split())
    assert [np.diff(block.offsets).tolist() for block in blocks] == [
        [3, 2],
        [1],
        [9],
        [0, 0, 0],
        [0, 1],
    ]
    assert sum((block.user_ids.to_pylist() for block in blocks), []) == sorted(rows)
    assert all(block.offsets[0] == 0 for block in blocks)
    assert [len(block.events) for block in blocks] == [5, 1, 9, 0, 1]
