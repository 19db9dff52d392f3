"""The user's vectors are the same from every format; mistakes are named with their row."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from tfx_pipeline.config.data import DataConfig
from tfx_pipeline.config.pipeline import PipelineConfig
from tfx_pipeline.tables.tag_vectors import read_tag_vectors, tag_vectors_file
from trainer.config import ModelConfig
from trainer.contract.features import Domain, FeatureSpec
from trainer.contract.tag_normalization import TagNormalization
from trainer.towers.tag_views import load_tag_attributes

DATA = DataConfig("i.csv", "t.csv", "u.csv")
TAGS = [" Dark Comedy", "été", "70"]
VECTORS = [[1, 0.5], [-2, 3e-2], [0, 4]]
NORMALIZED = ["dark comedy", "été", "70"]


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


def rows(tags=TAGS, vectors=VECTORS):
    return [{"tag": t, "vector": v} for t, v in zip(tags, vectors, strict=True)]


def parquet(kind):
    def write(folder):
        path = folder / "v.parquet"
        table = pa.table({"tag": TAGS, "vector": pa.array(VECTORS, kind)})
        pyarrow.parquet.write_table(table, path, row_group_size=2)
        return str(path)

    return write


def csv(folder):
    path = folder / "v.csv"
    lines = [f"{tag},{'|'.join(map(str, row))}" for tag, row in zip(TAGS, VECTORS, strict=True)]
    path.write_text("\n".join(["tag,vector", *lines]) + "\n", "utf-8")
    return str(path)


@pytest.mark.parametrize(
    "write",
    [
        parquet(pa.list_(pa.float32())),
        parquet(pa.list_(pa.float64(), 2)),
        parquet(pa.large_list(pa.float64())),
        csv,
        lambda folder: write_jsonl(folder / "v.jsonl", rows()),
    ],
    ids=["lists", "lists of fixed size", "large lists", "csv", "json lines"],
)
def test_every_format_gives_the_same_vectors(write, tmp_path):
    tags, vectors = read_tag_vectors(DATA, write(tmp_path))
    assert tags == NORMALIZED
    np.testing.assert_array_equal(vectors, np.array(VECTORS, np.float32))


def test_tags_are_normalised_as_configured(tmp_path):
    data = DataConfig("i", "t", "u", tag_normalization=TagNormalization(False, False))
    tags, _ = read_tag_vectors(data, write_jsonl(tmp_path / "v.jsonl", rows()))
    assert tags == TAGS


def test_file_is_what_the_trainer_reads_and_the_same_bytes_again(tmp_path):
    source = write_jsonl(tmp_path / "v.jsonl", rows())
    paths = [
        tag_vectors_file(DataConfig("i", "t", "u", tag_vectors=source), str(tmp_path / folder))
        for folder in ("a", "b")
    ]
    contents = [open(path, "rb").read() for path in paths]
    assert contents[0] == contents[1]
    tags_file = write_jsonl(tmp_path / "tags.jsonl", [{"tag": "été", "category": "x"}])
    attributes = load_tag_attributes(tags_file, ["été", "new", "dark comedy"], paths[0])
    expected = np.array([VECTORS[1], [0, 0], VECTORS[0]], np.float32)
    np.testing.assert_array_equal(attributes.vectors, expected)


def test_view_of_vectors_without_a_table_is_refused():
    def make(data):
        spec = FeatureSpec(domains=(Domain("clicked"),))
        return PipelineConfig("log", data, spec, model=ModelConfig(tag_views=("vectors",)))

    make(DataConfig("i", "t", "u", tag_vectors="v.parquet"))
    with pytest.raises(ValueError, match="`data.tag_vectors` must be given where"):
        make(DATA)


def test_without_a_table_there_is_no_file(tmp_path):
    assert tag_vectors_file(DATA, str(tmp_path / "out")) is None
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tag": ""}, "must have a tag. Row 2"),
        ({"tag": None}, "must have a tag. Row 2"),
        (
            {"tag": "DARK comedy"},
            r"a tag that no other row has, not 'dark comedy' of .*, row 1. Row 2",
        ),
        (
            {"vector": [1.0, 2.0, 3.0]},
            "must have a vector of 2 numbers, as the first row has. Row 2",
        ),
        ({"vector": []}, "must have a vector, a list of numbers. Row 2"),
        ({"vector": None}, "must have a vector, a list of numbers. Row 2"),
        ({"vector": [1.0, None]}, "must have a vector of finite numbers. Row 2"),
        ({"vector": [1.0, float("nan")]}, "must have a vector of finite numbers. Row 2"),
        ({"vector": [1.0, float("inf")]}, "must have a vector of finite numbers. Row 2"),
        # Finite, but not in the 32 bits that the model has for it.
        ({"vector": [1.0, 1e300]}, "must have a vector of finite numbers. Row 2"),
        ({"vector": [1.0, "two"]}, "must have a vector of finite numbers. Row 2"),
        ({"vector": {"x": 1}}, "must be readable .wrong_type.. Row 2"),
    ],
)
def test_mistake_in_a_row_is_refused_with_its_number(changes, message, tmp_path):
    content = rows()
    content[1] |= changes
    with pytest.raises(ValueError, match=message) as error:
        read_tag_vectors(DATA, write_jsonl(tmp_path / "v.jsonl", content))
    assert "\n" not in str(error.value)


def test_line_that_is_no_object_is_refused(tmp_path):
    path = tmp_path / "v.jsonl"
    path.write_text('{"tag": "a", "vector": [1]}\nnonsense\n')
    with pytest.raises(ValueError, match="must be readable .malformed_row.. Row 2"):
        read_tag_vectors(DATA, str(path))


def test_missing_column_is_refused(tmp_path):
    path = write_jsonl(tmp_path / "v.jsonl", [{"tag": "a", "embedding": [1.0]}])
    with pytest.raises(ValueError, match="must have the column `vector`"):
        read_tag_vectors(DATA, path)
