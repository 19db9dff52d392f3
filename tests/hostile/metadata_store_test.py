"""A lost or damaged metadata store: one line with the command that continues."""

import os
import re
import sqlite3
import subprocess

import pytest

from tests.tfx_pipeline.run_log.logged_runs import daily_config
from tfx_pipeline.artifacts.metadata_store import check_store
from tfx_pipeline.cli import main
from tfx_pipeline.config.pipeline import to_json
from tfx_pipeline.run_log.log import read_runs

NUM_ROWS = 4000


@pytest.fixture
def output(tmp_path):
    """Makes an output folder with an artifact and the tables of a store, of many pages."""
    folder = tmp_path / "run of 'today'"
    artifact = folder / "artifacts" / "Trainer" / "model" / "7"
    artifact.mkdir(parents=True)
    (artifact / "saved_model.pb").write_text("towers")
    with sqlite3.connect(folder / "metadata.sqlite") as store:
        for table in ("Artifact", "Execution", "Event", "MLMDEnv"):
            store.execute(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, text TEXT)")
            rows = [(i, "x" * 50) for i in range(NUM_ROWS)]
            store.executemany(f"INSERT INTO {table} VALUES (?, ?)", rows)
    store.close()
    return folder


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def scribble(path):
    content = bytearray(path.read_bytes())
    content[8192:12288] = b"\xff" * 4096
    path.write_bytes(content)


def replace_by_folder(path):
    path.unlink()
    path.mkdir()


def other_database(path):
    path.unlink()
    with sqlite3.connect(path) as store:
        store.execute("CREATE TABLE mine (id INTEGER)")
    store.close()


DAMAGES = {
    "it is not there": lambda path: path.unlink(),
    "it is empty": lambda path: path.write_bytes(b""),
    "it is not an SQLite database": lambda path: path.write_bytes(os.urandom(50_000)),
    "it is a folder": replace_by_folder,
    "it is truncated or damaged": cut,
    "it is truncated or damaged (": scribble,
    "it is another database": other_database,
}


@pytest.mark.parametrize("fault", DAMAGES)
def test_fault_is_a_line_whose_command_moves_everything_aside(output, fault):
    check_store(str(output))
    DAMAGES[fault](output / "metadata.sqlite")

    # The second time the store was removed by hand.
    for aside, words in (("lost", fault), ("lost-2", "it is not there")):
        with pytest.raises(ValueError) as error:
            check_store(str(output))
        line = str(error.value)
        assert words in line and "\n" not in line
        assert "The cache and the last blessed model are lost" in line
        (command,) = re.findall("Give `(.*?)`, then the same command", line)
        subprocess.run(command, shell=True, check=True)
        check_store(str(output))
        assert (output / aside / "artifacts" / "Trainer").is_dir()
        assert not (output / "metadata.sqlite").exists()
        (output / "artifacts" / "Trainer").mkdir(parents=True)


def test_first_run_needs_no_store(tmp_path):
    check_store(str(tmp_path))
    (tmp_path / "metadata.sqlite").write_bytes(b"")  # of one that was killed as it began
    check_store(str(tmp_path))


def test_store_with_a_transaction_of_a_killed_run_is_whole(output):
    with sqlite3.connect(output / "metadata.sqlite", isolation_level=None) as store:
        store.execute("PRAGMA cache_size = 1")  # what does not fit is written at once
        store.execute("BEGIN")
        store.execute("UPDATE Artifact SET text = 'half'")
        copies = [(path, path.read_bytes()) for path in output.glob("metadata.sqlite*")]
        store.execute("ROLLBACK")
    store.close()
    for path, content in copies:
        path.write_bytes(content)
    assert len(copies) == 2
    check_store(str(output))
    with sqlite3.connect(output / "metadata.sqlite") as store:
        assert store.execute("SELECT DISTINCT text FROM Artifact").fetchall() == [("x" * 50,)]
    store.close()


def test_run_says_it_before_tfx_is_loaded_and_keeps_it_as_its_reason(tmp_path, capsys):
    config = daily_config(tmp_path)
    path = tmp_path / "config.yaml"
    path.write_text(to_json(config))
    os.makedirs(os.path.join(config.output_dir, "artifacts", "Trainer"))

    assert main(["run", "--config", str(path)]) == 2

    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert line.startswith("tagtower run: ") and "it is not there" in line
    assert "loading TFX" not in out
    (report,) = read_runs(config.output_dir)
    assert report["run.state"] == "failed" and "metadata.sqlite" in report["run.reason"]
