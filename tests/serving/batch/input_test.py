import gzip
import json
from pathlib import Path

import pytest
import tensorflow as tf

from serving.batch.input import (
    JSON_LINES,
    TF_RECORD,
    Instance,
    InstanceReader,
    Rejected,
    Shard,
    UnreadableInput,
    find_shards,
)

IS_LIST = {"age": False, "recent": True}


def reader(key_field=None):
    return InstanceReader(JSON_LINES, key_field, ("user_id",), IS_LIST)


@pytest.mark.parametrize("shard_bytes", [1, 7, 8, 9, 20, 1000])
@pytest.mark.parametrize("last", [b"", b"\n", b"\r\n"])
def test_every_line_is_in_the_shard_in_which_it_begins(tmp_path, shard_bytes, last):
    lines = [b'{"a": 1}', b'{"aaaaaaaaaaaaaaaaaa": 2}', b"", b'{"\xc3\xa9": 3}', b'{"a": 4}']
    content = b"\n".join(lines) + last
    (tmp_path / "in.jsonl").write_bytes(content)

    _, shards = find_shards(str(tmp_path / "in.jsonl"), "auto", shard_bytes)

    read = [[instance.text for instance in reader().read(shard)] for shard in shards]
    assert [text for texts in read for text in texts] == [x.decode() for x in lines if x]
    assert len(shards) == max(1, -(-len(content) // shard_bytes))
    # By hand: a line belongs to the shard that holds its first byte.
    for line in filter(None, lines):
        (position,) = [i for i, texts in enumerate(read) if line.decode() in texts][:1]
        assert position == content.index(line) // shard_bytes


def test_files_are_in_order_of_their_names_and_compressed_ones_are_whole(tmp_path):
    text = '{"age": "1"}\n' * 50
    (tmp_path / "b.jsonl").write_text(text)
    with gzip.open(tmp_path / "a.jsonl.gz", "wt") as file:
        file.write(text)

    input_format, shards = find_shards(str(tmp_path / "*"), "auto", 400)

    assert input_format == JSON_LINES
    assert [(s.index, Path(s.path).name, s.begin, s.end) for s in shards] == [
        (0, "a.jsonl.gz", 0, None),
        (1, "b.jsonl", 0, 400),
        (2, "b.jsonl", 400, 650),
    ]
    assert [len(list(reader().read(shard))) for shard in shards] == [50, 31, 19]


def test_format_is_told_by_the_name_and_two_at_once_are_refused(tmp_path):
    (tmp_path / "data_tfrecord-00000-of-00001.gz").touch()
    assert find_shards(str(tmp_path / "*"), "auto", 100)[0] == TF_RECORD
    assert find_shards(str(tmp_path / "*"), "jsonl", 100)[0] == JSON_LINES

    (tmp_path / "instances.jsonl").touch()
    with pytest.raises(ValueError, match="`input` must match files of one format"):
        find_shards(str(tmp_path / "*"), "auto", 100)


def test_compressed_lines_that_break_off_raise(tmp_path):
    content = gzip.compress(b"".join(b'{"age": "%d"}\n' % i for i in range(5000)))
    (tmp_path / "in.jsonl.gz").write_bytes(content[:-20])
    (shard,) = find_shards(str(tmp_path / "in.jsonl.gz"), "auto", 100)[1]

    with pytest.raises(UnreadableInput, match="`input` must be readable to the end"):
        list(reader().read(shard))


def test_compressed_records_that_break_off_anywhere_raise(tmp_path):
    with tf.io.TFRecordWriter(str(tmp_path / "whole"), "GZIP") as writer:
        for _ in range(200):
            writer.write(b"")
    content = (tmp_path / "whole").read_bytes()
    records = InstanceReader(TF_RECORD, None, (), IS_LIST)

    assert len(list(records.read(Shard(0, str(tmp_path / "whole"))))) == 200
    for size in range(2, len(content)):
        (tmp_path / "cut").write_bytes(content[:size])
        with pytest.raises(UnreadableInput, match="`input` must be readable to the end"):
            list(records.read(Shard(0, str(tmp_path / "cut"))))


def test_instance_is_kept_as_it_was_written():
    line = b' {"user_id": 10000000000000000000001, "age": "\\u00e9",  "recent": [1.50]} \r\n'

    instance = reader().parse_line(line)

    assert instance == Instance(line.decode().strip(), None, {"age": "é", "recent": [1.5]})


@pytest.mark.parametrize(
    ("key", "is_good"),
    [
        ('"a"', True),
        ('""', True),
        ("7", True),
        ("0.5", True),
        ("1e999", False),
        ("true", False),
        ("null", False),
        ('["a"]', False),
        ('"\\ud800"', False),
    ],
)
def test_key_is_text_or_a_number(key, is_good):
    line = f'{{"id": {key}, "age": "1"}}'.encode()

    read = reader("id").parse_line(line)

    if is_good:
        assert read == Instance(line.decode(), json.loads(key), {"age": "1"})
    else:
        assert isinstance(read, Rejected) and read.key is None
        assert read.reason.startswith("`id` must be text or a number.")
