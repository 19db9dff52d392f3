"""Every reason by value; each row is good or rejected, exactly once."""

import json
import pickle

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest

from tfx_pipeline.tables import schema
from tfx_pipeline.tables.item_catalogue import build_item_catalogue
from tfx_pipeline.tables.row_batches import FileBatch, count_reasons, rejected_rows
from tfx_pipeline.tables.validate import (
    INTERACTION_ROWS,
    validate_interactions,
    validate_items,
    validate_users,
)
from trainer.contract.tag_normalization import TagNormalization

NOW = 1_700_000_000
GOOD = {"user_id": "u", "item_id": "a", "timestamp": 1_000_000_000, "clicked": 1}


def _batch(table, columns):
    rows = pa.RecordBatch.from_arrays(
        [c if isinstance(c, pa.Array) else pa.array(c) for c in columns.values()],
        names=list(columns),
    )
    numbers = np.arange(1, rows.num_rows + 1)
    nothing = rejected_rows(table, "f", [], [], [])
    return FileBatch(table, "f", rows, numbers, nothing)


def _one(**changes):
    return _batch("interactions", {name: [value] for name, value in {**GOOD, **changes}.items()})


@pytest.fixture(scope="module")
def catalogue():
    items = _batch("items", {"item_id": ["a", "b"], "tags": ["x", "y"], "category": ["", ""]})
    return build_item_catalogue([validate_items(items)])[0]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"user_id": None}, "missing_user_id"),
        ({"user_id": "  "}, "missing_user_id"),
        ({"item_id": ""}, "missing_item_id"),
        ({"user_id": 1.5}, "wrong_type"),
        ({"timestamp": None}, "unparsable_timestamp"),
        ({"timestamp": "yesterday"}, "unparsable_timestamp"),
        ({"timestamp": 300_000_000_000}, "unparsable_timestamp"),
        ({"timestamp": (NOW + 1) * 1000}, "timestamp_in_future"),
        ({"timestamp": NOW + 1}, "timestamp_in_future"),
        ({"timestamp": 0}, "timestamp_not_positive"),
        ({"timestamp": -5.5}, "timestamp_not_positive"),
        ({"clicked": 2}, "clicked_not_0_or_1"),
        ({"clicked": None}, "clicked_not_0_or_1"),
        ({"clicked": "yes"}, "clicked_not_0_or_1"),
        ({"clicked": 0.5}, "clicked_not_0_or_1"),
        ({"weight": "heavy"}, "wrong_type"),
        ({"weight": -1}, "wrong_type"),
        ({"weight": float("inf")}, "wrong_type"),
        ({"weight": 1e300}, "wrong_type"),
        ({"item_id": "zzz"}, "unknown_item"),
        ({"user_id": None, "clicked": 7}, "missing_user_id"),
    ],
)
def test_bad_interaction_is_rejected_with_its_reason(catalogue, changes, reason):
    result = validate_interactions(_one(**changes), now=NOW, item_index=catalogue)
    assert result.rows.num_rows == 0
    (rejected,) = result.rejected.to_pylist()
    assert (rejected["table"], rejected["file"], rejected["row"]) == ("interactions", "f", 1)
    assert rejected["reason"] == reason
    assert json.loads(rejected["values"]) == {**GOOD, **changes}


@pytest.mark.parametrize(
    "changes",
    [
        {"timestamp": "1000000000"},
        {"timestamp": 1_000_000_000.7},
        {"timestamp": pa.scalar(1_000_000_000_000_000, pa.timestamp("us", "UTC"))},
        {"clicked": True},
        {"clicked": "1"},
        {"clicked": "True"},
        {"clicked": 1.0},
        {"weight": None},
        {"weight": ""},
        {"weight": "1"},
        {"weight": True},
    ],
)
def test_good_interaction_is_kept_whatever_its_types(catalogue, changes):
    columns = {
        name: pa.array([value.as_py()], value.type) if isinstance(value, pa.Scalar) else [value]
        for name, value in {**GOOD, **changes}.items()
    }
    batch = _batch("interactions", columns)
    result = validate_interactions(batch, now=NOW, item_index=catalogue)
    assert result.rows.schema == INTERACTION_ROWS
    assert result.rows.to_pylist() == [dict(GOOD, item_index=0, weight=1.0)]


def test_integer_ids_are_their_decimal_strings():
    result = validate_interactions(_one(user_id=12, item_id=7.0), now=NOW)
    assert result.rows.column("user_id").to_pylist() == ["12"]
    assert result.rows.column("item_id").to_pylist() == ["7"]
    assert result.rows.column("item_index").to_pylist() == [-1]


def test_rejected_times_beyond_the_calendar_are_still_written():
    column = pa.array([10**13], pa.timestamp("s"))
    batch = _batch("interactions", {**{k: [v] for k, v in GOOD.items()}, "timestamp": column})
    result = validate_interactions(batch, now=NOW)
    assert json.loads(result.rejected.column("values")[0].as_py())["timestamp"] == 10**13


_CELLS = st.one_of(
    st.none(),
    st.sampled_from(["u", "a", "b", "", " ", "1", "0", "1000", "true", "nan", "1e5", "é"]),
    st.text(max_size=3),
)


@hypothesis.settings(deadline=None, max_examples=60)
@hypothesis.given(st.lists(st.tuples(_CELLS, _CELLS, _CELLS, _CELLS, _CELLS), max_size=12))
def test_each_interaction_is_kept_or_rejected_exactly_once(rows):
    names = ["user_id", "item_id", "timestamp", "clicked", "weight"]
    columns = {n: pa.array([row[i] for row in rows], pa.string()) for i, n in enumerate(names)}
    result = validate_interactions(_batch("interactions", columns), now=NOW)
    numbers = result.row_numbers.tolist() + result.rejected.column("row").to_pylist()
    assert sorted(numbers) == list(range(1, len(rows) + 1))
    assert result.num_read == len(rows)
    assert set(count_reasons(result.rejected)) <= set(schema.REJECT_REASONS)
    for number, row in zip(result.row_numbers, result.rows.to_pylist(), strict=True):
        assert row["user_id"] == rows[number - 1][0]
        assert 0 < row["timestamp"] <= NOW
        assert row["clicked"] in (0, 1)
        assert row["weight"] >= 0


@hypothesis.settings(deadline=None, max_examples=60)
@hypothesis.given(st.lists(st.tuples(_CELLS, st.none() | st.lists(_CELLS, max_size=4)), max_size=8))
def test_each_item_is_kept_or_rejected_exactly_once(rows):
    columns = {
        "item_id": pa.array([row[0] for row in rows], pa.string()),
        "tags": pa.array([row[1] for row in rows], pa.list_(pa.string())),
        "category": pa.array([None] * len(rows), pa.string()),
    }
    result = validate_items(_batch("items", columns))
    numbers = result.row_numbers.tolist() + result.rejected.column("row").to_pylist()
    assert sorted(numbers) == list(range(1, len(rows) + 1))
    for tags in result.rows.column("tags").to_pylist():
        assert len(set(tags)) == len(tags) > 0
        assert all(tag and tag == tag.strip() for tag in tags)


def test_items_are_rejected_with_their_reasons():
    tags = pa.array([["x"], ["x"], ["  ", None], None, ["x"], ["X ", "x", "y"]])
    items = _batch(
        "items",
        {
            "item_id": ["", None, "c", "d", "e", "f"],
            "tags": tags,
            "category": ["m"] * 5 + [None],
            "title": [None] * 5 + ["T"],
        },
    )
    result = validate_items(items)
    assert result.rejected.column("reason").to_pylist() == [
        "missing_item_id",
        "missing_item_id",
        "no_tags",
        "no_tags",
    ]
    assert result.rows.to_pylist() == [
        {"item_id": "e", "tags": ["x"], "category": "m", "title": ""},
        {"item_id": "f", "tags": ["x", "y"], "category": "", "title": "T"},
    ]


def test_items_of_the_wrong_type_are_rejected():
    for name, cell in [("tags", 3), ("category", ["m"]), ("title", ["t"]), ("item_id", True)]:
        row = {"item_id": "a", "tags": ["x"], "category": "m", "title": "t", name: cell}
        result = validate_items(_batch("items", {key: [value] for key, value in row.items()}))
        assert count_reasons(result.rejected) == {"wrong_type": 1}, name


def test_tag_case_stays_when_the_options_say_so():
    items = _batch("items", {"item_id": ["a"], "tags": ["X/ x"], "category": [""]})
    result = validate_items(
        items, normalization=TagNormalization(trim=True, lowercase=False), list_separator="/"
    )
    assert result.rows.column("tags").to_pylist() == [["X", "x"]]


def test_users_are_strings_and_rejected_with_their_reasons():
    users = _batch(
        "users",
        {"user_id": ["a", None, "c"], "age": [25.0, 1.0, None], "segment": ["x", "y", None]},
    )
    result = validate_users(users)
    assert result.rows.to_pylist() == [
        {"user_id": "a", "age": "25", "segment": "x"},
        {"user_id": "c", "age": "", "segment": ""},
    ]
    assert count_reasons(result.rejected) == {"missing_user_id": 1}
    wrong = validate_users(_batch("users", {"user_id": ["a", "b"], "likes": [["x"], None]}))
    assert count_reasons(wrong.rejected) == {"wrong_type": 1}
    assert wrong.rows.column("likes").to_pylist() == [""]


def test_unreadable_rows_stay_among_the_rejected():
    batch = _one(clicked=3)
    broken = rejected_rows("interactions", "f", [9], ["malformed_row"], ['"x"'])
    batch = FileBatch(batch.table, batch.file, batch.rows, batch.row_numbers, broken)
    result = validate_interactions(batch, now=NOW)
    assert count_reasons(result.rejected) == {"malformed_row": 1, "clicked_not_0_or_1": 1}


def test_batches_survive_pickling():
    result = validate_interactions(_one(), now=NOW)
    again = pickle.loads(pickle.dumps(result))
    assert again.rows.to_pylist() == result.rows.to_pylist()
