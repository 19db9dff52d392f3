"""A file of tags: the same rows from every format, invalid ones set aside, and its changes."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tfx_pipeline.config.data import DataConfig
from tfx_pipeline.runs.tag_file import check_rejected, read_tag_file, tag_changes

DATA = DataConfig("i", "t", "u")
ROWS = [
    {"tag": " Jazz ", "category": "music", "vector": [1.0, 2.5], "weight": 2.0, "retired": False},
    {"tag": "pop", "category": None, "vector": None, "weight": None, "retired": True},
    {"tag": "new", "category": "music", "vector": None, "weight": 0.5, "retired": None},
]
CSV = (
    "tag,category,vector,weight,retired\n Jazz ,music,1|2.5,2,false\npop,,,,True\nnew,music,,.5,\n"
)


def write(folder, suffix) -> str:
    path = folder / f"tags.{suffix}"
    if suffix == "csv":
        path.write_text(CSV)
    elif suffix == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    else:
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    return str(path)


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_every_format_gives_the_same_rows(tmp_path, suffix):
    file = read_tag_file(write(tmp_path, suffix), DATA)

    assert file.rejected == []
    found = [(row.tag, row.category, row.weight, row.is_retired) for row in file.rows]
    assert found == [
        ("jazz", "music", 2.0, False),
        ("pop", "", 1.0, True),
        ("new", "music", 0.5, False),
    ]
    assert file.rows[0].vector.tolist() == [1.0, 2.5]
    assert [row.vector for row in file.rows[1:]] == [None, None]


def test_changes_are_the_difference_to_the_known_tags(tmp_path):
    file = read_tag_file(write(tmp_path, "csv"), DATA)

    changes = tag_changes(file, ["pop", "folk", "jazz"], is_complete=False)

    assert changes.new == ("new",) and changes.categories == ("music",)
    assert changes.retired == {"pop"}
    assert changes.weights == {"jazz": 2.0, "new": 0.5}
    assert changes.vectors is None
    # With "jazz" new as well, it brings its vector, and "new" has zeros.
    changes = tag_changes(file, ["pop"], is_complete=False)
    np.testing.assert_array_equal(changes.vectors, [[1, 2.5], [0, 0]])


def test_complete_file_retires_what_it_does_not_name(tmp_path):
    path = tmp_path / "tags.csv"
    path.write_text("tag,weight\njazz,\nfolk,-1\n")
    file = read_tag_file(str(path), DATA)

    changes = tag_changes(file, ["pop", "folk", "jazz"], is_complete=True)

    # The row of "folk" is a mistake, not a request to remove it.
    assert changes.retired == {"pop"}
    assert changes.new == () and changes.weights == {}


def test_bad_rows_are_set_aside_with_their_reason_and_place(tmp_path):
    path = tmp_path / "tags.jsonl"
    rows = [
        {"tag": "good", "vector": [1, 2]},
        {"tag": " "},
        {"tag": "light", "weight": 0},
        {"tag": "heavy", "weight": "x"},
        {"tag": "maybe", "retired": "perhaps"},
        {"tag": "short", "vector": [1]},
        {"tag": "odd", "vector": ["a", "b"]},
        {"tag": "Good"},
        {"tag": "stranger", "retired": True},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + "no json\n")

    file = read_tag_file(str(path), DATA)
    changes = tag_changes(file, [], is_complete=False)

    assert changes.new == ("good",)
    assert {row["row"]: row["reason"] for row in file.rejected} == {
        2: "missing_tag",
        3: "weight_not_positive",
        4: "weight_not_positive",
        5: "retired_not_true_or_false",
        6: "bad_vector",
        7: "bad_vector",
        8: "duplicate_tag",
        9: "retired_but_unknown",
        10: "malformed_row",
    }
    assert file.num_read == 10
    with pytest.raises(ValueError, match=r"9 of 10 rows of tags were rejected.*bad_vector: 2"):
        check_rejected(file, DATA, str(tmp_path / "out" / "rejected.jsonl"))
    kept = (tmp_path / "out" / "rejected.jsonl").read_text().splitlines()
    assert len(kept) == 9
    assert {json.loads(line)["table"] for line in kept} == {"tags"}
    by_row = {json.loads(line)["row"]: json.loads(line)["values"] for line in kept}
    assert json.loads(by_row[3])["tag"] == "light"


def test_file_without_tags_is_refused(tmp_path):
    path = tmp_path / "tags.csv"
    path.write_text("name,weight\njazz,1\n")
    with pytest.raises(ValueError, match="must have the column `tag`"):
        read_tag_file(str(path), DATA)
