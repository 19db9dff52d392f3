"""CSV files that are truncated or written for other programs: read correctly or refused."""

import csv
import dataclasses
import io
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tfx_pipeline.tables import csv_rows, schema
from tfx_pipeline.tables.arrow_files import check_table, read_table
from tfx_pipeline.tables.csv_quotes import WatchedCsv
from tfx_pipeline.tables.read_limits import ReadLimits

HEADER = b"user_id,city\n"
USERS = schema.users_table(["city"])


def read(path) -> list[tuple[str, str]]:
    """Reads the rows of a users table; none may be set aside."""
    rows = []
    for batch in read_table(str(path), USERS):
        assert batch.rejected.num_rows == 0, batch.rejected.to_pylist()
        rows += [tuple(row.values()) for row in batch.rows.to_pylist()]
    return rows


def refusal(path, table=USERS) -> str:
    """Returns the one line that says why the table is not read."""
    with pytest.raises(ValueError) as refused:
        list(read_table(str(path), table))
    message = str(refused.value)
    assert "\n" not in message
    assert str(path) in message
    return message


# Unclosed quotes.


@pytest.mark.parametrize(
    ("body", "line"),
    [
        pytest.param(b'a,"x\nb,y\nc,z\n', 2, id="until the end of the file"),
        pytest.param(b'a,x\nb,y\nc,"z', 4, id="in the last value"),
        pytest.param(b'a,"x\nb,"y"\nc,z\n', 2, id="until a quote that opens another value"),
        pytest.param(b'a,x\nb,"y\n"c",z\nd,"w"\n', 3, id="until a quote at the start of a row"),
        pytest.param(b'a,"x\nb,""\nc,z\n', 2, id="over an empty value in quotes"),
        pytest.param(b'a,"x ""y"\nb,"""z\nc,""""\n', 3, id="among doubled quotes"),
        pytest.param(b'a,"x\r\ny"\r\nb,"z\r\nc,w\r\n', 4, id="after a value of two lines"),
        pytest.param(b'a,5" disc\nb,"x\nc,y\n', 3, id="after a quote in a value without quotes"),
    ],
)
@pytest.mark.parametrize("block_bytes", [16, 21, 4 << 20])
def test_unclosed_quote_is_refused_by_file_and_line(tmp_path, monkeypatch, body, line, block_bytes):
    monkeypatch.setattr(csv_rows, "block_bytes", lambda _, size=block_bytes: size)
    path = tmp_path / "users.csv"
    path.write_bytes(HEADER + body)

    assert f"one that begins in line {line} and is not closed" in refusal(path)


def test_unclosed_quote_deep_in_a_large_file_is_found(tmp_path):
    """An open quote in the middle once swallowed the rest of the file without a message."""
    rows = [b'u%d,"city, %d"\n' % (i, i) for i in range(300_000)]
    rows[123_456] = b'u123456,"city\n'
    path = tmp_path / "users.csv"
    path.write_bytes(HEADER + b"".join(rows))

    assert "begins in line 123458" in refusal(path)

    rows = [b"u%d,city %d\n" % (i, i) for i in range(600_000)]
    rows[200_000] = b'u200000,"city\n'
    path.write_bytes(HEADER + b"".join(rows))

    assert "begins in line 200002" in refusal(path)


@pytest.mark.parametrize(
    ("body", "rows"),
    [
        (b'a,"x"\n', [("a", "x")]),
        (b'a,"x\ny"\nb,z\n', [("a", "x\ny"), ("b", "z")]),
        (b'a,"he said ""x"""\n', [("a", 'he said "x"')]),
        (b'a,5" disc\nb,12" disc\n', [("a", '5" disc'), ("b", '12" disc')]),
        (b'a,"x"y\n', [("a", "xy")]),
        (b'"",""\n"b",""""\n', [("", ""), ("b", '"')]),
        (b'a,"x"', [("a", "x")]),
        (b'a,"x\n"', [("a", "x\n")]),
        (b'a,"x\r\n,\r\n"\r\nb,y\r\n', [("a", "x\r\n,\r\n"), ("b", "y")]),
    ],
)
@pytest.mark.parametrize("block_bytes", [16, 4 << 20])
def test_quotes_that_are_closed_are_read_as_before(tmp_path, monkeypatch, body, rows, block_bytes):
    monkeypatch.setattr(csv_rows, "block_bytes", lambda _, size=block_bytes: size)
    path = tmp_path / "users.csv"
    path.write_bytes(HEADER + body)

    assert read(path) == rows


def oracle(text: bytes) -> tuple[int | None, int | None]:
    """Returns the lines of the quote open at the end and of the first one closed too late."""
    line, opened, unclosed, is_start, position = 1, None, None, True, 0
    while position < len(text):
        char, after = text[position : position + 1], text[position + 1 : position + 2]
        position += 1
        if opened is not None:
            if char == b'"' and after == b'"':
                position += 1
            elif char == b'"':
                is_odd = after not in (b"", b",", b"\r", b"\n")
                if is_odd and line > opened and unclosed is None:
                    unclosed = opened
                opened, is_start = None, False
        elif char == b'"' and is_start:
            opened = line
        else:
            is_start = char in (b",", b"\r", b"\n")
        line += char == b"\n"
    return opened, unclosed


@pytest.mark.parametrize("alphabet", [b'",\nx', b'"\r\n,', b'""",,\nxyz' * 2 + b"\r"])
def test_watch_agrees_with_an_oracle_that_reads_byte_by_byte(alphabet):
    random_ = random.Random(7)
    for _ in range(3_000):
        text = bytes(random_.choices(alphabet, k=random_.randrange(1, 40)))
        watched = WatchedCsv(io.BytesIO(text))
        blocks = []
        while block := watched.read(random_.randrange(1, 12)):
            blocks.append(block)

        assert b"".join(blocks) == text
        assert (watched.watch.opened_in, watched.watch.unclosed_in) == oracle(text), text


def test_files_of_python_s_writer_are_whole(tmp_path, monkeypatch):
    """What Python's csv module writes comes back whole, for any text and any block size."""
    random_ = random.Random(3)
    rows = [
        (f"u{i}", "".join(random_.choices('",\n\rx é', k=random_.randrange(9)))) for i in range(200)
    ]
    path = tmp_path / "users.csv"
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("user_id", "city"), *rows])
    for block_bytes in (40, 41, 64, 97, 1_000):
        monkeypatch.setattr(csv_rows, "block_bytes", lambda _, size=block_bytes: size)

        assert read(path) == rows


# Blocks.


@pytest.mark.parametrize("line_end", [b"\r\n", b"\n"])
def test_line_break_within_quotes_keeps_its_bytes_at_every_edge_of_a_block(
    tmp_path, monkeypatch, line_end
):
    """Arrow took a line feed at the start of a block for the end of the previous row."""
    monkeypatch.setattr(csv_rows, "block_bytes", lambda _, size=64: size)
    path = tmp_path / "users.csv"
    for num_before in range(70):
        text = "y" * num_before + "\r\nz\r\n"
        body = b'a,"' + text.encode() + b'"' + line_end + b"b,c" + line_end
        path.write_bytes(b"user_id,city" + line_end + b"first,row" + line_end + body)
        if num_before < 40:  # else the row is longer than a block
            assert read(path) == [("first", "row"), ("a", text), ("b", "c")], num_before


def test_line_break_on_the_edge_of_a_real_block_keeps_its_bytes(tmp_path):
    edge = 4 << 20
    path = tmp_path / "users.csv"
    row = b"u" * 4_000 + b",row\n"
    head = HEADER + row * ((edge - 4_100) // len(row)) + b'a,"'
    for offset in range(-3, 4):
        num_before = edge - len(head) - 1 + offset
        path.write_bytes(head + b"y" * num_before + b'\r\nz"\nb,c\n')

        assert read(path)[-2:] == [("a", "y" * num_before + "\r\nz"), ("b", "c")]


@pytest.mark.parametrize("end", [b'"x"', b'"x"\n', b'"x"\r\n', b'"x"\r', b'"x"""'])
def test_last_row_over_the_edge_of_a_block_is_whole(tmp_path, monkeypatch, end):
    monkeypatch.setattr(csv_rows, "block_bytes", lambda _, size=32: size)
    path = tmp_path / "users.csv"
    for num_before in range(40):
        path.write_bytes(HEADER + b"y" * num_before + b"\nlast," + end)
        num_bad = 1 if num_before else 0  # a row of one column

        batches = list(read_table(str(path), USERS))

        value = end.strip().decode()[1:-1].replace('""', '"')
        assert [row for b in batches for row in b.rows.to_pylist()] == [
            {"user_id": "last", "city": value}
        ]
        assert sum(b.rejected.num_rows for b in batches) == num_bad


def test_row_longer_than_the_limit_says_so(tmp_path):
    table = dataclasses.replace(USERS, limits=ReadLimits(row_bytes=1 << 20))
    path = tmp_path / "users.csv"
    path.write_bytes(HEADER + b"a,b\n" + b"u," + b"x" * (5 << 20) + b"\n")

    assert refusal(path, table) == (
        f"{path} must have rows of at most 1 MB. Received: a longer one in line 3. "
        "Mend the file, or raise `data.max_row_mb`."
    )


# Headers.


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"user_id,city\ra,x\rb,y\r", "must end its lines with a line feed"),
        ("user_id,city\na,x\n".encode("utf-16-le"), "a header with NUL bytes, as UTF-16 has them"),
        ("user_id,city\na,x\n".encode("utf-16-be"), "a header with NUL bytes, as UTF-16 has them"),
        ("user_id,city\na,x\n".encode("utf-16"), "must be UTF-8 text. Received: UTF-16."),
        (b"user_id,ci\0ty\na,x\n", "NUL bytes"),
        (
            b'user_id,"city\na,x\nb,y\n',
            "must close every quote. Received: an open one in the header",
        ),
        (
            b'user_id,"city\na,"x"\nb,y\n',
            "must close every quote. Received: an open one in the header",
        ),
        (b'"user_id,city\na,x\n' + b"b,y\n" * 50_000, "must close every quote"),
        ("user_id,größe\na,x\n".encode("latin-1"), "must be UTF-8 text. Its header is not"),
        (b"user_id,city,city\na,x,y\n", "must have each column once. Received twice: city."),
        (b"user_id," + b"x" * 200_000 + b"\na,x\n", "must have column names in its first line"),
        (b",city\na,x\n", "must have the column `user_id`"),
    ],
)
def test_damaged_header_is_one_line(tmp_path, content, said):
    path = tmp_path / "users.csv"
    path.write_bytes(content)

    with pytest.raises(ValueError) as refused:
        check_table(str(path), USERS)

    assert said in str(refused.value)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "content",
    [
        b",user_id,city\n0,a,x\n1,b,y\n",  # pandas writes its index so
        b"user_id,city,\na,x,\nb,y,\n",
        # The columns are not declared, so a repeated name does not matter.
        b"user_id,,,city\na,1,2,x\nb,,,y\n",
        b"note,user_id,note,city\n1,a,2,x\n,b,,y\n",
        b'\xef\xbb\xbf"user_id",city\na,x\nb,y\n',
        b"\n\r\nuser_id,city\na,x\nb,y\n",
        b'user_id,city,"a\nnote"\na,x,1\nb,y,2\n',
    ],
)
def test_unusual_header_is_read(tmp_path, content):
    path = tmp_path / "users.csv"
    path.write_bytes(content)

    rows = [row for batch in read_table(str(path), USERS) for row in batch.rows.to_pylist()]

    assert [(row["user_id"], row["city"]) for row in rows] == [("a", "x"), ("b", "y")]


def test_header_alone_after_blank_lines_has_no_row(tmp_path):
    path = tmp_path / "users.csv"
    path.write_bytes(b"\n\nuser_id,city\n\n")

    with pytest.raises(ValueError, match="has no row"):
        check_table(str(path), USERS)


REFUSING = """
import sys
from tfx_pipeline.cli import main
sys.argv[1:] = ["compile", "--config", sys.argv[1], "--root", "/x", "--image", "i", "--output", "p"]
main()
"""


def test_refusal_ends_the_process_in_order_while_arrow_reads_ahead(tmp_path):
    # Arrow's thread still asked for bytes when the interpreter ended: one run in six aborted.
    (tmp_path / "interactions.csv").write_text("user_id,item_id,timestamp,clicked\nu,1,100,1\n")
    (tmp_path / "users.csv").write_text("user_id\nu\n")
    (tmp_path / "items.csv").write_text('item_id,tags\n1,"a\n2,b\n')
    data = {name: f"{tmp_path}/{name}.csv" for name in ("interactions", "items", "users")}
    config = {"name": "c", "data": data, "features": {"domains": [{"name": "clicked_tags"}]}}
    (tmp_path / "c.yaml").write_text(json.dumps(config))

    for _ in range(8):
        ended = subprocess.run(
            [sys.executable, "-c", REFUSING, str(tmp_path / "c.yaml")],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

        assert (ended.returncode, ended.stdout) == (2, "")
        assert ended.stderr.count("\n") == 1
        assert "`data.items`: " in ended.stderr
        assert "must close every quote. Received: one that begins in line 2" in ended.stderr


ABANDONING = """
import itertools, sys, threading
from tfx_pipeline.tables import csv_rows, schema
from tfx_pipeline.tables.arrow_files import read_batches

csv_rows._BLOCK_BYTES = 1 << 14

def busy():
    while True:
        sum(range(1000))

for _ in range(2):
    threading.Thread(target=busy, daemon=True).start()
for _ in range(6):
    batches = read_batches(sys.argv[1], schema.users_table(["city"]), batch_rows=100)
    next(batches)
    batches.close()
print("done", flush=True)
"""


def test_file_that_is_not_read_to_its_end_holds_nobody(tmp_path):
    # The thread that destroyed the reader held Python's lock, for which Arrow's thread waited.
    path = tmp_path / "users.csv"
    path.write_bytes(HEADER + b"".join(b"u%d,some city\n" % i for i in range(40_000)))
    code = "import os, sys\n" + ABANDONING + "os._exit(0)\n"

    ended = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )

    assert (ended.returncode, ended.stdout) == (0, "done\n"), ended.stderr
