"""In the protocol `temporal` each part sees its period, and training nothing later."""

import collections
import dataclasses
import itertools

import hypothesis
import pytest

from tests.tfx_pipeline.examples.example_runs import run_examples, write_tables
from tests.tfx_pipeline.examples.random_users import (
    COLUMNS,
    canonical,
    random_log,
    user_block,
    with_attributes,
    write_jsonl,
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
from tfx_pipeline.config.data import WindowConfig
from tfx_pipeline.config.examples import ExamplesConfig
from tfx_pipeline.config.pipeline import PipelineConfig
from tfx_pipeline.config.utc_times import utc_text
from tfx_pipeline.examples.moments import num_training_events
from tfx_pipeline.examples.packed_events import to_user_events
from tfx_pipeline.examples.time_split import TimeSplit
from tfx_pipeline.examples.user_lookup import find_user
from tfx_pipeline.tables.inputs import check_counts
from trainer.contract import features as f
from trainer.contract.history import feature_values

CONFIG = ExamplesConfig(split="temporal", snapshots_per_user=4)
NOW = START + 100 * DAY
# On the grid of `records`: events lie before, at and after both.
SPLIT = TimeSplit(START + 4 * DAY, START + 7 * DAY)
FEATURES = set(SPEC.raw_names)


def row(item, timestamp, clicked=1):
    return with_attributes({"item_id": item, "timestamp": timestamp, "clicked": clicked})


def snapshots(rows, split=SPLIT, config=CONFIG, **options):
    events = to_user_events(canonical(rows), COLUMNS)
    return list(user_snapshots("u", events, None, SPEC, config, NOW, split, **options))


# --- one user, by hand ---


def test_user_has_a_snapshot_of_each_stretch_of_time():
    rows = [row("i0", second) for second in range(1, 10)]
    *training, validation, test, now = snapshots(rows, TimeSplit(5, 8))
    assert {snapshot.split for snapshot in training} == {"train"}
    assert {snapshot.values[f.SNAPSHOT_TIME] for snapshot in training} <= {1, 2, 3, 4}
    for snapshot in training:
        # Clicks from the snapshot up to second 4, and none of second 5 or later.
        num_later = 5 - snapshot.values[f.SNAPSHOT_TIME]
        assert snapshot.values[f.LABEL_TAG_WEIGHTS] == [num_later, num_later]
    assert (validation.split, validation.values[f.SNAPSHOT_TIME]) == ("validation", 5)
    assert validation.values[f.HISTORY_TAG_COUNTS] == [4, 4]
    assert validation.values[f.LABEL_TAG_WEIGHTS] == [3, 3]  # seconds 5, 6 and 7
    assert (test.split, test.values[f.SNAPSHOT_TIME]) == ("test", 8)
    assert test.values[f.HISTORY_TAG_COUNTS] == [7, 7]
    assert test.values[f.LABEL_TAG_WEIGHTS] == [2, 2]
    assert (now.split, now.values[f.SNAPSHOT_TIME]) == ("now", NOW)


def test_new_user_is_judged_on_an_empty_history():
    validation, test, _ = snapshots([row("i0", 6), row("i1", 9)], TimeSplit(5, 8))
    assert validation.split == "validation"
    assert validation.values[f.HISTORY_NUM_EVENTS] == 0
    assert all(validation.values[domain.name] == [] for domain in SPEC.domains)
    assert validation.values[f.LABEL_ITEMS] == ["i0"]
    assert test.values[f.HISTORY_NUM_EVENTS] == 1
    assert (test.values[f.HISTORY_ITEMS], test.values[f.LABEL_ITEMS]) == (["i0"], ["i1"])


@pytest.mark.parametrize(
    ("seconds", "parts"),
    [
        ([], []),
        ([4], ["train"]),
        ([5], ["validation"]),
        ([7], ["validation"]),
        ([8], ["test"]),
        ([4, 8], ["train", "test"]),
        ([4, 5], ["train", "validation"]),
        ([5, 5, 8, 8], ["validation", "test"]),
    ],
)
def test_user_is_in_the_parts_in_which_there_are_events(seconds, parts):
    found = snapshots([row("i0", second) for second in seconds], TimeSplit(5, 8))
    assert [snapshot.split for snapshot in found] == [*parts, "now"]


def test_user_whose_oldest_events_were_dropped_is_not_new():
    rows = [row("i0", 9)]
    (dropped, _) = snapshots(rows, TimeSplit(5, 8), has_older_events=True)
    (whole, _) = snapshots(rows, TimeSplit(5, 8))
    assert dropped.values[f.HISTORY_NUM_EVENTS] == 1
    assert dropped.values == {**whole.values, f.HISTORY_NUM_EVENTS: 1}


# --- properties over random users ---


def stretch(part):
    """Returns the first second of a part's labels, and the first one after them."""
    return {
        "validation": (SPLIT.validation_start, SPLIT.test_start),
        "test": (SPLIT.test_start, NOW),
    }[part]


@PROPERTY
@hypothesis.given(records())
def test_features_look_back_and_labels_stay_in_their_stretch(rows):
    events = distinct_events(rows)
    for snapshot in snapshots(rows):
        values, time = snapshot.values, snapshot.values[f.SNAPSHOT_TIME]
        expected = naive_feature_values(rows, None, time, SPEC)
        assert {name: values[name] for name in FEATURES} == expected
        if snapshot.split == "now":
            continue
        if snapshot.split == "train":
            first, end = time, SPLIT.validation_start
            assert time < end
        else:
            first, end = stretch(snapshot.split)
            assert time == first
        labels = [event for event in events if first <= event[0] < end]
        clicks = collections.Counter(
            tag for event in labels if event[2] for tag in item_values(event[1], "tags")
        )
        found = dict(zip(values[f.LABEL_TAGS], values[f.LABEL_TAG_WEIGHTS], strict=True))
        assert found == clicks
        assert values[f.IMPRESSION_CLICKED] == [float(event[2]) for event in labels]
        assert values[f.HISTORY_NUM_EVENTS] == sum(event[0] < time for event in events)
        if snapshot.split != "train":
            assert labels
            assert values[f.LABEL_ITEMS] == sorted({e[1] for e in labels if e[2]})
            past = {event[1] for event in events if event[2] and event[0] < time}
            assert values[f.HISTORY_ITEMS] == sorted(past)


@PROPERTY
@hypothesis.given(records(), records())
def test_training_does_not_change_with_what_comes_later(rows, others):
    """The rest of the log is replaced by another, with other numbers, times and content."""
    earlier = [row for row in rows if row["timestamp"] < SPLIT.validation_start]
    later = [row for row in others if row["timestamp"] >= SPLIT.validation_start]

    def training(log):
        return [s.values for s in snapshots(log) if s.split == "train"]

    assert training(rows) == training(earlier + later) == training(earlier)
    (num_seen,) = num_training_events(user_block({"u": rows}), CONFIG, SPLIT)
    assert num_seen == len(distinct_events(earlier))
    events = to_user_events(canonical(rows), COLUMNS)
    assert all(time < SPLIT.validation_start for time in events.timestamp[:num_seen])


@PROPERTY
@hypothesis.given(records(), records())
def test_validation_does_not_change_with_what_comes_in_the_test(rows, others):
    earlier = [row for row in rows if row["timestamp"] < SPLIT.test_start]
    later = [row for row in others if row["timestamp"] >= SPLIT.test_start]

    def validation(log):
        return [s.values for s in snapshots(log) if s.split == "validation"]

    assert validation(rows) == validation(earlier + later)


# --- written examples of a random log ---

BEAM_CONFIG = dataclasses.replace(
    CONFIG,
    snapshots_per_user=3,
    num_shards=3,
    validation_fraction=0.2,
    test_fraction=0.25,
    max_train_impressions=8,
)
# The users of the second log begin when the first one is over: they are new.
LOG = random_log(3, num_users=20, num_events=250, days=8) + [
    {**event, "user_id": f"late-{event['user_id']}", "timestamp": event["timestamp"] + 8 * DAY}
    for event in random_log(4, num_users=8, num_events=90, days=4)
]
USERS = [{"user_id": user, "gender": "F", "age": "30"} for user in ("u1", "late-u1", "cold")]


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    return write_tables(tmp_path_factory.mktemp("tables"), LOG, USERS)


@pytest.fixture(scope="module")
def run(tables, tmp_path_factory):
    return run_examples(tmp_path_factory.mktemp("temporal"), tables, SPEC, BEAM_CONFIG)


@pytest.fixture(scope="module")
def split(run):
    return TimeSplit(run.counts["split.validation_start"], run.counts["split.test_start"])


def events_by_user(rows):
    ordered = sorted(rows, key=lambda event: event["user_id"])
    groups = itertools.groupby(ordered, key=lambda event: event["user_id"])
    return {user: distinct_events(list(events)) for user, events in groups}


def given(split, **others):
    """Returns the configuration with explicit moments."""
    return dataclasses.replace(
        BEAM_CONFIG,
        validation_start=utc_text(split.validation_start),
        test_start=utc_text(split.test_start),
        **others,
    )


def training_files(run):
    """Returns the files that training and its baselines read."""
    wanted = ("examples/Split-train/", "summary/tags.jsonl", "summary/items.jsonl")
    return {name: data for name, data in run.contents().items() if name.startswith(wanted)}


def test_shares_are_of_the_rows_of_the_log(split):
    times = sorted(event["timestamp"] for event in LOG)
    assert split == TimeSplit(times[round(0.55 * len(times))], times[round(0.75 * len(times))])
    assert times.count(split.test_start) > 1  # events of the moment itself, which stay together


def test_users_are_in_the_parts_in_which_they_did_something(run, split):
    users = events_by_user(LOG)
    stretches = {
        "train": (0, split.validation_start),
        "validation": (split.validation_start, split.test_start),
        "test": (split.test_start, NOW),
    }
    found = {part: [e[f.USER_ID][0] for e in run.examples(part)] for part in f.SPLITS}
    for part, (first, end) in stretches.items():
        active = {u for u, events in users.items() if any(first <= e[0] < end for e in events)}
        assert set(found[part]) == active
        assert part == "train" or len(found[part]) == len(active)
    for part in ("validation", "test"):
        first, end = stretches[part]
        known = {u for u, events in users.items() if events[0][0] < first}
        assert run.counts.get(f"split.inactive_in_{part}", 0) == len(known - set(found[part]))
        new = {e[f.USER_ID][0] for e in run.examples(part) if e[f.HISTORY_NUM_EVENTS] == [0]}
        assert new == set(found[part]) - known
    assert any(user.startswith("late-") for user in new)
    assert run.counts["split.inactive_in_test"] > 0


def test_clicks_by_tag_and_item_are_those_before_validation(run, split):
    seen = [
        event
        for events in events_by_user(LOG).values()
        for event in events
        if event[0] < split.validation_start
    ]
    clicks = collections.Counter(event[1] for event in seen if event[2])
    assert {item["item_id"]: item["clicks"] for item in run.items} == {
        item: clicks[item] for item in ITEMS
    }
    for tag, found in run.tags.items():
        carrying = [event for event in seen if tag in ITEMS[event[1]][0]]
        assert found["impressions"] == len(carrying)
        assert found["clicks"] == sum(event[2] for event in carrying)


def test_user_found_in_the_tables_is_the_snapshot_now(run, tables):
    """A caller's features do not depend on the protocol of the evaluation."""
    config = PipelineConfig("log", tables, SPEC, examples=BEAM_CONFIG)
    everyone = {event["user_id"] for event in LOG} | {row["user_id"] for row in USERS}
    assert {instance["user_id"] for instance in run.instances} == everyone
    for instance in run.instances:
        found = find_user(config, instance["user_id"])
        values = feature_values(found.events, found.profile, found.now, SPEC)
        assert {"user_id": instance["user_id"], **values} == instance


def test_written_moments_give_the_bytes_of_the_shares(run, split, tables, tmp_path):
    again = run_examples(tmp_path, tables, SPEC, given(split))
    assert again.contents() == run.contents()


def test_order_of_rows_and_files_does_not_matter(run, tables, tmp_path):
    folder = tmp_path / "interactions"
    for part in range(3):
        write_jsonl(folder / f"part-{part}.jsonl", LOG[::-1][part::3])
    data = dataclasses.replace(tables, interactions=str(folder))
    assert run_examples(tmp_path / "out", data, SPEC, BEAM_CONFIG).contents() == run.contents()


def test_nothing_from_validation_on_reaches_what_training_reads(run, split, tmp_path):
    """Without the later events, training examples and clicks are the same bytes."""
    rows = [event for event in LOG if event["timestamp"] < split.validation_start]
    short = run_examples(tmp_path / "out", write_tables(tmp_path, rows, USERS), SPEC, given(split))
    assert "examples.validation" not in short.counts
    assert training_files(short) == training_files(run)


def test_other_events_after_a_cut_leave_the_features_at_it(run, split, tmp_path):
    rows = [
        {**event, "clicked": 1 - event["clicked"]}
        if event["timestamp"] >= split.validation_start
        else event
        for event in LOG
    ]
    other = run_examples(tmp_path / "out", write_tables(tmp_path, rows, USERS), SPEC, given(split))
    before, after = run.examples("validation"), other.examples("validation")
    unchanged = {f.HISTORY_TAGS, f.HISTORY_TAG_COUNTS, f.HISTORY_NUM_EVENTS, f.HISTORY_ITEMS}
    for one, two in zip(before, after, strict=True):
        for name in FEATURES | unchanged | {f.USER_ID, f.SNAPSHOT_TIME}:
            assert one[name] == two[name], name
    assert [e[f.LABEL_ITEMS] for e in before] != [e[f.LABEL_ITEMS] for e in after]


def test_user_at_the_cap_is_known_though_only_later_events_are_kept(split, tmp_path):
    rows = [
        {"user_id": "u", "item_id": "i0", "timestamp": split.validation_start - 9, "clicked": 1}
    ] + [
        {"user_id": "u", "item_id": "i0", "timestamp": split.test_start + second, "clicked": 1}
        for second in range(5)
    ]
    config = given(split, max_events_per_user=5)
    capped = run_examples(tmp_path / "out", write_tables(tmp_path, rows, USERS), SPEC, config)
    (example,) = capped.examples("test")
    assert example[f.HISTORY_NUM_EVENTS] == [1]
    assert capped.examples("train") == []  # what documentation of the cap says


def test_part_without_an_event_is_refused_with_its_times(tables, tmp_path):
    config = dataclasses.replace(CONFIG, validation_start="2001-09-10", test_start="2030-01-01")
    counts = run_examples(tmp_path, tables, SPEC, config).counts
    with pytest.raises(ValueError) as error:
        check_counts(counts, tables, "aside")
    assert str(error.value) == (
        "`data.interactions` must have events for train, validation and test: none fell into "
        "test. Received: validation from 2001-09-10T00:00:00Z, test from 2030-01-01T00:00:00Z. "
        "Set `examples.validation_start` and `examples.test_start`, or, without these, other "
        "`examples.validation_fraction` and `examples.test_fraction`."
    )
    daily = dataclasses.replace(tables, interactions="{date}", window=WindowConfig(days=2))
    with pytest.raises(ValueError, match="Set `examples.validation_days` and `examples.test_days`"):
        check_counts(counts, daily, "aside")
