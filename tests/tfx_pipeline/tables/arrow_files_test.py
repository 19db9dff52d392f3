"""Files of every format give the same rows, and a faulty file is one clear line."""

import gzip
import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from tfx_pipeline.tables import arrow_files, schema, table_files
from tfx_pipeline.tables.row_batches import concat_rejected, count_reasons
from tfx_pipeline.tables.validate import validate_interactions, validate_items, validate_users
from trainer.contract.tag_normalization import TagNormalization

ITEMS = [
    {"item_id": "a", "tags": ["Jazz", "blues"], "category": "music"},
    {"item_id": "b", "tags": ["chess"], "category": ""},
    {"item_id": "c", "tags": ["go", "Chess"], "category": "games"},
]
EVENTS = [
    {"user_id": f"u{i % 3}", "item_id": "abc"[i % 3], "timestamp": 1000 + i, "clicked": i % 2}
    for i in range(25)
]


_CODECS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}


def _write(folder, name, rows, suffix):
    path = folder / f"{name}{suffix}"
    stream = io.StringIO()
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=7)
        return str(path)
    if ".csv" in suffix:
        stream.write(",".join(rows[0]) + "\n")
        for row in rows:
            cells = ["|".join(v) if isinstance(v, list) else str(v) for v in row.values()]
            stream.write(",".join(cells) + "\n")
    else:
        stream.writelines(json.dumps(row) + "\n" for row in rows)
    # By Arrow's codecs, in one piece: `.csv` and `.jsonl` have none.
    with pa.output_stream(str(path), compression=_CODECS.get(path.suffix)) as packed:
        packed.write(stream.getvalue().encode())
    return str(path)


def _read(path, table, validate, **kwargs):
    rows, numbers, rejected = [], [], []
    for batch in arrow_files.read_table(str(path), table, batch_rows=4):
        assert batch.rows.num_rows <= 4
        good = validate(batch, **kwargs)
        rows += good.rows.to_pylist()
        numbers += good.row_numbers.tolist()
        rejected.append(good.rejected)
    return rows, numbers, concat_rejected(rejected)


@pytest.mark.parametrize("suffix", list(table_files.SUFFIXES))
def test_every_format_gives_the_same_rows(tmp_path, suffix):
    items, _, _ = _read(_write(tmp_path, "items", ITEMS, suffix), schema.ITEMS, validate_items)
    assert items == [
        {"item_id": "a", "tags": ["jazz", "blues"], "category": "music"},
        {"item_id": "b", "tags": ["chess"], "category": ""},
        {"item_id": "c", "tags": ["go", "chess"], "category": "games"},
    ]
    path = _write(tmp_path, "events", EVENTS, suffix)
    events, numbers, rejected = _read(path, schema.INTERACTIONS, validate_interactions, now=2000)
    assert events == [dict(row, item_index=-1, weight=1.0) for row in EVENTS]
    assert numbers == list(range(1, 26))
    assert rejected.num_rows == 0


@pytest.mark.parametrize("suffix", list(table_files.SUFFIXES))
def test_numeric_profile_gives_the_same_strings(tmp_path, suffix):
    people = [{"user_id": 1, "age": 25, "height": 1.5}, {"user_id": 2, "age": 35, "height": 2.0}]
    users = schema.users_table(["age", "height"])
    rows, _, _ = _read(_write(tmp_path, "users", people, suffix), users, validate_users)
    assert rows == [
        {"user_id": "1", "age": "25", "height": "1.5"},
        {"user_id": "2", "age": "35", "height": "2.0" if ".csv" in suffix else "2"},
    ]


def test_folder_gives_sorted_table_files_without_hidden_ones(tmp_path):
    (tmp_path / "b").mkdir()
    for name in ["c.csv", "a.parquet", "b/x.jsonl.gz", "_SUCCESS", "_x.csv", ".y.csv", "note.txt"]:
        (tmp_path / name).touch()
    expected = [str(tmp_path / name) for name in ["a.parquet", "b/x.jsonl.gz", "c.csv"]]
    assert table_files.list_files(str(tmp_path)) == expected
    assert table_files.list_files(str(tmp_path / "*.csv")) == [str(tmp_path / "c.csv")]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("missing", "No file or folder"), ("*.csv", "No table file"), ("note.txt", "by its suffix")],
)
def test_no_table_file_is_refused(tmp_path, pattern, message):
    (tmp_path / "note.txt").touch()
    with pytest.raises(ValueError, match=message):
        table_files.list_files(str(tmp_path / pattern))


def test_no_parquet_is_refused(tmp_path):
    path = tmp_path / "items.parquet"
    path.write_text("item_id,tags,category\n")
    with pytest.raises(ValueError, match="items.parquet is not a readable Parquet file"):
        arrow_files.check_table(str(path), schema.ITEMS)


def test_truncated_gzip_is_refused(tmp_path):
    path = tmp_path / "items.csv.gz"
    path.write_bytes(gzip.compress(b"item_id,tags,category\n" + b"a,b,c\n" * 1000)[:-20])
    with pytest.raises(ValueError, match="items.csv.gz cannot be read"):
        list(arrow_files.read_table(str(path), schema.ITEMS))


@pytest.mark.parametrize("suffix", list(table_files.SUFFIXES))
def test_missing_column_is_refused_by_name(tmp_path, suffix):
    rows = [{k: v for k, v in row.items() if k != "clicked"} for row in EVENTS]
    path = _write(tmp_path, "events", rows, suffix)
    with pytest.raises(ValueError, match=r"events\S* must have the column `clicked`"):
        arrow_files.check_table(path, schema.INTERACTIONS)


@pytest.mark.parametrize("name", ["items.csv", "items.jsonl", "items.parquet", "empty.csv"])
def test_table_without_rows_is_refused(tmp_path, name):
    if name == "items.parquet":
        pq.write_table(pa.Table.from_pylist(ITEMS).slice(0, 0), tmp_path / name)
    else:
        (tmp_path / name).write_text("item_id,tags,category\n" if name == "items.csv" else "")
    with pytest.raises(ValueError, match="items table .* has no row"):
        arrow_files.check_table(str(tmp_path / name), schema.ITEMS)


def test_empty_file_beside_a_full_one_is_no_error(tmp_path):
    (tmp_path / "a.jsonl").touch()
    _write(tmp_path, "b", ITEMS, ".jsonl")
    rows, _, _ = _read(tmp_path, schema.ITEMS, validate_items)
    assert len(rows) == 3


def test_repeated_column_is_refused(tmp_path):
    (tmp_path / "items.csv").write_text("item_id,tags,category,tags\na,b,c,d\n")
    with pytest.raises(ValueError, match="Received twice: tags"):
        arrow_files.check_table(str(tmp_path), schema.ITEMS)


def test_malformed_csv_rows_are_set_aside_with_their_number(tmp_path):
    path = tmp_path / "items.csv"
    path.write_bytes(b'item_id,tags,category\na,x,m\nb,x\n"c\nd",y|z,m\ne,1,2,3\nf,\xff,m\ng,w,m\n')
    rows, numbers, rejected = _read(path, schema.ITEMS, validate_items)
    assert [row["item_id"] for row in rows] == ["a", "c d", "g"]
    assert numbers == [1, 3, 6]
    found = rejected.to_pylist()
    assert sorted((row["row"], row["reason"]) for row in found) == [
        (2, "malformed_row"),
        (4, "malformed_row"),
        (5, "malformed_row"),
    ]
    assert {row["file"] for row in found} == {str(path)}
    by_row = {row["row"]: json.loads(row["values"]) for row in found}
    assert by_row[2] == "b,x"
    assert by_row[5] == {"item_id": "f", "tags": "\ufffd", "category": "m"}


def test_malformed_last_csv_rows_are_not_lost(tmp_path):
    path = tmp_path / "items.csv"
    path.write_text("item_id,tags,category\nb,x\n")
    rows, _, rejected = _read(path, schema.ITEMS, validate_items)
    assert rows == []
    assert count_reasons(rejected) == {"malformed_row": 1}


def test_byte_order_mark_is_no_part_of_the_header(tmp_path):
    (tmp_path / "items.csv").write_text("item_id,tags,category\na,x,m\n", encoding="utf-8-sig")
    rows, _, _ = _read(tmp_path, schema.ITEMS, validate_items)
    assert rows == [{"item_id": "a", "tags": ["x"], "category": "m"}]


def test_malformed_json_lines_are_set_aside_with_their_number(tmp_path):
    path = tmp_path / "events.jsonl"
    good = json.dumps(EVENTS[0])
    wrong = json.dumps(dict(EVENTS[0], user_id=["u"]))
    lines = [good, "{", "[1]", "", wrong, good, '{"user_id": "\\ud800"}', "[" * 100_000]
    path.write_text("\n".join(lines) + "\n")
    rows, numbers, rejected = _read(path, schema.INTERACTIONS, validate_interactions, now=2000)
    assert numbers == [1, 6]
    assert rows[0] == rows[1]
    assert [(row["row"], row["reason"]) for row in rejected.to_pylist()] == [
        (2, "malformed_row"),
        (3, "malformed_row"),
        (5, "wrong_type"),
        (7, "malformed_row"),
        (8, "malformed_row"),
    ]


def test_only_malformed_json_lines_are_rows_and_no_missing_column(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_text("oops\n")
    _, _, rejected = _read(path, schema.INTERACTIONS, validate_interactions, now=2000)
    assert count_reasons(rejected) == {"malformed_row": 1}


def test_mixed_json_types_in_a_column_keep_every_row(tmp_path):
    path = tmp_path / "events.jsonl"
    cells = [1, "2", 3.0, True, None, 10**30]
    rows = [dict(EVENTS[0], user_id="u", timestamp=1, clicked=1, weight=cell) for cell in cells]
    rows.append(dict(EVENTS[0], note={"deep": [1]}))
    rows.append(dict(EVENTS[0], note=3))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    batches = list(arrow_files.read_table(str(path), schema.INTERACTIONS))
    good = validate_interactions(batches[0], now=2000)
    assert good.rejected.num_rows == 0  # `True` is 1, as in a column of booleans
    weights = good.rows.column("weight").to_pylist()
    assert weights == pytest.approx([1.0, 2.0, 3.0, 1.0, 1.0, 1e30, 1.0, 1.0], rel=1e-6)


def test_mixed_tag_cells_are_lists(tmp_path):
    path = tmp_path / "items.jsonl"
    cells = ["a|b", ["c", 1], None, [], 5, [["d"]]]
    path.write_text(
        "".join(
            json.dumps({"item_id": i, "tags": cell, "category": "x"}) + "\n"
            for i, cell in enumerate(cells)
        )
    )
    batch = next(arrow_files.read_batches(str(path), schema.ITEMS))
    good = validate_items(batch, normalization=TagNormalization())
    assert good.rows.column("tags").to_pylist() == [["a", "b"], ["c", "1"]]
    assert count_reasons(good.rejected) == {"no_tags": 2, "wrong_type": 2}


def test_splits_cover_every_row_once(tmp_path, monkeypatch):
    monkeypatch.setattr("tfx_pipeline.tables.parquet_rows.DEFAULT_BATCH_ROWS", 1)
    path = _write(tmp_path, "events", EVENTS, ".parquet")
    splits = arrow_files.list_splits([path])
    assert len(splits) == 4
    batches = [b for s in splits for b in arrow_files.read_batches(s, schema.INTERACTIONS)]
    assert np.concatenate([b.row_numbers for b in batches]).tolist() == list(range(1, 26))
    assert [row for b in batches for row in b.rows.to_pylist()] == EVENTS


def test_csv_longer_than_a_block_keeps_row_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr("tfx_pipeline.tables.csv_rows.block_bytes", lambda _: 64)
    rows = [f"i{i},t,c" if i % 5 else f"i{i},t" for i in range(1, 101)]
    path = tmp_path / "items.csv"
    path.write_text("item_id,tags,category\n" + "\n".join(rows) + "\n")
    good, numbers, rejected = _read(path, schema.ITEMS, validate_items)
    assert [row["item_id"] for row in good] == [f"i{n}" for n in numbers]
    assert sorted(rejected.column("row").to_pylist()) == list(range(5, 101, 5))
