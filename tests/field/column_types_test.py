"""An undeclared column is not read; a declared one is read, or refused before any row."""

import datetime
import decimal
import json
import uuid

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tfx_pipeline.config.data import DataConfig
from tfx_pipeline.config.pipeline import PipelineConfig
from tfx_pipeline.examples.readers import PROFILES, ReadUsers
from tfx_pipeline.examples.shuffle import IN_BEAM, open_parcel
from tfx_pipeline.examples.user_lookup import find_user
from tfx_pipeline.tables import schema
from tfx_pipeline.tables.arrow_files import FileSplit, check_table, read_table
from tfx_pipeline.tables.declared_columns import check_types
from tfx_pipeline.tables.inputs import users_of
from tfx_pipeline.tables.row_batches import FileBatch, rejected_rows, rows_as_json
from tfx_pipeline.tables.validate import validate_interactions, validate_items, validate_users
from trainer.contract.features import Domain, FeatureSpec, ProfileFeature

NOW = 1_792_654_024
D = decimal.Decimal
UUIDS = [uuid.UUID(int=7 << 64), uuid.UUID("6f1c2a4e-0b7d-4e7a-9a51-3f7a5a9f0c11")]
USERS = schema.users_table(["country"])
INTERACTIONS = {
    "user_id": ["u1", None],
    "item_id": ["i1", "i1"],
    "timestamp": [NOW, NOW],
    "clicked": [1, 0],
}
# Columns that real tables have; the last value is often one that Python cannot hold.
STRANGERS = {
    "price": pa.array([D("1.20"), D("-3.00")], pa.decimal128(10, 2)),
    "duration": pa.array([1, 2**62], pa.duration("s")),
    "image": pa.array([b"\x89PNG\xff", b"\x00"], pa.binary()),
    "hash": pa.array([b"0123456789ab", None], pa.binary(12)),
    "likes": pa.array([["a"], None]),
    "address": pa.array([{"city": "x"}, None]),
    "counts": pa.array([[("a", 1)], []], pa.map_(pa.string(), pa.int64())),
    "born": pa.array([-(10**9), 0], pa.int32()).cast(pa.date32()),
    "seen": pa.array([9 * 10**18, 0], pa.timestamp("s")),
    "history": pa.array([[9 * 10**18], None], pa.list_(pa.timestamp("s"))),
    "embedding": pa.array([[1.0, 2.0], None], pa.list_(pa.float32(), 2)),
    "text": pa.Array.from_buffers(pa.string(), 2, pa.array([b"\xff", b"ok"]).buffers()),
}


def _write(folder, columns, name="part.parquet"):
    path = folder / name
    pq.write_table(pa.table(columns), path)
    return str(path)


# --- not declared ---


@pytest.mark.parametrize("name", STRANGERS)
def test_column_that_nobody_declared_neither_crashes_nor_rejects(tmp_path, name):
    path = _write(tmp_path, {**INTERACTIONS, name: STRANGERS[name]})
    check_table(path, schema.INTERACTIONS)
    (batch,) = read_table(path, schema.INTERACTIONS)
    checked = validate_interactions(batch, now=NOW)
    assert checked.rows.column("user_id").to_pylist() == ["u1"]
    (rejected,) = checked.rejected.to_pylist()
    assert (rejected["row"], rejected["reason"]) == (2, "missing_user_id")
    assert json.loads(rejected["values"]) == {
        "user_id": None,
        "item_id": "i1",
        "timestamp": NOW,
        "clicked": 0,
    }


@pytest.mark.parametrize("name", STRANGERS)
def test_profile_column_that_no_feature_declares_rejects_no_user(tmp_path, name):
    columns = {"user_id": ["a", "b"], "country": ["at", "de"], name: STRANGERS[name]}
    (batch,) = read_table(_write(tmp_path, columns), USERS)
    checked = validate_users(batch)
    assert checked.rejected.num_rows == 0
    assert checked.rows.to_pylist() == [
        {"user_id": "a", "country": "at"},
        {"user_id": "b", "country": "de"},
    ]


def test_undeclared_csv_column_may_hold_any_bytes_and_stand_there_twice(tmp_path):
    path = tmp_path / "users.csv"
    path.write_bytes(b"user_id,photo,country,photo\na,\xff\x00,at,\xfe\nb,,de,\n")
    (batch,) = read_table(str(path), USERS)
    checked = validate_users(batch)
    assert checked.rejected.num_rows == 0
    assert checked.rows.column("country").to_pylist() == ["at", "de"]


def test_undeclared_json_member_may_be_anything(tmp_path):
    path = tmp_path / "users.jsonl"
    path.write_text(
        '{"user_id": "a", "country": "at", "note": "\\ud800", "deep": [{"x": [1, "a"]}]}\n'
        '{"user_id": "b", "country": "de", "note": 1e999, "deep": 12345678901234567890123}\n'
    )
    (batch,) = read_table(str(path), USERS)
    checked = validate_users(batch)
    assert checked.rejected.num_rows == 0
    assert checked.rows.column("country").to_pylist() == ["at", "de"]


@pytest.mark.parametrize("name", STRANGERS)
def test_rejected_row_can_be_shown_whatever_is_in_it(name):
    rows = pa.RecordBatch.from_arrays([pa.array(["a", "b"]), STRANGERS[name]], names=["id", name])
    shown = [json.loads(row) for row in rows_as_json(rows, np.array([1, 0]))]
    assert [row["id"] for row in shown] == ["b", "a"]
    expected = {
        "price": ["-3.00", "1.20"],
        "image": ["\x00", "\ufffdPNG\ufffd"],
        "hash": [None, "0123456789ab"],
        "likes": [None, ["a"]],
        "address": [None, {"city": "x"}],
        "counts": [[], [["a", 1]]],
        "born": ["1970-01-01", "a value of date32[day] that cannot be shown"],
        "seen": [0, 9 * 10**18],
        "history": [None, "a value of list<item: timestamp[s]> that cannot be shown"],
        "embedding": [None, [1.0, 2.0]],
        "text": ["ok", "a value of string that cannot be shown"],
    }.get(name)
    assert expected is None or [row[name] for row in shown] == expected


def test_pipeline_and_query_read_the_declared_profile_alone(tmp_path):
    users = {"user_id": ["a", "b"], "country": ["at", "de"], "likes": STRANGERS["likes"]}
    data = DataConfig(
        interactions=_write(tmp_path, {**INTERACTIONS, "user_id": ["a", "b"]}, "log.parquet"),
        items=_write(
            tmp_path, {"item_id": ["i1"], "tags": [["t"]], "category": ["m"]}, "i.parquet"
        ),
        users=_write(tmp_path, users, "users.parquet"),
    )
    spec = FeatureSpec(profile=(ProfileFeature("country"),), domains=(Domain("clicked"),))
    assert find_user(PipelineConfig("log", data, spec), "a").profile == {"country": "at"}

    reader = ReadUsers(users_of(spec), 1, IN_BEAM)
    found = [each for each in reader.work(FileSplit(data.users)) if isinstance(each, tuple)]
    ((shard, (kind, parcel)),) = found
    assert (shard, kind) == (0, PROFILES)
    rows = open_parcel(parcel).to_pylist()
    assert [(row["user_id"], row["profile.country"]) for row in rows] == [("a", "at"), ("b", "de")]
    assert "profile.likes" not in rows[0]


# --- declared: what it becomes ---


class _Name(pa.ExtensionType):
    def __init__(self):
        super().__init__(pa.string(), "test.name")

    def __arrow_ext_serialize__(self):
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type, serialized):
        return cls()


PROFILE_VALUES = [
    (pa.array([D("7.00"), D("12.50"), D("-0.00"), None], pa.decimal128(9, 2)), "7 12.5 0 "),
    (pa.array([D("0.0000001"), D("1E+3")], pa.decimal128(30, 7)), "0.0000001 1000"),
    (pa.array([u.bytes for u in UUIDS] + [None], pa.binary(16)), f"{UUIDS[0]} {UUIDS[1]} "),
    (pa.array([7, None], pa.uint64()), "7 "),
    (pa.array([0.1, 1e-7, 2.0], pa.float32()), "0.1 1e-07 2"),
    (pa.array([0.1, 1e-7, 2.0], pa.float64()), "0.1 1e-07 2"),
    (pa.array([True, None]), "true "),
    (pa.array(["at", None, "at"]).dictionary_encode(), "at  at"),
    (pa.array([D("1.50"), None]).dictionary_encode(), "1.5 "),
    (pa.array([b"at", None], pa.large_binary()), "at "),
    (pa.ExtensionArray.from_storage(_Name(), pa.array(["at", None])), "at "),
    (pa.array([datetime.date(2026, 10, 22)]), "2026-10-22"),
    (pa.array([datetime.time(7, 27)], pa.time32("s")), "07:27:00"),
    (pa.array([datetime.time(7, 27)], pa.time64("us")), "07:27:00"),
    *(
        (pa.array([NOW * 10**digits], pa.timestamp(unit, tz=zone)), "2026-10-22T07:27:04")
        for unit, digits in (("s", 0), ("ms", 3), ("us", 6), ("ns", 9))
        for zone in (None, "Asia/Tokyo")
    ),
]


@pytest.mark.parametrize(
    ("column", "expected"), PROFILE_VALUES, ids=lambda v: str(getattr(v, "type", v))
)
def test_profile_value_of_any_scalar_type(column, expected):
    rows = pa.RecordBatch.from_arrays(
        [pa.array([str(i) for i in range(len(column))]), column], names=["user_id", "country"]
    )
    check_types("f", rows.schema, USERS)
    nothing = rejected_rows("users", "f", [], [], [])
    batch = FileBatch("users", "f", rows, np.arange(len(column)), nothing)
    values = validate_users(batch).rows.column("country").to_pylist()
    assert [value.replace(" ", "T") for value in values] == expected.split(" ")


def test_time_that_no_calendar_has_rejects_its_row_alone(tmp_path):
    seen = pa.array([9 * 10**18, NOW * 10**6], pa.timestamp("us"))
    (batch,) = read_table(_write(tmp_path, {"user_id": ["a", "b"], "country": seen}), USERS)
    checked = validate_users(batch)
    assert checked.rows.to_pylist() == [{"user_id": "b", "country": "2026-10-22 07:27:04"}]
    assert checked.rejected.column("reason").to_pylist() == ["wrong_type"]


def test_uuid_of_a_file_is_the_id_as_people_write_it(tmp_path):
    log = {**INTERACTIONS, "user_id": pa.array([UUIDS[1].bytes, None], pa.binary(16))}
    (batch,) = read_table(_write(tmp_path, log), schema.INTERACTIONS)
    events = validate_interactions(batch, now=NOW)
    assert events.rows.column("user_id").to_pylist() == [str(UUIDS[1])]
    (batch,) = read_table(
        _write(tmp_path, {"user_id": [str(UUIDS[1])]}, "users.parquet"), schema.USERS
    )
    assert validate_users(batch).rows.column("user_id").to_pylist() == [str(UUIDS[1])]


LISTS = [
    pa.list_(pa.string()),
    pa.large_list(pa.large_string()),
    pa.list_(pa.dictionary(pa.int8(), pa.string())),
    pa.list_(pa.binary()),
]


@pytest.mark.parametrize("kind", LISTS, ids=str)
def test_tags_in_lists_of_any_layout(tmp_path, kind):
    tags = [["Jazz", "pop"], None, ["a", "a"]]
    if kind == pa.list_(pa.binary()):
        tags = [None if each is None else [t.encode() for t in each] for each in tags]
    items = {"item_id": ["1", "2", "3"], "tags": pa.array(tags, kind), "category": ["m"] * 3}
    (batch,) = read_table(_write(tmp_path, items), schema.ITEMS)
    checked = validate_items(batch)
    assert checked.rows.column("tags").to_pylist() == [["jazz", "pop"], ["a"]]
    assert checked.rejected.column("reason").to_pylist() == ["no_tags"]


def test_tags_in_lists_of_fixed_size(tmp_path):
    tags = pa.array([["Jazz", "pop"], ["a", "a"]], pa.list_(pa.string(), 2))
    items = {"item_id": ["1", "2"], "tags": tags, "category": ["m"] * 2}
    (batch,) = read_table(_write(tmp_path, items), schema.ITEMS)
    assert validate_items(batch).rows.column("tags").to_pylist() == [["jazz", "pop"], ["a"]]


def test_tags_that_are_decimals(tmp_path):
    tags = pa.array([[D("7.00"), D("12.50")], [D("7.00")]], pa.list_(pa.decimal128(9, 2)))
    items = {"item_id": ["1", "2"], "tags": tags, "category": ["m"] * 2}
    (batch,) = read_table(_write(tmp_path, items), schema.ITEMS)
    assert validate_items(batch).rows.column("tags").to_pylist() == [["7", "12.5"], ["7"]]


NUMBERS = [
    pa.array([2, 1], pa.uint64()),
    pa.array([2.0, 1.0], pa.float32()),
    pa.array([D("2.00"), D("1.00")]),
    pa.array(["2", "1"]),
    pa.array([2, 1]).dictionary_encode(),
]


@pytest.mark.parametrize("column", NUMBERS, ids=lambda column: str(column.type))
def test_weight_of_any_type_of_number(tmp_path, column):
    path = _write(tmp_path, {**INTERACTIONS, "user_id": ["u", "v"], "weight": column})
    (batch,) = read_table(path, schema.INTERACTIONS)
    assert validate_interactions(batch, now=NOW).rows.column("weight").to_pylist() == [2.0, 1.0]


def test_text_that_is_none_rejects_its_row_alone(tmp_path):
    log = {**INTERACTIONS, "user_id": STRANGERS["text"]}
    (batch,) = read_table(_write(tmp_path, log), schema.INTERACTIONS)
    checked = validate_interactions(batch, now=NOW)
    assert checked.rows.column("user_id").to_pylist() == ["ok"]
    assert checked.rejected.column("reason").to_pylist() == ["wrong_type"]


# --- declared: what is refused, before any row is read ---

REFUSED = [
    ("interactions", "user_id", pa.array([True, False])),
    ("interactions", "user_id", STRANGERS["hash"]),
    ("interactions", "item_id", pa.array([NOW, NOW], pa.timestamp("s"))),
    ("interactions", "item_id", STRANGERS["likes"]),
    ("interactions", "timestamp", pa.array([True, False])),
    ("interactions", "timestamp", pa.array([1, 2], pa.duration("s"))),
    ("interactions", "timestamp", pa.array([1, 2], pa.time32("s"))),
    ("interactions", "clicked", STRANGERS["address"]),
    ("interactions", "weight", pa.array([1, 2], pa.date32())),
    ("items", "tags", pa.array([1, 2])),
    ("items", "tags", STRANGERS["counts"]),
    ("items", "tags", pa.array([[["a"]], None])),
    ("items", "tags", pa.array([[{"name": "a"}], None])),
    ("items", "category", STRANGERS["likes"]),
    ("users", "country", STRANGERS["duration"]),
    ("users", "country", STRANGERS["hash"]),
    ("users", "country", STRANGERS["address"]),
]
GOOD = {
    "interactions": (schema.INTERACTIONS, INTERACTIONS),
    "items": (
        schema.ITEMS,
        {"item_id": ["1", "2"], "tags": [["a"], ["b"]], "category": ["m", "m"]},
    ),
    "users": (USERS, {"user_id": ["a", "b"], "country": ["at", "de"]}),
}


def test_column_without_a_value_may_have_any_type(tmp_path):
    """pandas writes such columns where no item of a part has a tag, or where there is no item."""
    no_tags = pa.array([None, None], pa.float64())
    _write(tmp_path, {**GOOD["items"][1], "tags": no_tags}, "a.parquet")
    pq.write_table(
        pa.table({**GOOD["items"][1], "tags": [1.5, None]}).slice(0, 0), tmp_path / "b.parquet"
    )
    _write(tmp_path, GOOD["items"][1], "c.parquet")
    check_table(str(tmp_path), schema.ITEMS)
    first, second = read_table(str(tmp_path), schema.ITEMS)
    assert validate_items(first).rejected.column("reason").to_pylist() == ["no_tags"] * 2
    assert validate_items(second).rows.column("tags").to_pylist() == [["a"], ["b"]]


@pytest.mark.parametrize(("name", "column", "values"), REFUSED, ids=str)
def test_type_that_cannot_be_read_is_one_line_with_file_column_and_type(
    tmp_path, name, column, values
):
    table, good = GOOD[name]
    path = _write(tmp_path, {**good, column: values})
    with pytest.raises(ValueError) as error:
        check_table(path, table)
    message = str(error.value)
    kind = str(pq.read_schema(path).field(column).type)
    assert message.startswith(f"{path} must have ") and "\n" not in message
    assert f"in the column `{column}` ({name}). Received: the type {kind}. Write" in message
