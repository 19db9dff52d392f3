"""A user's mistake in the tables is one line that names the table and the remedy."""

import dataclasses

import pytest

from tests.tfx_pipeline.examples.random_users import item_rows, write_jsonl
from tfx_pipeline.config.data import DataConfig
from tfx_pipeline.tables.inputs import check_counts, find_tables
from trainer.contract.features import Domain, FeatureSpec, ProfileFeature

SPEC = FeatureSpec(domains=(Domain("clicked"),), profile=(ProfileFeature("gender"),))
DATA = DataConfig("i.csv", "t.csv", "u.csv")
GOOD = {
    "users.total": 50,
    "examples.train": 100,
    "examples.validation": 5,
    "examples.test": 10,
    "rows.read.interactions": 1000,
    "rows.read.items": 100,
    "rows.read.users": 50,
}


@pytest.fixture
def data(tmp_path):
    event = {"user_id": "u", "item_id": "i0", "timestamp": 1_000_000_000, "clicked": 1}
    return DataConfig(
        interactions=write_jsonl(tmp_path / "log" / "part-1.jsonl", [event]),
        items=write_jsonl(tmp_path / "items.jsonl", item_rows()),
        users=write_jsonl(tmp_path / "users.jsonl", [{"user_id": "u", "gender": "F"}]),
    )


def test_tables_are_found_as_file_folder_or_glob(data, tmp_path):
    second = write_jsonl(tmp_path / "log" / "part-2.jsonl", [{"user_id": "v"}])
    (tmp_path / "log" / "part-2.jsonl").write_text((tmp_path / "log" / "part-1.jsonl").read_text())
    expected = [data.interactions, second]
    for pattern in (str(tmp_path / "log"), str(tmp_path / "log" / "part-*.jsonl")):
        found = find_tables(dataclasses.replace(data, interactions=pattern), SPEC)
        assert found == {
            "interactions": expected,
            "items": [data.items],
            "users": [data.users],
        }


def test_profile_feature_must_be_a_column_of_users(data):
    spec = dataclasses.replace(SPEC, profile=(ProfileFeature("gender"), ProfileFeature("zip")))
    with pytest.raises(ValueError, match=r"must have the column `zip` \(users\)") as error:
        find_tables(data, spec)
    assert data.users in str(error.value)


@pytest.mark.parametrize("table", ["interactions", "items", "users"])
def test_table_without_file_rows_or_column_is_one_line(data, table, tmp_path):
    missing = dataclasses.replace(data, **{table: str(tmp_path / "none.csv")})
    with pytest.raises(ValueError, match="No file or folder at .*none.csv") as error:
        find_tables(missing, SPEC)
    assert "\n" not in str(error.value)

    empty = write_jsonl(tmp_path / "empty.jsonl", [])
    with pytest.raises(ValueError, match=f"The {table} table at .*empty.jsonl has no row"):
        find_tables(dataclasses.replace(data, **{table: empty}), SPEC)

    wrong = write_jsonl(tmp_path / "wrong.jsonl", [{"something": 1}])
    with pytest.raises(ValueError, match=rf"must have the column .* \({table}\)"):
        find_tables(dataclasses.replace(data, **{table: wrong}), SPEC)


def test_good_counts_pass():
    check_counts(GOOD, DATA, "aside")


def test_rejected_rows_up_to_the_threshold_pass():
    data = dataclasses.replace(DATA, max_rejected_fraction=0.05)
    check_counts({**GOOD, "rows.rejected_of.interactions.unknown_item": 50}, data, "aside")
    counts = {**GOOD, "rows.rejected_of.interactions.unknown_item": 51}
    with pytest.raises(ValueError, match="51 of 1000 rows of interactions were rejected, 5.00%"):
        check_counts(counts, data, "aside")


def test_too_many_rejected_rows_name_reasons_place_and_remedy():
    counts = {
        **GOOD,
        "rows.rejected_of.items": 7,
        "rows.rejected_of.items.duplicate_item": 2,
        "rows.rejected_of.items.missing_item_id": 5,
    }
    with pytest.raises(ValueError) as error:
        check_counts(counts, DATA, "aside")
    assert str(error.value) == (
        "`data.max_rejected_fraction` must not be exceeded: 7 of 100 rows of items were rejected, "
        "1.00% are allowed (missing_item_id: 5, duplicate_item: 2). They are in aside/: mend them, "
        "or raise the threshold."
    )


def test_threshold_is_one_of_each_table():
    # 7 of 1150 rows in all are few, but 7 of 50 users are not.
    counts = {**GOOD, "rows.rejected_of.users.duplicate_user": 7}
    with pytest.raises(ValueError, match="7 of 50 rows of users were rejected"):
        check_counts(counts, DATA, "aside")


def test_no_bad_row_is_allowed_at_threshold_zero():
    data = dataclasses.replace(DATA, max_rejected_fraction=0.0)
    check_counts(GOOD, data, "aside")
    with pytest.raises(ValueError, match="1 of 1000 rows of interactions"):
        check_counts({**GOOD, "rows.rejected_of.interactions.unknown_item": 1}, data, "aside")


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_part_without_a_user_is_named(split):
    counts = {name: count for name, count in GOOD.items() if name != f"examples.{split}"}
    with pytest.raises(ValueError, match=f"no user fell into {split}. Received: 50 users in all"):
        check_counts(counts, DATA, "aside")
