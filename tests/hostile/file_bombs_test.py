"""Small files that would fill memory or time are refused in one line, within 1.5 GB."""

import bz2
import gzip
import io
import json
import resource
import struct
import subprocess
import sys

import google_crc32c
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from serving.batch.input import InstanceReader, Rejected, Shard
from tfx_pipeline.datasets.planted import read_planted
from tfx_pipeline.tables import schema
from tfx_pipeline.tables.arrow_files import list_splits, read_batches
from tfx_pipeline.tables.read_limits import ReadLimits, UnpackedFile, lines_of

MEMORY_BYTES = 1500 << 20
# Memory beside Python's and Arrow's: the rows of some blocks or of a batch.
MOST_PEAK_MB = 500
HEADER = b"item_id,tags,category\n"
MB = b"x" * (1 << 20)

# Reads a whole table of items as a run does; prints the outcome and the peak of its memory.
READ = f"""
import collections, os, re, resource, sys
resource.setrlimit(resource.RLIMIT_DATA, ({MEMORY_BYTES}, {MEMORY_BYTES}))
from tfx_pipeline.tables import arrow_files, schema, undeclared_lists, validate
counts = collections.Counter()
try:
    paths = arrow_files.check_table(sys.argv[1], schema.ITEMS)
    undeclared_lists.undeclared_lists(paths)
    for split in arrow_files.list_splits(paths):
        for batch in arrow_files.read_batches(split, schema.ITEMS):
            found = validate.validate_items(batch)
            counts["good"] += found.rows.num_rows
            counts["bad"] += found.rejected.num_rows
    print(dict(counts))
except ValueError as error:
    print(error)
with open("/proc/self/status") as status:
    print(int(re.search(r"VmHWM:\\s+(\\d+)", status.read())[1]) >> 10, flush=True)
# As commands end: a thread of Arrow that still reads aborts where Python goes before it.
os._exit(0)
"""


def write_gzip(path, pieces):
    with gzip.open(path, "wb") as file:
        for piece in pieces:
            file.write(piece)


def outcome(path):
    """Returns what a run prints for a table of items, in a process with limited memory."""
    finished = subprocess.run(
        [sys.executable, "-c", READ, str(path)], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr[-2000:]
    said, peak_mb = finished.stdout.strip().rsplit("\n", 1)
    assert int(peak_mb) < MOST_PEAK_MB
    return said


TOO_LONG = "must have rows of at most 4 MB. Received: a longer one in "
OTHERWISE = ". Mend the file, or raise `data.max_row_mb`."


@pytest.mark.parametrize(
    ("name", "pieces", "said"),
    [
        ("a.csv.gz", [HEADER, b"i,a,c\ni,", *[MB] * 100, b",c\n"], f"{TOO_LONG}line 3{OTHERWISE}"),
        ("a.csv.gz", [HEADER, b'i,"', *[MB] * 100, b'",c\n'], "one that begins in line 2 and is"),
        ("a.csv.gz", [b"," * (1 << 20)] * 20, "must have the column `item_id` (items). Received"),
        ("a.csv.gz", [HEADER, *[b"\n" * (1 << 20)] * 260], "must unpack to at most 300 times its"),
        ("a.jsonl.gz", [b'{"item_id": "', *[MB] * 100, b'"}\n'], f"{TOO_LONG}line 1{OTHERWISE}"),
        ("a.jsonl.gz", [b"\n\n", *[b"[" * (1 << 20)] * 100], f"{TOO_LONG}line 3{OTHERWISE}"),
        # Within the limits, and refused for its content.
        ("a.jsonl.gz", [b'{"item_id":' * 100_000, b"\n"], "{'good': 1, 'bad': 1}"),
        ("a.jsonl.gz", [b'{"item_id":', b"9" * (1 << 20), b"}\n"], "{'good': 1, 'bad': 1}"),
    ],
)
def test_text_that_unpacks_to_a_lot_is_refused(tmp_path, name, pieces, said):
    last = b'{"item_id": "i", "tags": ["a"]}\n' if name == "a.jsonl.gz" else b"i,a,c\n"
    write_gzip(tmp_path / name, [*pieces, last])

    assert said in outcome(tmp_path / name)


def coded(text, num_rows):
    """Returns a column of one text, written once."""
    codes = pa.array([0] * num_rows, pa.int32())
    return pa.DictionaryArray.from_arrays(codes, pa.array([text]))


def write_parquet(path, columns, **options):
    pq.write_table(pa.table(columns), path, compression="zstd", **options)
    assert path.stat().st_size < 1 << 20


def test_long_text_that_is_written_once_is_refused(tmp_path):
    path = tmp_path / "items.parquet"
    ids = pa.array(range(20_000))
    write_parquet(path, {"item_id": ids, "tags": coded("x" * (5 << 20), 20_000)})

    assert f"{path} {TOO_LONG}row group 1, column `tags`{OTHERWISE}" in outcome(path)


def test_long_text_in_every_row_is_read_in_small_batches(tmp_path):
    path = tmp_path / "items.parquet"
    ids = pa.array(range(3_000))
    write_parquet(path, {"item_id": ids, "tags": coded("x" * (1 << 17), 3_000)})

    assert outcome(path) == "{'good': 3000, 'bad': 0}"


def test_list_of_millions_of_values_is_refused(tmp_path):
    path = tmp_path / "items.parquet"
    values = pa.array(["a"] * 5_000_000)
    tags = pa.ListArray.from_arrays(pa.array([0, len(values)], pa.int32()), values)
    write_parquet(path, {"item_id": ["i"], "tags": tags})

    assert f"{path} {TOO_LONG}row group 1, column `tags`{OTHERWISE}" in outcome(path)


def test_lists_of_many_values_are_read_in_small_batches(tmp_path):
    path = tmp_path / "items.parquet"
    lengths, num_rows = 200_000, 30
    values = pa.array(["a"] * lengths * num_rows)
    starts = pa.array(range(0, lengths * num_rows + 1, lengths), pa.int32())
    write_parquet(
        path, {"item_id": list(range(num_rows)), "tags": pa.ListArray.from_arrays(starts, values)}
    )

    assert outcome(path) == f"{{'good': {num_rows}, 'bad': 0}}"


def test_deeply_nested_type_is_refused(tmp_path):
    kind, value = pa.string(), "a"
    for _ in range(100):
        kind, value = pa.list_(kind), [value]
    path = tmp_path / "items.parquet"
    pq.write_table(pa.table({"item_id": ["i"], "tags": pa.array([value], kind)}), path)

    assert str(path) in outcome(path) and "items.parquet" in outcome(path)


def numbers_of_rows(path, table=schema.ITEMS):
    (split,) = list_splits([str(path)])
    return [batch.rows.num_rows for batch in read_batches(split, table)]


@pytest.mark.parametrize("is_list", [False, True])
@pytest.mark.parametrize("use_dictionary", [False, True])
def test_one_long_text_does_not_shrink_every_batch(tmp_path, is_list, use_dictionary):
    path = tmp_path / "items.parquet"
    texts = ["a"] * 200_000
    texts[70_000] = "x" * (2 << 20)
    tags = [[text, None] for text in texts] if is_list else texts
    table = pa.table({"item_id": list(map(str, range(len(texts)))), "tags": tags})
    pq.write_table(table, path, use_dictionary=use_dictionary)

    assert numbers_of_rows(path) == [65_536] * 3 + [200_000 - 3 * 65_536]


def test_texts_of_some_rows_are_weighed_where_they_are(tmp_path):
    """A hundred adjacent rows of 1 MB, in a column that changes to plain pages."""
    path = tmp_path / "items.parquet"
    texts = [f"text {n}" for n in range(200_000)]
    texts[50_000:50_100] = ["x" * (1 << 20)] * 100
    texts[150_000] = None
    table = pa.table({"item_id": list(map(str, range(len(texts)))), "tags": texts})
    pq.write_table(table, path, compression="zstd", dictionary_pagesize_limit=1 << 22)

    (split,) = list_splits([str(path)])
    rows = [batch.rows for batch in read_batches(split, schema.ITEMS)]

    assert max(batch.nbytes for batch in rows) < 70 << 20
    tags = pa.chunked_array([batch.column(batch.schema.get_field_index("tags")) for batch in rows])
    assert tags.to_pylist() == texts


@pytest.mark.parametrize("rows_of_group", [100, 999])
def test_small_row_groups_are_read_together(tmp_path, rows_of_group):
    path = tmp_path / "items.parquet"
    tags = [[f"tag {n % 7}", None][: n % 3] if n % 11 else None for n in range(20_000)]
    table = pa.table({"item_id": list(map(str, range(len(tags)))), "tags": tags})
    pq.write_table(table, path, row_group_size=rows_of_group)

    (split,) = list_splits([str(path)])
    (batch,) = read_batches(split, schema.ITEMS)

    assert batch.row_numbers.tolist() == list(range(1, 20_001))
    assert batch.rows.column(batch.rows.schema.get_field_index("tags")).to_pylist() == tags


def test_small_row_groups_of_long_texts_are_not(tmp_path):
    path = tmp_path / "items.parquet"
    ids = pa.array(range(3_000))
    table = {"item_id": ids, "tags": coded("x" * (1 << 17), 3_000)}
    write_parquet(path, table, row_group_size=100)

    assert set(numbers_of_rows(path)) == {500}


def test_thousands_of_row_groups_are_read_together(tmp_path):
    path = str(tmp_path / "items.parquet")
    table = pa.table({"item_id": list(map(str, range(900))), "tags": [["a"]] * 900})
    pq.write_table(table, path, row_group_size=1)

    (split,) = list_splits([path])

    numbers = [n for b in read_batches(split, schema.ITEMS) for n in b.row_numbers.tolist()]
    assert numbers == list(range(1, 901))


def test_columns_that_differ_in_length_are_refused(tmp_path):
    """Joining such columns ended the process."""
    path = tmp_path / "items.parquet"
    tags = pa.array([["a", "b"]] * 50)
    table = pa.table({"item_id": list(map(str, range(50))), "tags": tags})
    pq.write_table(table, path, compression="none", use_dictionary=False)
    content = bytearray(path.read_bytes())
    start = pq.ParquetFile(path).metadata.row_group(0).column(1).data_page_offset
    # Repetition levels, 0 and 1 by turns: a row that goes on where the next began.
    at = content.index(b"\xaa" * 6, start)
    content[at] = 0xAB
    path.write_bytes(content)

    assert outcome(path) == (
        f"{path} cannot be read: the columns of row group 1 differ in length. "
        "Check that it is complete and readable."
    )


@pytest.mark.parametrize("is_dictionary", [False, True])
@pytest.mark.parametrize("length", [1, 1 << 20])
def test_numbers_that_stand_for_no_text_are_refused(tmp_path, is_dictionary, length):
    """They are refused before rows of groups are joined or texts measured."""
    path = tmp_path / "items.parquet"
    codes = pa.array([0, 1, 2, 1] * 64, pa.int32())
    tags = pa.DictionaryArray.from_arrays(codes, pa.array(["a", "b", "x" * length]))
    tags = tags if is_dictionary else tags.dictionary_decode()
    ids = list(range(len(codes)))
    table = pa.table({"item_id": ids, "tags": tags})
    pq.write_table(table, path, compression="none", row_group_size=128, use_dictionary=["tags"])
    content = bytearray(path.read_bytes())
    for group in range(2):
        start = pq.ParquetFile(path).metadata.row_group(group).column(1).data_page_offset
        # The numbers 0, 1, 2, 1, of two bits each, become 3.
        content[content.index(b"\x64" * 6, start)] = 0xFF
    path.write_bytes(content)

    assert f"{path} cannot be read: " in outcome(path)


def test_column_that_a_row_group_calls_otherwise_is_read_or_refused(tmp_path):
    path = tmp_path / "items.parquet"
    pq.write_table(pa.table({"item_id": ["i", "j"], "tags": ["a", "b"]}), path)
    content = bytearray(path.read_bytes())
    # In the footer: the first is of the schema, the second of the row group.
    footer = len(content) - 8 - struct.unpack("<I", content[-8:-4])[0]
    at = content.index(b"tags", content.index(b"tags", footer) + 1)
    content[at] = ord("x")
    path.write_bytes(content)
    assert pq.ParquetFile(path).metadata.row_group(0).column(1).path_in_schema == "xags"

    assert outcome(path) == "{'good': 2, 'bad': 0}"


# --- what holds for every compressed file ---


def test_file_may_unpack_to_the_configured_ratio():
    content = b"a" * (1 << 20)
    for ratio, is_refused in ((300, False), (0.5, True)):
        file = UnpackedFile(io.BytesIO(content), "x.gz", 1 << 29, ReadLimits(unpacked_ratio=ratio))
        file._most = int(len(content) * ratio)  # without a file of 256 MB
        if not is_refused:
            assert file.read(len(content)) == content
            continue
        with pytest.raises(ValueError, match=r"x.gz must unpack to at most 0.5 times its size"):
            file.read(len(content))


@pytest.mark.parametrize("size", [1 << 20, (1 << 20) + 1, 3 << 20])
def test_lines_are_those_of_the_file_at_every_edge_of_a_block(size):
    lines = [b"", b"a" * (size - 2), b"", b"b\r", b"c"]

    assert list(lines_of(io.BytesIO(b"\n".join(lines)), "f", ReadLimits())) == lines


def test_line_within_the_limit_is_put_together_once():
    """Three lines of 200 MB took a minute: every block copied the previous ones."""
    line = b"a" * (40 << 20)
    limits = ReadLimits(row_bytes=len(line))

    assert list(lines_of(io.BytesIO(line + b"\n" + line), "f", limits)) == [line, line]
    with pytest.raises(ValueError, match=r"f must have rows of at most 40 MB.* in line 2\."):
        list(lines_of(io.BytesIO(line + b"\na" + line + b"\n"), "f", limits))


@pytest.mark.parametrize("opened", [gzip.open, bz2.open])
def test_compressed_rows_are_all_read(tmp_path, opened):
    path = tmp_path / f"items.jsonl.{'gz' if opened is gzip.open else 'bz2'}"
    with opened(path, "wt") as file:
        file.writelines(json.dumps({"item_id": i, "tags": ["a"]}) + "\n" for i in range(50_000))

    assert outcome(path) == "{'good': 50000, 'bad': 0}"


# --- instances ---


def masked(data):
    crc = google_crc32c.value(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


@pytest.mark.parametrize("compressed", [False, True])
def test_record_of_an_absurd_length_is_refused(tmp_path, compressed):
    """TensorFlow allocated a terabyte, which ended the process."""
    header = struct.pack("<Q", 1 << 40)
    path = tmp_path / "x.tfrecord"
    content = header + masked(header) + b"abc"
    path.write_bytes(gzip.compress(content) if compressed else content)

    with pytest.raises(ValueError, match=r"x.tfrecord, whose record 1 says it has 1099511627776 b"):
        list(InstanceReader("tf-record", None, [], {}).read(Shard(0, str(path))))


def test_line_of_instances_that_is_too_long_is_set_aside_and_the_next_is_read(tmp_path):
    path = tmp_path / "x.jsonl.gz"
    write_gzip(path, [b'{"a": "', *[MB] * 40, b'"}\n{"a": "b"}\n'])

    long, good = InstanceReader("jsonl", None, [], {"a": False}).read(Shard(0, str(path)))

    assert isinstance(long, Rejected) and long.reason == "The line has more than 16 MB."
    assert len(long.text) < 5000
    assert good.features == {"a": "b"}


@pytest.mark.parametrize("line", [b"[" * 100_000, b"x", b"[]", b'{"interests": 1}', b"\xff"])
def test_planted_file_that_is_none_is_named_with_its_line(tmp_path, line):
    from trainer.contract.tag_normalization import TagNormalization

    path = tmp_path / "planted.jsonl"
    path.write_bytes(b'{"interests": [], "cross_interests": []}\n' + line)

    with pytest.raises(ValueError, match=r"`data.planted` must be .* Received: .*jsonl, line 2\.$"):
        list(read_planted(str(path), TagNormalization(trim=True, lowercase=True, nfc=True)))


def test_memory_limit_of_these_tests_holds():
    with pytest.raises(subprocess.CalledProcessError):
        limit = f"resource.setrlimit(resource.RLIMIT_DATA, ({MEMORY_BYTES}, {MEMORY_BYTES}))"
        code = f"import resource; {limit}; b'x' * {MEMORY_BYTES}"
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert resource.RLIMIT_DATA
