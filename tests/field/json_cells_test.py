"""A cell is read alike whatever its neighbours, its batch, its file and the format are."""

import decimal
import io
import json
import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tagtower_client.event_times import event_seconds
from tagtower_client.id_text import id_text
from tfx_pipeline.tables import cells, schema, times
from tfx_pipeline.tables.arrow_files import check_table, read_table
from tfx_pipeline.tables.json_lines import read_json_lines
from tfx_pipeline.tables.validate import validate_interactions, validate_items, validate_users
from trainer.contract.history import UserEvents
from trainer.contract.tag_normalization import TagNormalization

NOW = 1_792_654_024
MISSING, WRONG = "missing", "wrong"
TABLE = schema.TableSchema(
    "cells",
    (
        schema.Column("row", schema.NUMBER, True, ""),
        schema.Column("id", schema.ID, True, "", True),
        schema.Column("text", schema.TEXT, True, "", True),
        schema.Column("number", schema.NUMBER, True, "", True),
        schema.Column("time", schema.TIMESTAMP, True, "", True),
        schema.Column("list", schema.LIST, True, "", True),
    ),
)
# A JSON cell as an id, as a category and as a number, whatever its neighbours are.
SCALARS = [
    (123, "123", "123", 123.0),
    (123.0, "123", "123", 123.0),
    (-0.0, "0", "0", 0.0),
    (1e3, "1000", "1000", 1000.0),
    (1.5, WRONG, "1.5", 1.5),
    (1e20, WRONG, "1e+20", 1e20),
    (2**53 + 1, "9007199254740993", "9007199254740993", float(2**53 + 1)),
    (2**63 - 1, "9223372036854775807", "9223372036854775807", 2.0**63),
    (2**63, "9223372036854775808", "9223372036854775808", 2.0**63),
    (10**30, "1" + "0" * 30, "1" + "0" * 30, 1e30),
    (True, WRONG, "true", 1.0),
    (False, WRONG, "false", 0.0),
    (None, MISSING, "", MISSING),
    (math.nan, MISSING, "", MISSING),
    (math.inf, WRONG, "inf", WRONG),
    ("", MISSING, "", MISSING),
    (" ", MISSING, " ", MISSING),
    ("123", "123", "123", 123.0),
    ("123.0", "123.0", "123.0", 123.0),
    ("007", "007", "007", 7.0),
    ("true", "true", "true", WRONG),
    ("NaN", "NaN", "NaN", WRONG),
    ("Zürich", "Zürich", "Zürich", WRONG),
    ([1], WRONG, WRONG, WRONG),
    ({"a": 1}, WRONG, WRONG, WRONG),
]
TIMES = [
    (NOW, NOW),
    (float(NOW) + 0.5, NOW),
    (NOW * 1000, NOW),
    (str(NOW), NOW),
    ("2026-10-22 07:27:04", NOW),
    (None, MISSING),
    (math.nan, MISSING),
    (True, WRONG),
    ("soon", WRONG),
    (10**19, WRONG),
]
LISTS = [
    (["Jazz", "pop"], ["jazz", "pop"]),
    ([1, 1.0, "1"], ["1"]),
    ([1.5, True, None, "x"], ["1.5", "true", "x"]),
    ([], []),
    (None, []),
    ("a|b", ["a", "b"]),
    (5, WRONG),
    (["a", ["b"]], WRONG),
]
CELLS = {
    "id": [(cell, expected) for cell, expected, _, _ in SCALARS],
    "text": [(cell, expected) for cell, _, expected, _ in SCALARS],
    "number": [(cell, expected) for cell, _, _, expected in SCALARS],
    "time": TIMES,
    "list": LISTS,
}


def _numbers(found):
    return [
        MISSING if is_missing else WRONG if is_invalid else value
        for value, is_missing, is_invalid in zip(*found, strict=True)
    ]


def _texts(texts, is_wrong, is_missing=None):
    is_missing = [False] * len(is_wrong) if is_missing is None else is_missing
    return [
        WRONG if wrong else MISSING if missing else text
        for text, missing, wrong in zip(texts.to_pylist(), is_missing, is_wrong, strict=True)
    ]


def _read_columns(rows):
    """Returns the cells of every column of a batch, as they are read."""
    ids, is_missing, is_wrong = cells.as_id(rows.column("id"))
    lists = cells.as_lists(rows.column("list"), separator="|", normalization=TagNormalization())
    return {
        "id": _texts(ids, is_wrong, is_missing),
        "text": _texts(*cells.as_text(rows.column("text"))),
        "number": _numbers(cells.as_numbers(rows.column("number"))),
        "time": _numbers(times.as_seconds(rows.column("time"))),
        "list": _texts(*lists[:2]),
    }


def _read(cells_of_rows, batch_rows):
    """Returns the cells of each row; a row that the reader sets aside has none."""
    lines = b"".join(
        json.dumps({"row": i, **row}).encode() + b"\n" for i, row in cells_of_rows.items()
    )
    found = {}
    for batch in read_json_lines(io.BytesIO(lines), table=TABLE, file="f", batch_rows=batch_rows):
        columns = _read_columns(batch.rows)
        numbers = cells.as_numbers(batch.rows.column("row")).values.astype(int).tolist()
        for place, row in enumerate(numbers):
            found[row] = {name: values[place] for name, values in columns.items()}
    return found


@pytest.mark.parametrize(
    ("name", "cell", "expected"),
    [(name, cell, expected) for name, pairs in CELLS.items() for cell, expected in pairs],
)
def test_cell_alone(name, cell, expected):
    found = _read({0: {name: cell}}, 1)
    if isinstance(cell, (list, dict)) and expected == WRONG or (name, cell) == ("list", 5):
        assert found == {}  # set aside by the reader, with `wrong_type`
    else:
        assert found[0][name] == expected


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_cell_among_any_others_in_any_batch_and_order_is_what_it_is_alone(data):
    row = st.fixed_dictionaries(
        {}, optional={name: st.sampled_from(pairs) for name, pairs in CELLS.items()}
    )
    rows = data.draw(st.lists(row, min_size=1, max_size=12))
    order = data.draw(st.permutations(range(len(rows))))
    batch_rows = data.draw(st.integers(1, len(rows)))
    found = _read({i: {name: pair[0] for name, pair in rows[i].items()} for i in order}, batch_rows)
    for i, pairs in enumerate(rows):
        is_aside = any(
            expected == WRONG and (isinstance(cell, (list, dict)) or name == "list")
            for name, (cell, expected) in pairs.items()
        )
        assert (i in found) == (not is_aside)
        for name, (_, expected) in pairs.items():
            assert is_aside or found[i][name] == expected
        for name in set(CELLS) - set(pairs):
            empty = {"text": "", "list": []}.get(name, MISSING)
            assert is_aside or found[i][name] == empty


# --- one id, whatever the format ---

D = decimal.Decimal
SAME_IDS = [
    (7, ["7"], [pa.int8(), pa.uint64(), pa.int64(), pa.float32(), pa.float64()]),
    (7.0, ["7"], [pa.float64(), pa.float32()]),
    (
        "7",
        ["7"],
        [pa.string(), pa.large_string(), pa.binary(), pa.dictionary(pa.int8(), pa.string())],
    ),
    (D("7.00"), ["7"], [pa.decimal128(10, 2), pa.decimal256(60, 2)]),
    (D("12.50"), ["12.5"], [pa.decimal128(10, 2), pa.decimal128(30, 9)]),
    (2**63, [str(2**63)], [pa.uint64(), pa.decimal128(38, 0)]),
    (1.5, WRONG, [pa.float64(), pa.float32()]),
    (math.nan, MISSING, [pa.float64()]),
    (None, MISSING, [pa.int64(), pa.string(), pa.decimal128(3, 1), pa.null()]),
]


@pytest.mark.parametrize(
    ("value", "expected", "kind"),
    [(value, expected, kind) for value, expected, kinds in SAME_IDS for kind in kinds],
)
def test_id_is_the_same_in_every_format_and_for_a_live_caller(tmp_path, value, expected, kind):
    path = tmp_path / "users.parquet"
    pq.write_table(pa.table({"user_id": pa.array([value], kind)}), path)
    (batch,) = read_table(str(path), schema.USERS)
    good = validate_users(batch)
    if expected in (WRONG, MISSING):
        reason = {WRONG: "wrong_type", MISSING: "missing_user_id"}[expected]
        assert good.rejected.column("reason").to_pylist() == [reason]
        assert id_text(value) is None
        return
    assert good.rows.column("user_id").to_pylist() == expected
    assert id_text(value) == expected[0]
    if not isinstance(value, D):
        assert _read({0: {"id": value}}, 1)[0]["id"] == expected[0]


@pytest.mark.parametrize(("cell", "expected"), CELLS["id"])
def test_live_caller_and_table_agree_on_an_id(cell, expected):
    assert id_text(cell) == (None if expected in (WRONG, MISSING) else expected)


@pytest.mark.parametrize(("cell", "expected"), TIMES)
def test_live_caller_and_table_agree_on_a_time(cell, expected):
    assert event_seconds(cell) == (None if expected in (WRONG, MISSING) else expected)


def test_event_of_a_live_caller_has_the_item_id_of_the_tables():
    event = {"timestamp": NOW, "clicked": 1, "tags": ["a"]}
    events = UserEvents.from_records([{**event, "item_id": i} for i in (7, 7.0, "7")])
    assert len(events) == 1
    assert events.attributes["item_id"].vocabulary.tolist() == ["7"]
    with pytest.raises(ValueError, match="`item_id` must be text or a whole number. Received: "):
        UserEvents.from_records([{**event, "item_id": None}])


def _write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_users_meet_their_profile_whatever_else_is_in_the_batch(tmp_path):
    """One text id once turned every `123.0` of its batch into an unknown user."""
    event = {"item_id": "i", "timestamp": NOW, "clicked": 1}
    log = _write_lines(
        tmp_path / "log.jsonl", [{"user_id": u, **event} for u in (123.0, "guest-1", 45.0, True)]
    )
    users = _write_lines(tmp_path / "users.jsonl", [{"user_id": 123.0}, {"user_id": 45}])
    (batch,) = read_table(log, schema.INTERACTIONS)
    events = validate_interactions(batch, now=NOW)
    (batch,) = read_table(users, schema.USERS)
    assert events.rows.column("user_id").to_pylist() == ["123", "guest-1", "45"]
    assert validate_users(batch).rows.column("user_id").to_pylist() == ["123", "45"]
    assert [(r["row"], r["reason"], r["values"]) for r in events.rejected.to_pylist()] == [
        (4, "wrong_type", json.dumps({"user_id": True, **event})),
    ]


# --- columns of the whole file, and of all files ---


def test_column_that_comes_after_a_hundred_rows_is_read(tmp_path):
    rows = [{"item_id": i, "tags": ["a"]} for i in range(300)]
    rows[250]["category"] = "music"
    path = _write_lines(tmp_path / "items.jsonl", rows)
    categories = [
        category
        for batch in read_table(path, schema.ITEMS, batch_rows=100)
        for category in validate_items(batch).rows.column("category").to_pylist()
    ]
    assert categories == [""] * 250 + ["music"] + [""] * 49


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_column_that_a_part_lacks_is_empty_there(tmp_path, suffix):
    parts = [{"user_id": ["a"]}, {"user_id": ["b"], "country": ["at"]}]
    for i, part in enumerate(parts):
        path = tmp_path / f"part-{i}{suffix}"
        if suffix == ".parquet":
            pq.write_table(pa.table(part), path)
        elif suffix == ".csv":
            path.write_text("\n".join([",".join(part), ",".join(v[0] for v in part.values())]))
        else:
            _write_lines(path, [{name: values[0] for name, values in part.items()}])
    rows = [
        row
        for batch in read_table(str(tmp_path), schema.users_table(["country"]))
        for row in validate_users(batch).rows.to_pylist()
    ]
    assert rows == [{"user_id": "a", "country": ""}, {"user_id": "b", "country": "at"}]


def test_part_whose_column_is_of_type_null_is_empty_there(tmp_path):
    names = ["item_id", "tags", "category"]
    empty = [pa.array(["i1"]), pa.nulls(1), pa.nulls(1)]
    full = [pa.array(["i2"]), pa.array([["x"]]), pa.array(["m"])]
    for i, columns in enumerate([empty, full]):
        pq.write_table(pa.table(columns, names=names), tmp_path / f"part-{i}.parquet")
    first, second = read_table(str(tmp_path), schema.ITEMS)
    assert validate_items(first).rejected.column("reason").to_pylist() == ["no_tags"]
    assert validate_items(second).rows.to_pylist() == [
        {"item_id": "i2", "tags": ["x"], "category": "m"}
    ]


def test_column_that_no_part_has_is_refused_once(tmp_path):
    for i in range(2):
        _write_lines(tmp_path / f"part-{i}.jsonl", [{"user_id": i, "land": "at"}])
    with pytest.raises(ValueError) as error:
        check_table(str(tmp_path), schema.users_table(["country"]))
    assert str(error.value) == (
        f"{tmp_path} must have the column `country` (users). Received: user_id, land. "
        "Rename or add it."
    )


def test_column_that_may_not_be_empty_is_missed_in_every_part(tmp_path):
    event = {"user_id": "u", "item_id": "i", "timestamp": NOW, "clicked": 1}
    _write_lines(tmp_path / "part-0.jsonl", [event])
    part = _write_lines(tmp_path / "part-1.jsonl", [{**event, "user_id": None, "klick": 1}] * 150)
    assert check_table(str(tmp_path), schema.INTERACTIONS)
    del event["clicked"]
    _write_lines(tmp_path / "part-1.jsonl", [{**event, "klick": 1}] * 150)
    with pytest.raises(ValueError, match=f"{part} must have the column `clicked`"):
        check_table(str(tmp_path), schema.INTERACTIONS)
