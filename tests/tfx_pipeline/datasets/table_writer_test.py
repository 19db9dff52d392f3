"""The output folder appears whole or not at all, and replaces nothing else."""

import json
import os
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tfx_pipeline.datasets.table_writer import INTERACTIONS_SCHEMA, TableWriter
from trainer.contract import file_system


def _rows(first, n):
    ids = [str(i) for i in range(first, first + n)]
    return pa.table(
        {"user_id": ids, "item_id": ids, "timestamp": list(range(n)), "clicked": [1] * n}
    )


def _write(output, command="tagtower prepare test", first=0):
    with TableWriter(str(output), command=command, rows_per_part=5) as writer:
        for start in range(0, 12, 3):
            writer.write_interactions(_rows(first + start, 3))
        writer.write_items(pa.table({"item_id": ["a"]}))
        writer.write_users(pa.table({"user_id": ["u"]}))
        writer.write_users(pa.table({"user_id": ["v"]}))
        writer.write_json_lines("x.jsonl", [{"a": 1}])
        writer.write_json_lines("x.jsonl", [{"a": "é"}])
        writer.write_json("y.json", {"b": 2})
    return writer


def test_tables_are_streamed_into_parts(tmp_path):
    writer = _write(tmp_path / "out")
    parts = sorted(os.listdir(tmp_path / "out" / "interactions"))
    assert parts == ["part-00000.parquet", "part-00001.parquet"]
    found = pq.read_table(tmp_path / "out" / "interactions")
    assert found.schema == INTERACTIONS_SCHEMA
    assert sorted(found.column("user_id").to_pylist(), key=int) == [str(i) for i in range(12)]
    assert pq.read_table(tmp_path / "out" / "users.parquet").to_pylist() == [
        {"user_id": "u"},
        {"user_id": "v"},
    ]
    assert writer.num_rows == {"interactions": 12, "items": 1, "users": 2}
    lines = (tmp_path / "out" / "x.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [{"a": 1}, {"a": "é"}]
    assert os.listdir(tmp_path) == ["out"]


def test_own_earlier_output_is_replaced(tmp_path):
    _write(tmp_path / "out")
    (tmp_path / "out" / "left-over.txt").touch()
    _write(tmp_path / "out", first=100)
    found = pq.read_table(tmp_path / "out" / "interactions").column("user_id").to_pylist()
    assert min(found) == "100"
    assert not (tmp_path / "out" / "left-over.txt").exists()
    assert os.listdir(tmp_path) == ["out"]


def test_empty_folder_is_taken(tmp_path):
    (tmp_path / "out").mkdir()
    _write(tmp_path / "out")
    assert (tmp_path / "out" / "items.parquet").is_file()


def test_foreign_folder_is_refused_and_kept(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="`output` must be a new or empty folder"):
        _write(tmp_path / "out")
    assert (tmp_path / "out" / "thesis.txt").read_text() == "years of work"
    assert os.listdir(tmp_path) == ["out"]


def test_output_of_another_command_is_refused(tmp_path):
    _write(tmp_path / "out")
    with pytest.raises(ValueError, match="earlier output of `tagtower prepare other`"):
        _write(tmp_path / "out", command="tagtower prepare other")


def test_file_as_output_is_refused(tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(ValueError, match="`output` must be"):
        _write(tmp_path / "out")


def test_error_leaves_the_earlier_output_as_it_was(tmp_path):
    _write(tmp_path / "out")
    with (
        pytest.raises(KeyError),
        TableWriter(str(tmp_path / "out"), command="tagtower prepare test") as writer,
    ):
        writer.write_interactions(_rows(500, 3))
        raise KeyError("the source broke")
    found = pq.read_table(tmp_path / "out" / "interactions")
    assert len(found) == 12
    assert os.listdir(tmp_path) == ["out"]


def test_interrupt_while_the_folder_begins_leaves_nothing(tmp_path, monkeypatch):
    make_folders = file_system.make_folders

    def interrupted(path):
        make_folders(path)
        raise KeyboardInterrupt

    monkeypatch.setattr(file_system, "make_folders", interrupted)
    with pytest.raises(KeyboardInterrupt):
        _write(tmp_path / "out")
    assert os.listdir(tmp_path) == []


SIGNALLED_BETWEEN_TWO_MOVES = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from tfx_pipeline.terminal import interrupts
from trainer.contract import file_system
from tests.tfx_pipeline.datasets.table_writer_test import _write

move_folder = file_system.move_folder

def move_and_signal(source, target, last=()):
    move_folder(source, target, last=last)
    if ".replaced-" in target:
        os.kill(os.getpid(), signal.SIGTERM)

file_system.move_folder = move_and_signal
with interrupts.interruptible("prepare test"):
    _write({output!r}, first=7)
"""


def test_signal_between_two_moves_loses_no_output(tmp_path):
    output = tmp_path / "out"
    _write(output)
    script = SIGNALLED_BETWEEN_TWO_MOVES.format(tests=os.getcwd(), output=str(output))
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "KeyboardInterrupt" in process.stderr
    assert os.listdir(tmp_path) == ["out"]
    table = pq.read_table(output / "interactions")
    assert table["user_id"].to_pylist()[0] == _rows(7, 1)["user_id"].to_pylist()[0]
