"""Examples of random logs: the common function, no leak, caps, independence of files."""

import csv
import dataclasses
import random

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from tests.tfx_pipeline.examples.example_runs import Run, run_examples, write_tables
from tests.tfx_pipeline.examples.random_users import (
    item_rows,
    random_log,
    with_attributes,
    write_jsonl,
)
from tests.trainer.random_logs import SPEC, distinct_events, naive_feature_values
from tfx_pipeline.config.data import DataConfig
from tfx_pipeline.config.examples import ExamplesConfig
from tfx_pipeline.examples.moments import user_part
from tfx_pipeline.examples.shuffle import Workplace
from tfx_pipeline.examples.write_examples import ALL_SPLITS
from trainer.contract import features as f
from trainer.contract.history import UserEvents, feature_values

CONFIG = ExamplesConfig(
    snapshots_per_user=3, max_train_impressions=8, max_label_tags=6, num_shards=3
)
FEATURES = {*SPEC.raw_names}


def random_users(seed, rows):
    """Returns profiles of two thirds of the users, and of some without an event."""
    rng = np.random.default_rng(seed)
    known = sorted({row["user_id"] for row in rows})
    users = [user for user in known if rng.random() < 0.67] + ["cold-1", "cold-2"]
    return [
        {"user_id": user, "gender": str(rng.choice(["F", "M", ""])), "age": int(rng.integers(9))}
        for user in users
    ]


LOGS = {seed: random_log(seed) for seed in (0, 1)}
USERS = {seed: random_users(seed, rows) for seed, rows in LOGS.items()}


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[int, Run]:
    found = {}
    for seed, rows in LOGS.items():
        folder = tmp_path_factory.mktemp(f"log-{seed}")
        data = write_tables(folder, rows, USERS[seed])
        found[seed] = run_examples(folder / "out", data, SPEC, CONFIG)
    return found


def only(example):
    """Returns lists of one value of a parsed example as that value."""
    single = {f.USER_ID, f.SNAPSHOT_TIME, "gender", "age"}
    return {name: v[0] if name in single else v for name, v in example.items()}


@pytest.mark.parametrize("seed", LOGS)
@pytest.mark.parametrize("split", ALL_SPLITS)
def test_written_features_equal_the_one_function_on_raw_rows(runs, seed, split):
    """A caller with a user's events computes the same features as the pipeline."""
    profiles = {row["user_id"]: row for row in USERS[seed]}
    examples = [only(example) for example in runs[seed].examples(split)]
    assert examples
    for example in examples:
        user, at = example[f.USER_ID], example[f.SNAPSHOT_TIME]
        rows = [with_attributes(row) for row in LOGS[seed] if row["user_id"] == user]
        profile = profiles.get(user)
        profile = profile and {"gender": profile["gender"], "age": str(profile["age"])}
        written = {name: example[name] for name in FEATURES}
        assert written == feature_values(UserEvents.from_records(rows), profile, at, SPEC)
        assert written == naive_feature_values(rows, profile, at, SPEC)


@pytest.mark.parametrize("seed", LOGS)
def test_every_user_is_in_one_part_and_seen_now_once(runs, seed):
    users = {
        split: [example[f.USER_ID][0] for example in runs[seed].examples(split)]
        for split in ALL_SPLITS
    }
    with_events = {row["user_id"] for row in LOGS[seed]}
    parts = [set(users[split]) for split in f.SPLITS]
    assert sum(map(len, parts)) == len(set.union(*parts)) == len(with_events)
    assert all(user_part(user, CONFIG) == part for part in f.SPLITS for user in users[part])
    everyone = with_events | {row["user_id"] for row in USERS[seed]}
    assert sorted(users["now"]) == sorted(everyone)
    for split in ("validation", "test"):
        assert len(users[split]) == len(set(users[split]))


@pytest.mark.parametrize("seed", LOGS)
def test_labels_and_history_split_the_events_at_the_snapshot(runs, seed):
    for split in ("validation", "test"):
        for example in runs[seed].examples(split):
            time = example[f.SNAPSHOT_TIME][0]
            rows = [row for row in LOGS[seed] if row["user_id"] == example[f.USER_ID][0]]
            events = distinct_events(rows)
            later = [event for event in events if event[0] >= time]
            assert example[f.HISTORY_NUM_EVENTS] == [len(events) - len(later)]
            assert example[f.IMPRESSION_CLICKED] == [float(event[2]) for event in later]


@pytest.mark.parametrize("seed", LOGS)
def test_caps_hold_in_what_is_written(runs, seed):
    dropped = 0
    for example in runs[seed].examples("train"):
        rows = [row for row in LOGS[seed] if row["user_id"] == example[f.USER_ID][0]]
        later = [e for e in distinct_events(rows) if e[0] >= example[f.SNAPSHOT_TIME][0]]
        shown = len(example[f.IMPRESSION_NUM_TAGS])
        assert shown == min(len(later), CONFIG.max_train_impressions)
        assert len(example[f.LABEL_TAGS]) <= CONFIG.max_label_tags
        assert len(example[f.IMPRESSION_TAGS]) == sum(example[f.IMPRESSION_NUM_TAGS])
        dropped += len(later) - shown
        for domain in SPEC.domains:
            assert len(example[domain.name]) <= domain.max_values
    assert runs[seed].counts["examples.impressions_beyond_cap"] == dropped > 0


@pytest.mark.parametrize("seed", LOGS)
def test_instances_are_the_snapshots_now(runs, seed):
    now = [only(example) for example in runs[seed].examples("now")]
    expected = [{k: v for k, v in e.items() if k != f.SNAPSHOT_TIME} for e in now]
    assert runs[seed].instances == expected
    times = {example[f.SNAPSHOT_TIME] for example in now}
    assert times == {max(row["timestamp"] for row in LOGS[seed]) + 1}


@pytest.mark.parametrize("seed", LOGS)
def test_duplicates_are_counted(runs, seed):
    users = {row["user_id"] for row in LOGS[seed]}
    num_distinct = sum(
        len(distinct_events([row for row in LOGS[seed] if row["user_id"] == user]))
        for user in users
    )
    assert runs[seed].counts["rows.duplicates"] == len(LOGS[seed]) - num_distinct >= 10
    without = users - {row["user_id"] for row in USERS[seed]}
    assert runs[seed].counts["users.without_profile"] == len(without) > 0


def test_files_are_in_order_of_users(runs):
    for split in ALL_SPLITS:
        keys = [
            (example[f.USER_ID][0], example[f.SNAPSHOT_TIME][0])
            for example in runs[0].examples(split)
        ]
        descents = sum(a >= b for a, b in zip(keys, keys[1:], strict=False))
        assert descents < CONFIG.num_shards  # one order in each file


def test_same_tables_give_the_same_bytes(runs, tmp_path):
    data = write_tables(tmp_path, LOGS[0], USERS[0])
    assert run_examples(tmp_path / "out", data, SPEC, CONFIG).contents() == runs[0].contents()


def test_shuffle_through_files_and_threads_give_the_same_bytes(runs, tmp_path):
    shuffle_dir = tmp_path / "shuffle"
    shuffle_dir.mkdir()
    data = scattered(tmp_path / "tables", 0, "parquet")
    workplace = Workplace(str(shuffle_dir), num_threads=3)
    run = run_examples(tmp_path / "out", data, SPEC, CONFIG, workplace)
    assert run.contents() == runs[0].contents()
    assert [*shuffle_dir.iterdir()]  # it went that way


def write_csv(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def scattered(folder, seed, kind) -> DataConfig:
    """Writes the tables of a log in another order, in several files of another format."""
    shuffle = random.Random(kind).shuffle
    tables = {"interactions": list(LOGS[seed]), "items": item_rows(), "users": list(USERS[seed])}
    for rows in tables.values():
        shuffle(rows)
    for name, rows in tables.items():
        for part in range(3):
            path = folder / name / f"part-{part}.{kind}"
            path.parent.mkdir(parents=True, exist_ok=True)
            mine = rows[part::3]
            if kind == "parquet":
                pa.parquet.write_table(pa.Table.from_pylist(mine), path, row_group_size=17)
            elif kind == "csv":
                write_csv(path, [{k: _cell(v) for k, v in row.items()} for row in mine])
            else:
                write_jsonl(path, mine)
    return DataConfig(*(str(folder / name) for name in ("interactions", "items", "users")))


def _cell(value):
    return "|".join(value) if isinstance(value, list) else value


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
def test_order_files_and_format_of_the_rows_do_not_matter(runs, tmp_path, kind):
    data = scattered(tmp_path, 1, kind)
    run = run_examples(tmp_path / "out", data, SPEC, CONFIG)
    assert run.contents() == runs[1].contents()


def test_latest_events_of_a_user_are_kept_whatever_the_files(tmp_path):
    cap = 5
    config = dataclasses.replace(CONFIG, max_events_per_user=cap)
    one = run_examples(tmp_path / "one", scattered(tmp_path / "a", 0, "parquet"), SPEC, config)
    other = run_examples(
        tmp_path / "other", write_tables(tmp_path / "b", LOGS[0], USERS[0]), SPEC, config
    )
    # Beyond the cap an old duplicate may count as dropped: their sum is the same.
    gone = ("rows.duplicates", "rows.beyond_user_cap")
    counts = [run.counts for run in (one, other)]
    assert len({sum(c[name] for name in gone) for c in counts}) == 1
    contents = [run.contents() for run in (one, other)]
    for content in contents:
        del content["summary/counts.json"]
    assert contents[0] == contents[1]
    for example in map(only, one.examples("now")):
        user, at = example[f.USER_ID], example[f.SNAPSHOT_TIME]
        rows = distinct_events([row for row in LOGS[0] if row["user_id"] == user])[-cap:]
        kept = [
            with_attributes(
                dict(zip(("timestamp", "item_id", "clicked", "weight"), row, strict=True))
            )
            for row in rows
        ]
        expected = feature_values(UserEvents.from_records(kept), None, at, SPEC)
        for domain in SPEC.domains:
            assert example[domain.name] == expected[domain.name]


def test_examples_of_a_user_do_not_depend_on_the_others(runs, tmp_path):
    kept = sorted({row["user_id"] for row in LOGS[0]})[::2]
    rows = [row for row in LOGS[0] if row["user_id"] in kept]
    run = run_examples(tmp_path / "out", write_tables(tmp_path, rows, USERS[0]), SPEC, CONFIG)
    for split in f.SPLITS:
        expected = [e for e in runs[0].examples(split) if e[f.USER_ID][0] in kept]
        assert run.examples(split) == expected


def test_events_after_the_cut_do_not_reach_the_written_features(runs, tmp_path):
    """The tables have other clicks and skips after every held-out user's cut."""
    held_out = {"validation", "test"}
    cuts = {
        example[f.USER_ID][0]: example[f.SNAPSHOT_TIME][0]
        for split in held_out
        for example in runs[1].examples(split)
    }
    rows = [
        {**row, "clicked": 1 - row["clicked"]}
        if row["timestamp"] >= cuts.get(row["user_id"], np.inf)
        else row
        for row in LOGS[1]
    ]
    assert rows != LOGS[1]
    run = run_examples(tmp_path / "out", write_tables(tmp_path, rows, USERS[1]), SPEC, CONFIG)
    history = {f.HISTORY_TAGS, f.HISTORY_TAG_COUNTS, f.HISTORY_NUM_EVENTS, f.HISTORY_ITEMS}
    for split in held_out:
        before, after = runs[1].examples(split), run.examples(split)
        assert len(before) == len(after) > 0
        for one, other in zip(before, after, strict=True):
            for name in FEATURES | history | {f.SNAPSHOT_TIME}:
                assert one[name] == other[name], name
        assert [e[f.IMPRESSION_CLICKED] for e in before] != [e[f.IMPRESSION_CLICKED] for e in after]
