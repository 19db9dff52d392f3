"""Blocks of a file's lines contain every line once, under its number in the file."""

import gzip

import pytest

from tfx_pipeline.datasets.source_lines import RejectedLines, find_blocks, read_lines

LINES = [
    b"a\tb\n",
    b"\n",
    b"caf\xc3\xa9\tx\r\n",
    b"no separator\n",
    b"\xff\ty\n",
    b"long" * 9 + b"\tz",
]


@pytest.fixture(params=["lines.tsv", "lines.tsv.gz"])
def path(request, tmp_path):
    raw = b"".join(LINES)
    path = tmp_path / request.param
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return str(path)


def read(path, block=None):
    rejected = RejectedLines()
    lines = read_lines(path, rejected, separator="\t", num_fields=2, encoding="utf-8", block=block)
    return [(line.number, line.fields) for line in lines], rejected.rows


@pytest.mark.parametrize("block_bytes", [1, 2, 12, 1000])
def test_blocks_have_every_line_once(path, block_bytes):
    blocks = find_blocks(path, block_bytes)

    good, rejected = read(path)
    assert [number for number, _ in good] == [1, 3, 6]
    assert [row["row"] for row in rejected] == [4, 5]
    parts = [read(path, block) for block in blocks]
    assert [line for lines, _ in parts for line in lines] == good
    assert [row for _, rows in parts for row in rows] == rejected
    assert sum(block.num_lines for block in blocks) == len(LINES)
    assert len(blocks) == {1: 6, 2: 5, 12: 3, 1000: 1}[block_bytes]


def test_block_ends_with_the_line_that_makes_it_long_enough(path):
    first, second, *_ = find_blocks(path, 12)

    # 4 bytes, 1 and 9; then 13.
    assert (first.first, first.num_lines, first.offset) == (1, 3, 0)
    assert (second.first, second.num_lines, second.offset) == (4, 1, 14)


def test_file_without_lines_has_no_block(tmp_path):
    (tmp_path / "empty").touch()

    assert find_blocks(str(tmp_path / "empty"), 1) == []


def test_file_that_breaks_off_is_named(tmp_path):
    path = tmp_path / "half.gz"
    path.write_bytes(gzip.compress(b"".join(LINES) * 100)[:-20])

    with pytest.raises(ValueError, match=r"half\.gz cannot be read: .* Download it again\."):
        find_blocks(str(path), 1000)
