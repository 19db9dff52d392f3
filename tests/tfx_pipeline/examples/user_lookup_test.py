"""A user read from the tables has the features of the pipeline's snapshot *now*."""

import dataclasses

import pytest

from serving.client import EventFeatures
from tests.tfx_pipeline.examples.example_runs import run_examples, write_tables
from tests.tfx_pipeline.examples.random_users import (
    item_rows,
    random_log,
    with_attributes,
    write_jsonl,
)
from tests.trainer.random_logs import SPEC, START, distinct_events
from tfx_pipeline.config.examples import ExamplesConfig
from tfx_pipeline.config.pipeline import PipelineConfig
from tfx_pipeline.examples.user_lookup import find_user, read_events, to_records
from trainer.contract.history import UserEvents, feature_values
from trainer.contract.tag_normalization import TagNormalization

LOG = random_log(5, num_users=12, num_events=200)
# Tags as people type them: the readers trim and fold them.
RAW_ITEMS = [
    {**row, "tags": [f" {tag.upper()}\u00a0" for tag in row["tags"]]} for row in item_rows()
]
CONFIG = ExamplesConfig(num_shards=2, max_events_per_user=12)
# Of several rows for one user both ways must choose the same: orders of strings differ where one
# is the beginning of the other, and beyond ASCII.
USERS = [
    {"user_id": "u1", "gender": "a", "age": "1"},
    {"user_id": "u1", "gender": "a b", "age": "2"},
    {"user_id": "u2", "gender": "é", "age": ""},
    {"user_id": "u2", "gender": "z", "age": ""},
    {"user_id": "u3", "gender": "x", "age": "10"},
    {"user_id": "u3", "gender": "x", "age": "9"},
    {"user_id": "u4", "gender": "F", "age": "7"},
    {"user_id": "cold", "gender": "M", "age": "7"},
]


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    data = write_tables(folder, LOG, USERS, RAW_ITEMS)
    return PipelineConfig("log", data, SPEC, examples=CONFIG)


@pytest.fixture(scope="module")
def instances(tables, tmp_path_factory):
    run = run_examples(tmp_path_factory.mktemp("out"), tables.data, SPEC, CONFIG)
    return {instance["user_id"]: instance for instance in run.instances}


def test_found_user_has_the_features_of_the_instance(tables, instances):
    assert {"cold", "u1", "u2", "u3"} <= set(instances)
    for user, instance in instances.items():
        found = find_user(tables, user)
        assert found.now == max(row["timestamp"] for row in LOG) + 1
        values = feature_values(found.events, found.profile, found.now, SPEC)
        assert {"user_id": user, **values} == instance


def test_caller_with_the_raw_events_makes_the_instance_of_the_pipeline(tables, instances):
    features = EventFeatures(SPEC, TagNormalization())
    raw_tags = {row["item_id"]: row["tags"] for row in RAW_ITEMS}
    names, num_events = ("timestamp", "item_id", "clicked", "weight"), 0
    for user, instance in instances.items():
        found = find_user(tables, user)
        rows = distinct_events([row for row in LOG if row["user_id"] == user])
        events = [
            {**with_attributes(dict(zip(names, row, strict=True))), "tags": raw_tags[row[1]]}
            for row in rows[-CONFIG.max_events_per_user :]
        ]
        num_events += len(events)
        expected = {name: value for name, value in instance.items() if name != "user_id"}
        assert features.instance(events, found.profile, found.now) == expected
    assert num_events > 50


def test_records_of_a_found_user_mean_the_same(tables):
    """A caller who adds fresh events to the stored ones does so."""
    for user in {row["user_id"] for row in LOG}:
        found = find_user(tables, user)
        again = UserEvents.from_records(to_records(found.events))
        assert len(again) == len(found.events) <= CONFIG.max_events_per_user
        for at in (found.now, START + 3 * 86_400):
            assert feature_values(again, found.profile, at, SPEC) == feature_values(
                found.events, found.profile, at, SPEC
            )


def test_user_without_events_or_without_profile_is_found(tables):
    cold = find_user(tables, "cold")
    assert len(cold.events) == 0
    assert cold.profile == {"gender": "M", "age": "7"}
    unlisted = next(u for u in (row["user_id"] for row in LOG) if u not in {"u1", "u2", "u3", "u4"})
    assert find_user(tables, unlisted).profile is None
    assert len(find_user(tables, unlisted).events) > 0


def test_unknown_user_is_refused_with_the_tables_named(tables):
    with pytest.raises(ValueError, match="`user` must be in .*interactions.jsonl or .*users.jsonl"):
        find_user(tables, "nobody")


def test_missing_table_is_one_line(tables):
    data = dataclasses.replace(tables.data, users="nowhere.csv")
    with pytest.raises(ValueError, match="No file or folder at nowhere.csv"):
        find_user(dataclasses.replace(tables, data=data), "u1")


# --- fresh events ---

FRESH = [
    {"item_id": "i0", "timestamp": START + 5, "clicked": 1, "weight": 0.5},
    {"item_id": "i2", "timestamp": START + 9, "clicked": 0, "weight": 2.0},
]


def test_fresh_events_get_the_attributes_of_their_items(tables, tmp_path):
    path = write_jsonl(tmp_path / "fresh.jsonl", FRESH)
    records = read_events(path, tables)
    expected = [with_attributes(row) for row in FRESH]
    assert [{**row, "tags": sorted(row["tags"])} for row in records] == expected
    events = UserEvents.from_records(records)
    values = feature_values(events, None, START + 10, SPEC)
    assert (values["clicked_tags"], values["clicked_tags_weights"]) == (["a", "b"], [1.0, 1.0])


def test_fresh_events_need_no_weight_and_no_user(tables, tmp_path):
    path = tmp_path / "fresh.csv"
    path.write_text(f"item_id,timestamp,clicked\ni0,{START + 5},1\n")
    (record,) = read_events(str(path), tables)
    assert (record["item_id"], record["weight"], record["category"]) == ("i0", 1.0, "x")


def test_user_column_of_fresh_events_is_passed_over(tables, tmp_path):
    rows = [{"user_id": None, **FRESH[0]}, {"user_id": "someone", **FRESH[1]}]
    path = write_jsonl(tmp_path / "fresh.jsonl", rows)
    assert [row["item_id"] for row in read_events(path, tables)] == ["i0", "i2"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"item_id": "nothing"}, "unknown_item"),
        ({"clicked": 3}, "clicked_not_0_or_1"),
        ({"timestamp": "soon"}, "unparsable_timestamp"),
    ],
)
def test_bad_fresh_event_is_refused_with_its_row(tables, tmp_path, change, reason):
    path = write_jsonl(tmp_path / "fresh.jsonl", [FRESH[0], {**FRESH[1], **change}])
    with pytest.raises(ValueError, match=f"`events` must have only valid rows. .*row 2: {reason}"):
        read_events(path, tables)


def test_items_of_the_log_are_those_of_the_table():
    assert {row["item_id"] for row in LOG} <= {row["item_id"] for row in item_rows()}
