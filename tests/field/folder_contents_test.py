"""Folders with markers, checksums, logs, and files that are half written or packed otherwise.

One rule says what is data, for tables, batch prediction and logged requests alike.
"""

import bz2
import gzip
import json
import logging
import os

import pyarrow as pa
import pytest

from serving.batch.input import TF_RECORD, InstanceReader, find_shards
from tfx_pipeline.config.data import DataConfig, WindowConfig
from tfx_pipeline.tables import schema, table_files
from tfx_pipeline.tables.arrow_files import check_table, read_table
from tfx_pipeline.tables.daily_window import find_window
from tfx_pipeline.tables.inputs import find_tables
from trainer.contract.data_files import find_data_files
from trainer.contract.features import Domain, FeatureSpec

# Files that are not data, by any writer, and need no message.
SIDE_FILES = [
    "_SUCCESS",
    "_committed_4711",
    "_started_4711",
    "_metadata",
    ".part-0.csv.crc",
    "part-0.csv.crc",
    "part-0.csv.md5",
    "README",
    "README.md",
    "license.txt",
    "part-1.csv._COPYING_",
    "date=2024-01-01_$folder$",
    "_temporary/0/task_1/part-0.csv",
    "_delta_log/00000000000000000000.json",
    "_delta_log/00000000000000000010.checkpoint.parquet",
    ".spark-staging/date=2024-01-01/part-0.csv",
    ".ipynb_checkpoints/part-0-checkpoint.csv",
    "date=2024-01-02/_temporary/part-0.csv",
    "date=2024-01-02/.part-0.csv.swp",
]
DATA = ["part-0.csv", "date=2024-01-02/part-0.csv", "_date=2024-01-03/part-0.csv", "a/b/c.csv"]


def fill(folder, names, content=b"user_id\nu\n"):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def names_of(paths, folder):
    return [os.path.relpath(path, folder) for path in paths]


def users_in(place):
    return [
        row["user_id"]
        for batch in read_table(str(place), schema.USERS)
        for row in batch.rows.to_pylist()
    ]


@pytest.fixture(autouse=True)
def _say_again():
    """Clears what was logged: a line is logged once a process, and each test needs it."""
    table_files._warn_once.cache_clear()


def test_side_files_and_hidden_folders_are_no_data_and_are_not_mentioned(tmp_path, caplog):
    fill(tmp_path, SIDE_FILES)
    fill(tmp_path, DATA)

    with caplog.at_level(logging.WARNING):
        files = check_table(str(tmp_path), schema.USERS)

    assert names_of(files, tmp_path) == sorted(DATA)
    assert caplog.messages == []
    assert users_in(tmp_path) == ["u"] * 4


@pytest.mark.parametrize("side", SIDE_FILES)
def test_each_side_file_alone_is_no_data(tmp_path, side):
    fill(tmp_path, [side])

    assert find_data_files(str(tmp_path)) == []
    with pytest.raises(ValueError, match="No table file found at"):
        check_table(str(tmp_path), schema.USERS)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*", ["_date=2024-01-03/part-0.csv", "a/b/c.csv", "date=2024-01-02/part-0.csv"]),
        ("*.csv", []),
        ("date=*", ["date=2024-01-02/part-0.csv"]),
        ("*/*.csv", ["_date=2024-01-03/part-0.csv", "date=2024-01-02/part-0.csv"]),
        ("**/*.csv", ["_date=2024-01-03/part-0.csv", "a/b/c.csv", "date=2024-01-02/part-0.csv"]),
        ("_temporary/*/*/*.csv", ["_temporary/0/task_1/part-0.csv"]),
        ("_temp*/*/*/*.csv", ["_temporary/0/task_1/part-0.csv"]),
        ("_temporary", ["_temporary/0/task_1/part-0.csv"]),
    ],
)
def test_glob_finds_what_a_folder_would_and_what_it_names_itself(tmp_path, pattern, expected):
    fill(tmp_path, SIDE_FILES)
    fill(tmp_path, DATA[1:])

    assert names_of(find_data_files(str(tmp_path / pattern)), tmp_path) == expected


def test_folder_is_read_below_a_hidden_one_that_the_user_names(tmp_path):
    folder = tmp_path / ".cache" / "_raw"
    fill(folder, ["part-0.csv"])

    assert users_in(folder) == ["u"]
    assert users_in(f"{folder}/*.csv") == ["u"]


def test_links_are_followed_and_one_to_its_own_folder_ends(tmp_path):
    fill(tmp_path / "elsewhere", ["part-0.csv"])
    folder = tmp_path / "log"
    fill(folder, ["part-1.csv"])
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "self").symlink_to(folder)

    assert names_of(find_data_files(str(folder)), folder) == ["linked/part-0.csv", "part-1.csv"]


def test_link_that_leads_nowhere_is_not_passed_over(tmp_path):
    fill(tmp_path, ["part-0.csv"])
    (tmp_path / "part-1.csv").symlink_to(tmp_path / "gone.csv")

    with pytest.raises(ValueError, match=r"part-1.csv cannot be read: .*No such file"):
        check_table(str(tmp_path), schema.USERS)


def test_name_that_is_no_utf8_is_one_line(tmp_path):
    path = os.fsencode(tmp_path) + b"/caf\xe9.csv"
    with open(path, "wb") as file:
        file.write(b"user_id\nu\n")

    for place in (str(tmp_path), os.fsdecode(path)):
        with pytest.raises(ValueError, match=r"caf\\udce9.csv' must have a name in UTF-8"):
            check_table(place, schema.USERS)


# Packings.


def zstd(content: bytes) -> bytes:
    return pa.compress(content, "zstd", asbytes=True)


def packed(text: str) -> dict[str, bytes]:
    """Returns, by suffix, the text as other programs pack it; some append one piece to another."""
    content = text.encode()
    half = len(content) // 2
    pieces = content[:half], content[half:]
    return {
        "": content,
        ".gz": b"".join(map(gzip.compress, pieces)),
        ".bz2": b"".join(map(bz2.compress, pieces)),
        ".zst": b"".join(map(zstd, pieces)),
    }


def test_every_packing_beside_plain_files_is_read(tmp_path):
    expected = []
    for i, kind in enumerate(("csv", "jsonl")):
        for j in range(4):
            user = f"{kind}{j}-ä"
            row = json.dumps({"user_id": user}, ensure_ascii=False)
            text = f"{row}\n" if kind == "jsonl" else f"user_id\n{user}\n"
            suffix, content = list(packed(text).items())[j]
            (tmp_path / f"part-{i}-{j}.{kind}{suffix}").write_bytes(content)
            expected.append(user)

    assert users_in(tmp_path) == expected


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".zst"])
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_packed_file_that_breaks_off_is_one_line(tmp_path, suffix, kind):
    rows = "".join(
        f'{{"user_id": "u{i * 7919 % 99_991}"}}\n' if kind == "jsonl" else f"u{i * 7919 % 99_991}\n"
        for i in range(5_000)
    )
    content = packed(rows if kind == "jsonl" else f"user_id\n{rows}")[suffix]
    path = tmp_path / f"users.{kind}{suffix}"
    for kept in (len(content) - 4, len(content) // 3):
        path.write_bytes(content[:kept])

        with pytest.raises(ValueError, match=f"{path} cannot be read: ") as refused:
            users_in(path)
        assert "\n" not in str(refused.value)
    path.write_bytes(b"user_id\nplain text under the name of a packed one\n")
    with pytest.raises(ValueError, match=f"{path} cannot be read: "):
        users_in(path)


UNREADABLE = ["a.csv.lz4", "b.orc", "c.avro", "d.parquet.tmp", "e.csv.part", "part-0", "f.json"]


@pytest.mark.parametrize("name", UNREADABLE)
def test_file_that_cannot_be_read_is_named_and_the_others_are_read(tmp_path, caplog, name):
    fill(tmp_path, ["part-0.csv", name])

    with caplog.at_level(logging.WARNING, logger="tagtower"):
        assert users_in(tmp_path) == ["u"]
        assert users_in(tmp_path) == ["u"]

    (line,) = caplog.messages
    assert f"beside the files of users: {tmp_path / name}. Known are .parquet" in line


@pytest.mark.parametrize("name", UNREADABLE)
def test_folder_of_nothing_that_can_be_read_is_refused_by_the_names(tmp_path, name):
    fill(tmp_path, [name])

    with pytest.raises(ValueError) as refused:
        check_table(str(tmp_path), schema.USERS)

    assert f"No table file found at {tmp_path}. Received: {tmp_path / name}." in str(refused.value)


def test_many_files_that_cannot_be_read_are_one_line_over_all_days_of_a_window(tmp_path, caplog):
    spec = FeatureSpec(domains=(Domain("clicked"),))
    for day in range(1, 6):
        fill(
            tmp_path / "log" / f"date=2024-01-0{day}",
            ["part-0.csv"],
            b"user_id,item_id,timestamp,clicked\nu,i,1700000000,1\n",
        )
        fill(tmp_path / "log" / f"date=2024-01-0{day}", ["part-1.csv.lz4", "_SUCCESS"])
    fill(tmp_path, ["users.csv"])
    fill(tmp_path, ["items.csv"], b"item_id,tags,category\ni,t,c\n")
    data = DataConfig(
        interactions=str(tmp_path / "log" / "date={date}"),
        items=str(tmp_path / "items.csv"),
        users=str(tmp_path / "users.csv"),
        window=WindowConfig(days=5, marker="_SUCCESS"),
    )

    with caplog.at_level(logging.WARNING, logger="tagtower"):
        assert len(find_tables(data, spec)["interactions"]) == 5

    (line,) = caplog.messages
    assert f"{tmp_path / 'log' / 'date=2024-01-01' / 'part-1.csv.lz4'}, " in line
    assert "part-1.csv.lz4 and 2 more. Known" in line


def test_day_with_nothing_but_side_files_is_not_complete(tmp_path):
    for day in (1, 2):
        fill(tmp_path / f"date=2024-01-0{day}", ["part-0.csv"])
    fill(tmp_path / "date=2024-01-03", ["_temporary/0/part-0.csv", ".part-0.csv.crc", "_SUCCESS"])
    data = DataConfig(
        interactions=str(tmp_path / "date={date}"),
        items="items.csv",
        users="users.csv",
        window=WindowConfig(days=2, marker=None),
    )

    assert find_window(data).days == ("2024-01-01", "2024-01-02")


# Batch prediction and logged requests.


def test_batch_prediction_and_requests_find_the_same_files(tmp_path):
    fill(tmp_path, SIDE_FILES)
    fill(tmp_path, ["a-tfrecord-0", "b/c-tfrecord-1"], b"")
    fill(tmp_path, ["a-tfrecord-2.0815.tmp", "b/c.partial"])  # what a killed worker of ours leaves

    for place in (str(tmp_path), str(tmp_path / "*")):
        found, shards = find_shards(place, "auto", 1 << 20)

        assert found == TF_RECORD
        assert names_of([s.path for s in shards], tmp_path) == ["a-tfrecord-0", "b/c-tfrecord-1"]


def test_requests_are_read_from_a_folder_with_side_files(tmp_path):
    fill(tmp_path, SIDE_FILES)
    fill(tmp_path, ["2024/requests.jsonl"], b'{"clicked": ["jazz"]}\n')
    reader = InstanceReader("jsonl", None, (), {"clicked": True})

    instances = [
        each for s in find_shards(str(tmp_path), "jsonl", 99)[1] for each in reader.read(s)
    ]

    assert [each.features for each in instances] == [{"clicked": ["jazz"]}]


@pytest.mark.parametrize("name", ["changelog.csv", "notice.parquet", "readme.jsonl", "license.csv"])
def test_table_named_after_a_document_is_data(tmp_path, name):
    fill(tmp_path, [name, "README", "NOTICE.txt", "changelog.md"])

    assert names_of(find_data_files(str(tmp_path)), tmp_path) == [name]
