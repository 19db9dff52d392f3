"""The whole way from tables to files on Beam in memory: a small log by hand."""

import dataclasses
import json

import pytest

from tests.tfx_pipeline.examples.example_runs import run_examples, write_tables
from tfx_pipeline.config.examples import ExamplesConfig
from tfx_pipeline.examples.moments import user_part
from tfx_pipeline.tables.inputs import check_counts
from trainer.contract import features as f
from trainer.contract.features import Domain, FeatureSpec, ProfileFeature

CONFIG = ExamplesConfig(
    snapshots_per_user=3, max_train_impressions=8, max_label_tags=6, num_shards=3
)


def user_of(part):
    return next(f"{part}-{i}" for i in range(1000) if user_part(f"{part}-{i}", CONFIG) == part)


TRAIN, VALIDATION, TEST = (user_of(part) for part in f.SPLITS)


def event(user, item, timestamp, clicked=1, **others):
    return {"user_id": user, "item_id": item, "timestamp": timestamp, "clicked": clicked, **others}


SMALL_SPEC = FeatureSpec(
    profile=(ProfileFeature("gender"),),
    domains=(Domain("clicked"), Domain("skipped", events="skipped")),
)
SMALL_ITEMS = [
    {"item_id": "i1", "tags": [" Jazz ", "pop"], "category": "m"},
    {"item_id": "i2", "tags": ["jazz", "JAZZ"], "category": ""},
    {"item_id": "i3", "tags": ["rare"], "category": "m"},
    {"item_id": "i3", "tags": ["rare"], "category": "z"},
    {"item_id": "i4", "tags": [], "category": "m"},
]
# Rows 1 to 9 are good (one is a duplicate), the others are not.
SMALL_LOG = [
    event(TRAIN, "i1", 100),
    event(TRAIN, "i2", 200, clicked=0),
    event(TRAIN, "i2", 300),
    event(TRAIN, "i2", 300),
    event(TEST, "i1", 100),
    event(TEST, "i2", 110, clicked=0),
    event(TEST, "i3", 120),
    event(VALIDATION, "i1", 100),
    event("unlisted", "i1", 150, clicked=0),
    event("", "i1", 100),
    event(TEST, "i9", 100),
    event(TEST, "i4", 100),
    event(TEST, "i1", 300_000_000_000),  # in no unit a time after 1980
    event(TEST, "i1", 90_000_000_000),
    event(TEST, "i1", 100, clicked=2),
    event(TEST, "i1", "soon"),
]
SMALL_USERS = [
    {"user_id": TRAIN, "gender": "F"},
    {"user_id": TEST, "gender": "M"},
    {"user_id": TEST, "gender": "A"},
    {"user_id": VALIDATION, "gender": None},
    {"user_id": "cold", "gender": "F"},
]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    data = write_tables(folder, SMALL_LOG, SMALL_USERS, SMALL_ITEMS)
    return run_examples(folder / "out", data, SMALL_SPEC, CONFIG), data


def test_counts_by_hand(small):
    run, _ = small
    train = run.counts["examples.train"]
    assert {name: n for name, n in run.counts.items() if name != "examples.train"} == {
        "examples.now": 5,
        "examples.test": 1,
        "examples.validation": 1,
        "rows.clicks": 5,
        "rows.duplicates": 1,
        "rows.read.interactions": 16,
        "rows.read.items": 5,
        "rows.read.users": 5,
        "rows.rejected.clicked_not_0_or_1": 1,
        "rows.rejected.duplicate_item": 1,
        "rows.rejected.duplicate_user": 1,
        "rows.rejected.missing_user_id": 1,
        "rows.rejected.no_tags": 1,
        "rows.rejected.timestamp_in_future": 1,
        "rows.rejected.unknown_item": 1,
        "rows.rejected.unparsable_timestamp": 2,
        "rows.rejected.untagged_item": 1,
        "rows.rejected_of.interactions": 7,
        "rows.rejected_of.interactions.clicked_not_0_or_1": 1,
        "rows.rejected_of.interactions.missing_user_id": 1,
        "rows.rejected_of.interactions.timestamp_in_future": 1,
        "rows.rejected_of.interactions.unknown_item": 1,
        "rows.rejected_of.interactions.unparsable_timestamp": 2,
        "rows.rejected_of.interactions.untagged_item": 1,
        "rows.rejected_of.items": 2,
        "rows.rejected_of.items.duplicate_item": 1,
        "rows.rejected_of.items.no_tags": 1,
        "rows.rejected_of.users": 1,
        "rows.rejected_of.users.duplicate_user": 1,
        "rows.skips": 3,
        "users.total": 5,
        "users.without_events": 1,
        "users.without_profile": 1,
    }
    unlisted = user_part("unlisted", CONFIG)
    assert unlisted == "train"  # it adds one snapshot, the other training user up to three
    assert 2 <= train <= 4


def test_tag_statistics_count_training_users_only(small):
    run, _ = small
    assert run.tags == {
        # `unlisted` skipped i1; of the duplicates one counts.
        "jazz": {"clicks": 2, "impressions": 4, "items": 2, "category": "m"},
        "pop": {"clicks": 1, "impressions": 2, "items": 1, "category": "m"},
        "rare": {"clicks": 0, "impressions": 0, "items": 1, "category": "m"},
    }


def test_items_have_clicks_of_training_users_and_normalised_tags(small):
    run, _ = small
    assert run.items == [
        {"item_id": "i1", "clicks": 1, "tags": ["jazz", "pop"]},
        {"item_id": "i2", "clicks": 1, "tags": ["jazz"]},
        {"item_id": "i3", "clicks": 0, "tags": ["rare"]},
    ]


def test_held_out_example_by_hand(small):
    run, _ = small
    (example,) = run.examples("test")
    assert example == {
        "user_id": [TEST],
        "snapshot_time": [120],  # 0.8 of three events: the third
        "gender": ["A"],  # of two rows the smaller
        "clicked": ["jazz", "pop"],
        "clicked_weights": [1.0, 1.0],
        "skipped": ["jazz"],
        "skipped_weights": [1.0],
        "label_tags": ["rare"],
        "label_tags_weights": [1.0],
        "impression_tags": ["rare"],
        "impression_num_tags": [1],
        "impression_clicked": [1.0],
        "impression_weights": [1.0],
        "history_tags": ["jazz", "pop"],
        "history_tags_counts": [1.0, 1.0],
        "history_num_events": [2],
        "label_items": ["i3"],
        "history_items": ["i1"],  # i2 was skipped
    }


def test_now_is_a_second_after_the_last_good_event(small):
    run, _ = small
    assert {example["snapshot_time"][0] for example in run.examples("now")} == {301}


def test_user_missing_in_users_is_unknown_and_cold_user_is_there(small):
    run, _ = small
    now = {instance["user_id"]: instance for instance in run.instances}
    assert set(now) == {TRAIN, VALIDATION, TEST, "unlisted", "cold"}
    assert now["unlisted"]["gender"] == ""
    assert now["unlisted"]["skipped"] == ["jazz", "pop"]
    assert now[VALIDATION]["gender"] == ""
    assert now["cold"] == {
        "user_id": "cold",
        "gender": "F",
        "clicked": [],
        "clicked_weights": [],
        "skipped": [],
        "skipped_weights": [],
    }


def test_rejected_rows_lie_aside_with_place_reason_and_values(small):
    run, data = small
    found = {(row["table"], row["row"]): row for row in run.rejected}
    assert {place: row["reason"] for place, row in found.items() if place[0] != "users"} == {
        ("interactions", 10): "missing_user_id",
        ("interactions", 11): "unknown_item",
        ("interactions", 12): "untagged_item",
        ("interactions", 13): "unparsable_timestamp",
        ("interactions", 14): "timestamp_in_future",
        ("interactions", 15): "clicked_not_0_or_1",
        ("interactions", 16): "unparsable_timestamp",
        ("items", 4): "duplicate_item",
        ("items", 5): "no_tags",
    }
    assert found[("users", 2)]["reason"] == "duplicate_user"
    assert json.loads(found[("users", 2)]["values"]) == {"user_id": TEST, "gender": "M"}
    assert '"clicked": ' in found[("interactions", 15)]["values"]
    assert {row["file"] for row in found.values()} == {data.interactions, data.items, data.users}


def test_too_many_bad_rows_fail_with_reason_and_remedy(small):
    run, data = small
    with pytest.raises(ValueError) as error:
        check_counts(run.counts, data, run.outputs.rejected)
    message = str(error.value)
    assert "6 of 16 rows of interactions were rejected, 1.00% are allowed" in message
    assert "unknown_item: 1" in message and "untagged" not in message
    assert f"They are in {run.outputs.rejected}/: mend them, or raise the threshold." in message
    check_counts(run.counts, dataclasses.replace(data, max_rejected_fraction=0.5), "")


def test_nothing_half_written_is_left(small):
    run, _ = small
    files = [path.name for path in run.folder.rglob("*") if path.is_file()]
    assert files and not [name for name in files if ".tmp" in name or "temp" in name]


def test_good_log_leaves_no_rejected_rows(tmp_path):
    data = write_tables(tmp_path, [event(TEST, "i1", 1)], [{"user_id": TEST, "gender": "F"}])
    run = run_examples(tmp_path / "out", data, SMALL_SPEC, CONFIG)
    assert run.rejected == []
    assert not [name for name in run.counts if "rejected" in name or "duplicates" in name]
    assert "users.without_profile" not in run.counts


def test_log_without_a_good_row_still_counts_and_is_refused(tmp_path):
    rows = [event("", "i1", 1), event(TEST, "nothing", 1)]
    data = write_tables(tmp_path, rows, [{"user_id": TEST, "gender": "F"}])
    run = run_examples(tmp_path / "out", data, SMALL_SPEC, CONFIG)
    with pytest.raises(ValueError, match="2 of 2 rows of interactions were rejected"):
        check_counts(run.counts, data, "aside")


def test_file_has_its_name_only_when_it_is_whole(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("tfx_pipeline.examples.writer.serialize_columns", fail)
    data = write_tables(tmp_path, SMALL_LOG, SMALL_USERS, SMALL_ITEMS)
    with pytest.raises(OSError, match="disk full"):
        run_examples(tmp_path / "out", data, SMALL_SPEC, CONFIG)
    assert not [*tmp_path.glob("out/examples/*/*.gz"), *tmp_path.glob("out/instances/*.jsonl")]
