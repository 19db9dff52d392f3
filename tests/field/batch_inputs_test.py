"""Batch prediction's inputs as other systems export them: each is read, or refused by name."""

import bz2
import gzip
import io
import json
import lzma
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from serving.batch.input import (
    Instance,
    InstanceReader,
    Rejected,
    UnreadableInput,
    find_shards,
)
from serving.index.top_k import BruteForceIndex
from serving.servable.export import export_servable
from serving.servable.retrieval import TagRetrieval
from tagtower_client.feature_tensors import InputSlot, to_tensors
from tests.toy_towers import ToyTowers, write_users
from tfx_pipeline.cli import main

IS_LIST = {"segment": False, "clicked": True, "clicked_weights": True}
LINES = b'{"user_id": "u1", "segment": "a"}\n{"user_id": "u2", "segment": "\xc3\xa9"}\n'
READ = [{"segment": "a"}, {"segment": "é"}]
BOM = b"\xef\xbb\xbf"


def zstd(content):
    # A frame as the command line tool writes it: its size is not in it.
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


def zipped(content):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("in.jsonl", content)
    return buffer.getvalue()


def parquet(_):
    buffer = io.BytesIO()
    pq.write_table(pa.table({"segment": ["a"]}), buffer)
    return buffer.getvalue()


def reader(key_field=None):
    return InstanceReader("jsonl", key_field, ("user_id",), IS_LIST)


def read(pattern, shard_bytes=1000):
    _, shards = find_shards(str(pattern), "auto", shard_bytes)
    return [row for shard in shards for row in reader().read(shard)]


# --- files that are read ---


@pytest.mark.parametrize(
    "content",
    {
        "plain": LINES,
        "mark": BOM + LINES,
        "joined files with a mark each": BOM + LINES[:34] + BOM + LINES[34:],
        "line feed is missing at the end": LINES[:-1],
        "carriage return and line feed": LINES.replace(b"\n", b"\r\n"),
        "blank lines": b"\n \r\n" + LINES + b"\n\n",
        "gzip": gzip.compress(LINES, mtime=0),
        "gzip in two members": gzip.compress(LINES[:34]) + gzip.compress(LINES[34:]),
        "mark in gzip": gzip.compress(BOM + LINES, mtime=0),
        "bzip2": bz2.compress(LINES),
        "zstd": zstd(LINES),
    }.items(),
    ids=lambda item: item[0],
)
@pytest.mark.parametrize("shard_bytes", [9, 1000])
def test_file_is_read_whatever_its_name_says(tmp_path, content, shard_bytes):
    (tmp_path / "in.txt").write_bytes(content[1])

    rows = read(tmp_path / "in.txt", shard_bytes)

    assert [row.features for row in rows] == READ
    # The instance as it was written, without the byte order mark.
    assert [json.loads(row.text)["user_id"] for row in rows] == ["u1", "u2"]


# --- files that are refused ---

TF_RECORDS = b"\x0c\0\0\0\0\0\0\0" + bytes(20)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (LINES.decode().encode("utf-16"), "in UTF-16; `iconv -f UTF-16 -t UTF-8` converts it"),
        ("\ufeff".encode("utf-16-be") + LINES.decode().encode("utf-16-be"), "in UTF-16;"),
        (LINES.decode().encode("utf-16-le"), "begins with NUL bytes: it is UTF-16"),
        (LINES.decode().encode("utf-16-be"), "begins with NUL bytes: it is UTF-16"),
        (LINES.decode().encode("utf-32"), "in UTF-32;"),
        (gzip.compress(LINES.decode().encode("utf-16"), mtime=0), "in UTF-16;"),
        (TF_RECORDS, "or TFRecords (--input_format tf-record)"),
        (lzma.compress(LINES), "which is compressed by xz."),
        (zipped(LINES), "which is a zip archive."),
        (parquet(LINES), "which is Parquet."),
        (LINES.replace(b"\n", b"\r"), "whose lines end with carriage returns; `tr"),
    ],
)
def test_file_that_is_not_read_is_refused_by_its_name(tmp_path, content, said):
    (tmp_path / "good.jsonl").write_bytes(LINES)
    (tmp_path / "other.jsonl").write_bytes(content)

    with pytest.raises(ValueError, match="^`input` must be ") as error:
        find_shards(str(tmp_path / "*"), "auto", 1000)

    assert f"Received: {tmp_path}/other.jsonl" in str(error.value) and said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("compress", [bz2.compress, zstd])
def test_tf_records_are_gzipped_or_plain(tmp_path, compress):
    (tmp_path / "a.tfrecord").write_bytes(compress(TF_RECORDS))

    with pytest.raises(ValueError, match="be TFRecords that are gzipped or not .*a.tfrecord"):
        find_shards(str(tmp_path / "*"), "auto", 1000)


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, zstd])
def test_compressed_file_that_breaks_off_is_named(tmp_path, compress):
    rng = np.random.default_rng(0)
    lines = b"".join(b'{"segment": "%d"}\n' % n for n in rng.integers(1 << 40, size=20_000))
    (tmp_path / "cut").write_bytes(compress(lines)[:-30])

    with pytest.raises(UnreadableInput, match="readable to the end. Received: .*/cut"):
        read(tmp_path / "cut")


# --- which files are data ---


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("tfr/*", ["tfr/part-0.tfrecord", "tfr/part-1.tfrecord"]),
        ("t*/*", ["tfr/part-0.tfrecord", "tfr/part-1.tfrecord"]),
        ("tfr", ["tfr/part-0.tfrecord", "tfr/part-1.tfrecord"]),
        ("**/part-*", ["tfr/part-0.tfrecord", "tfr/part-1.tfrecord"]),
        ("tfr/_temporary/*", ["tfr/_temporary/part-2.tfrecord"]),  # asked for by its name
        ("tfr/_SUCCESS", ["tfr/_SUCCESS"]),
        ("_out/*", ["_out/part-3.tfrecord"]),
        ("win [x]/a.tfrecord", ["win [x]/a.tfrecord"]),
    ],
)
def test_side_files_are_no_data_unless_they_are_named(tmp_path, pattern, found):
    for name in (
        *("tfr/part-0.tfrecord", "tfr/part-1.tfrecord", "tfr/_SUCCESS", "tfr/.part-0.crc"),
        *("tfr/_temporary/part-2.tfrecord", "_out/part-3.tfrecord", "win [x]/a.tfrecord"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")

    _, shards = find_shards(f"{tmp_path}/{pattern}", "tf-record", 1000)

    assert [shard.path for shard in shards] == [f"{tmp_path}/{name}" for name in found]


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("side/*", "which has only files that hold no data (_SUCCESS, _metadata)."),
        ("side", "which has only files that hold no data (_SUCCESS, _metadata)."),
        ("empty", "/empty'."),
        ("nothing*", "nothing*'."),
    ],
)
def test_input_without_a_file_of_data_says_what_is_there(tmp_path, pattern, said):
    (tmp_path / "side").mkdir()
    (tmp_path / "empty").mkdir()
    for name in ("_SUCCESS", "_metadata"):
        (tmp_path / "side" / name).write_bytes(b"x")

    with pytest.raises(ValueError, match="^`input` must match at least one file. Rec") as error:
        find_shards(f"{tmp_path}/{pattern}", "auto", 1000)

    assert said in str(error.value)


# --- lines ---


@pytest.mark.parametrize(
    ("line", "features"),
    [
        ('{"segment": null, "clicked": null}', {}),
        ('{"clicked": ["x"], "clicked_weights": null}', {"clicked": ["x"]}),
        ('{"user_id": null, "segment": "a"}', {"segment": "a"}),
        ('{"user_id": {"a": null}, "segment": ""}', {"segment": ""}),
    ],
)
def test_null_feature_is_unknown(line, features):
    assert reader().parse_line(line.encode()) == Instance(line, None, features)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"segment": "a", "segment": "b"}', "`segment` appears more than once."),
        ('{"segment": "a", "\\u0073egment": "a"}', "`segment` appears more than once."),
        ('{"user_id": "a"}{"user_id": "b"}', "The line is not JSON: Extra data"),
        ('[{"segment": "a"}]', "The line is not a JSON object of feature values."),
        ("", "The line is not JSON: Expecting value"),
    ],
)
def test_line_at_fault_is_set_aside_with_its_reason(line, reason):
    row = reader().parse_line(line.encode())

    assert isinstance(row, Rejected) and row.reason.startswith(reason)


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ('{"key": "a", "segment": "b"}', "a"),
        ('{"key": 0, "segment": "b"}', 0),
        ('{"key": "", "segment": "b"}', ""),
    ],
)
def test_instance_with_a_key_keeps_it(line, key):
    assert reader("key").parse_line(line.encode()) == Instance(line, key, {"segment": "b"})


SLOTS = {"segment": InputSlot(True, False), "clicked": InputSlot(True, True)}


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"segment": "a\ud800"}, r"`segment` must be text that UTF-8 can hold, .* 'a\\ud800'."),
        ({"clicked": ["b", "\udfff"]}, r"`clicked` must be text that UTF-8 can .* '\\udfff'."),
        ({"colour": None}, "must name features of the model .* Received: colour."),
    ],
)
def test_value_that_no_model_takes_names_its_field(features, message):
    with pytest.raises(ValueError, match=message):
        to_tensors([{"segment": "é"}, features], SLOTS)


# --- the command ---


@pytest.fixture(scope="module")
def base_path(tmp_path_factory):
    """Makes versions 0, 1, 10: user u<i> likes tag t<i> best; in version 0 all users like t5."""
    folder = tmp_path_factory.mktemp("servable")
    tags = np.eye(6)
    for version, users in ((0, np.tile(tags[5], (6, 1))), (1, tags), (10, tags)):
        ToyTowers(users, tags).save(folder / f"towers{version}")
        towers = tf.saved_model.load(str(folder / f"towers{version}"))
        module = TagRetrieval(towers, BruteForceIndex(tags), k=2)
        path = folder / "base" / str(version)
        export_servable(module, str(path), {"index": {"num_tags": 6}})
    return folder / "base"


def predict(base_path, pattern, output, *flags):
    paths = [f"--model_base_path={base_path}", f"--input={pattern}", f"--output={output}"]
    return main(["batch-predict", *paths, *flags])


@pytest.mark.parametrize(
    ("flags", "version", "tag"),
    [((), "10", "t1"), (("--version=0",), "0", "t5"), (("--version=1",), "1", "t1")],
)
def test_version_is_the_one_that_was_asked_for(tmp_path, base_path, flags, version, tag):
    (tmp_path / "in.jsonl").write_text('{"name": "u1"}')

    status = predict(base_path, tmp_path / "in.jsonl", tmp_path / "out", *flags)

    assert status == 0
    results = tmp_path / "out" / "prediction.results-00000-of-00001"
    assert json.loads(results.read_text())["prediction"]["tags"][0] == tag
    about = json.loads((tmp_path / "out" / "_predictions.json").read_text())
    assert about["model"]["version"] == version


@pytest.mark.parametrize(
    "content", [b"", b"\n \r\n\n", BOM, BOM + b"\n", gzip.compress(b"", mtime=0), zstd(b"\n"), b" "]
)
def test_input_of_nothing_is_no_success(tmp_path, base_path, capfd, content):
    (tmp_path / "in").mkdir()
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / "in" / name).write_bytes(content)

    status = predict(base_path, tmp_path / "in" / "*", tmp_path / "out")

    assert status == 2
    error = capfd.readouterr().err.strip().splitlines()[-1]
    assert error == (
        "tagtower batch-predict: `input` must hold at least one instance. "
        f"Received: {tmp_path}/in/*, where there is none."
    )
    assert [path.name for path in tmp_path.iterdir()] == ["in"]  # neither output nor staging


def test_empty_part_beside_full_ones_is_no_mistake(tmp_path, base_path):
    (tmp_path / "a.jsonl").write_bytes(b"")
    (tmp_path / "b.jsonl").write_text('{"name": "u1"}')
    (tmp_path / "_SUCCESS").write_bytes(b"")

    assert predict(base_path, tmp_path / "*", tmp_path / "out") == 0

    results = sorted((tmp_path / "out").glob("prediction.results-*"))
    assert [len(path.read_bytes().splitlines()) for path in results] == [0, 1]


def test_folder_of_examples_with_a_success_file_is_read(tmp_path, base_path):
    (tmp_path / "tfr").mkdir()
    write_users(tmp_path / "tfr" / "part-tfrecord-0.gz", ["u2", "u3"])
    (tmp_path / "tfr" / "_SUCCESS").write_bytes(b"")

    assert predict(base_path, tmp_path / "tfr" / "*", tmp_path / "out") == 0

    lines = (tmp_path / "out" / "prediction.results-00000-of-00001").read_text().splitlines()
    assert [json.loads(line)["prediction"]["tags"][0] for line in lines] == ["t2", "t3"]
