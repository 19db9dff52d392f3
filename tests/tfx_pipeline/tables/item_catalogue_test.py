"""The catalogue: positions, values in CSR form, and independence of the order of rows."""

import itertools
import pickle

import numpy as np
import pyarrow as pa
import pytest

from tfx_pipeline.tables.item_catalogue import build_item_catalogue
from tfx_pipeline.tables.row_batches import FileBatch, count_reasons, rejected_rows
from tfx_pipeline.tables.validate import validate_items

ROWS = [
    {"item_id": "b", "tags": ["y", "x"], "category": "music", "title": "B"},
    {"item_id": "a", "tags": ["z"], "category": "", "title": ""},
    {"item_id": "ä", "tags": ["x"], "category": "art", "title": "C"},
    {"item_id": "b", "tags": ["q"], "category": "music", "title": "B"},
    {"item_id": "a", "tags": ["z"], "category": "", "title": ""},
]


def _batch(table, rows, first=1):
    batch = pa.RecordBatch.from_pylist(rows)
    numbers = np.arange(first, first + len(rows))
    return FileBatch(table, "f", batch, numbers, rejected_rows(table, "f", [], [], []))


def _build(rows, size=2):
    parts = [rows[i : i + size] for i in range(0, len(rows), size)]
    return build_item_catalogue(
        validate_items(_batch("items", part, 1 + i * size)) for i, part in enumerate(parts)
    )


def _contents(catalogue):
    return [
        (
            catalogue.item_ids[i].as_py(),
            catalogue.tags.values_of(i),
            catalogue.category.values_of(i),
        )
        for i in range(len(catalogue))
    ]


EXPECTED = [
    ("a", ["z"], []),
    ("b", ["q"], ["music"]),
    ("ä", ["x"], ["art"]),
]


@pytest.mark.parametrize("order", list(itertools.permutations(range(5)))[::11])
def test_order_of_rows_does_not_matter(order):
    catalogue, rejected = _build([ROWS[i] for i in order])
    assert _contents(catalogue) == EXPECTED
    assert count_reasons(rejected) == {"duplicate_item": 2}


def test_rejected_duplicates_name_their_rows():
    _, rejected = _build(ROWS)
    found = {(row["row"], row["file"]) for row in rejected.to_pylist()}
    assert found == {(1, "f"), (5, "f")}


def test_vocabularies_are_sorted_and_unique():
    catalogue, _ = _build(ROWS)
    assert catalogue.tags.vocabulary.to_pylist() == ["q", "x", "z"]
    assert catalogue.category.vocabulary.to_pylist() == ["art", "music"]
    assert catalogue.attribute("item_id").values_of(2) == ["ä"]
    assert catalogue.tags.codes.dtype == np.int32
    assert catalogue.tags.offsets.dtype == np.int64


def test_index_of_unknown_and_missing_ids_is_minus_one():
    catalogue, _ = _build(ROWS)
    found = catalogue.index_of(pa.array(["ä", "zzz", None, "a"]))
    assert found.tolist() == [2, -1, -1, 0]
    assert found.dtype == np.int32


def test_catalogue_survives_pickling():
    catalogue, _ = _build(ROWS)
    assert _contents(pickle.loads(pickle.dumps(catalogue))) == EXPECTED


def test_unknown_attribute_is_refused():
    catalogue, _ = _build(ROWS)
    with pytest.raises(ValueError, match="`attribute` must be one of .* Received"):
        catalogue.attribute("colour")


def test_no_usable_item_is_refused():
    with pytest.raises(ValueError, match="`data.items` must have items with tags") as error:
        _build([{"item_id": "a", "tags": [""], "category": ""}])
    assert str(error.value) == (
        "`data.items` must have items with tags. Received: 1 rows, none of them usable "
        "(no_tags: 1); the first is row 1 of f: "
        '{"item_id": "a", "tags": [""], "category": ""}'
    )


def test_titles_may_be_missing_in_one_file_alone():
    rows = [[{k: v for k, v in ROWS[1].items() if k != "title"}], [ROWS[0]]]
    catalogue, rejected = build_item_catalogue(
        validate_items(_batch("items", part)) for part in rows
    )
    assert catalogue.item_ids.to_pylist() == sorted(part[0]["item_id"] for part in rows)
    assert not rejected.num_rows
