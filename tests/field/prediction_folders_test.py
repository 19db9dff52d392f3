"""Folders of predictions as other programs read them: rows only, and their provenance."""

import datetime
import glob
import json
import os
import shutil

import numpy as np
import pandas as pd
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from serving.batch.batch_predict import BatchPredictConfig, batch_predict
from serving.batch.output import JsonLinesWriter
from serving.batch.staging import Staging
from serving.index.top_k import BruteForceIndex
from serving.servable.export import export_servable
from serving.servable.retrieval import TagRetrieval
from tests.toy_towers import ToyTowers
from tfx_pipeline.commands.prediction_table import ParquetWriter
from trainer.contract.manifest import add_to_manifest
from trainer.contract.signatures import PROVENANCE_FILE

RUNNER = ["--runner=DirectRunner", "--direct_running_mode=in_memory"]
USERS = [("a", "u1"), ("b", "u2"), ("c", "u3")]
# By user: the tag of the user's number first, then the next.
RANKED = [(user, int(name[1]) + n) for user, name in USERS for n in (0, 1)]


@pytest.fixture(scope="module")
def version_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("servable")
    tags = np.eye(6)
    users = np.array([np.roll(np.arange(6, 0, -1.0), i) for i in range(6)])
    ToyTowers(users, tags).save(folder / "towers")
    module = TagRetrieval(tf.saved_model.load(str(folder / "towers")), BruteForceIndex(tags), k=2)
    path = folder / "my-model" / "0000007"
    export_servable(module, str(path), {"index": {"num_tags": 6}})
    return path


def described(folder, version_dir):
    """Writes the prediction of three users and an invalid instance to `folder`."""
    lines = [json.dumps({"user_id": user, "name": name}) for user, name in USERS]
    (folder / "in.jsonl").write_text("\n".join([*lines, '{"user_id": "bad", "name": 1}']))
    return BatchPredictConfig(
        str(version_dir),
        str(folder / "in.jsonl"),
        str(folder / "predictions" / "day=2024-05-03"),
        key_field="user_id",
        shard_bytes=40,
    )


@pytest.fixture
def config(tmp_path, version_dir):
    return described(tmp_path, version_dir)


@pytest.fixture(scope="module")
def table(tmp_path_factory, version_dir):
    """Writes a Parquet folder; returns it, its counts, and the earliest time of its beginning."""
    begun = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
    folder = tmp_path_factory.mktemp("table")
    named = shutil.copytree(version_dir, folder / version_dir.parent.name / version_dir.name)
    config = described(folder, named)
    # By `version.json`, where there is one.
    (named / PROVENANCE_FILE).write_text('{"run": "my-log", "version": 7}')
    add_to_manifest(str(named), [PROVENANCE_FILE])
    counts = batch_predict(config, RUNNER, ParquetWriter)
    return config.output_dir, counts, begun


def arrow_folder(folder):
    return pyarrow.dataset.dataset(folder, format="parquet").to_table().to_pandas()


def pandas_folder(folder):
    return pd.read_parquet(folder)


def duckdb_folder(folder):
    """Reads what `folder/*.parquet` matches, as DuckDB does: also names that begin with `_`."""
    paths = sorted(glob.glob(os.path.join(glob.escape(folder), "*.parquet")))
    return pd.concat([pq.read_table(path).to_pandas() for path in paths], ignore_index=True)


def is_hidden_to_spark(name):
    return name.startswith(".") or (name.startswith("_") and "=" not in name)


def spark_folder(folder):
    """Reads all files that are not hidden, as Spark does; fails on one that is not Parquet."""
    names = sorted(name for name in os.listdir(folder) if not is_hidden_to_spark(name))
    paths = [os.path.join(folder, name) for name in names]
    return pd.concat([pq.read_table(path).to_pandas() for path in paths], ignore_index=True)


@pytest.mark.parametrize("read", [arrow_folder, pandas_folder, duckdb_folder, spark_folder])
def test_parquet_folder_has_the_rows_of_all_files_and_their_version(table, read):
    folder, counts, begun = table

    rows = read(folder)

    assert counts == {"predicted": 3, "errors": 1}
    assert len(glob.glob(f"{folder}/prediction.results-*.parquet")) > 1
    assert list(zip(rows.user_id, rows.tag, strict=True)) == [(u, f"t{n}") for u, n in RANKED]
    assert list(rows["rank"]) == [1, 2] * 3
    assert set(rows.model_version) == {"7"}
    (at,) = set(rows.predicted_at)
    assert begun <= at <= datetime.datetime.now(datetime.timezone.utc)


def test_parent_folder_has_the_days_that_are_done_alone(table, tmp_path):
    parent = tmp_path / "predictions"
    shutil.copytree(table[0], parent / "day=2024-05-03")
    # A killed run of the next day, with a shard that is done.
    left = Staging(str(parent / "day=2024-05-04"), 1).folder
    shutil.copytree(table[0], os.path.join(left, "complete"))

    assert [n for n in os.listdir(parent) if not is_hidden_to_spark(n)] == ["day=2024-05-03"]

    rows = pyarrow.dataset.dataset(parent, format="parquet", partitioning="hive").to_table()

    assert rows.num_rows == 6 and set(rows.column("day").to_pylist()) == {"2024-05-03"}
    assert len(pd.read_parquet(parent)) == 6


def test_every_file_of_rows_and_the_folder_say_model_version_and_time(table):
    folder = table[0]

    about = json.loads(open(f"{folder}/_predictions.json").read())
    model = {name: about["model"][name] for name in ("name", "version")}
    assert model == {"name": "my-log", "version": "7"}
    assert about["counts"] == {"predicted": 3, "errors": 1}
    assert about["input"]["files"][0][0] == "in.jsonl"
    paths = glob.glob(f"{folder}/*.parquet")
    assert len(paths) > 1
    for path in paths:
        assert (
            pq.read_metadata(path).metadata
            | {
                b"tagtower.model_name": b"my-log",
                b"tagtower.model_version": b"7",
                b"tagtower.predicted_at": about["time"].encode(),
            }
            == pq.read_metadata(path).metadata
        )


def test_lines_keep_the_names_and_the_form_of_vertex(config):
    batch_predict(config, RUNNER, JsonLinesWriter)

    names = sorted(os.listdir(config.output_dir))
    results = [name for name in names if name.startswith("prediction.results-0000")]
    assert names == ["_predictions.json", "prediction.errors_stats-00000-of-00001", *results]
    lines = [json.loads(x) for n in results for x in open(f"{config.output_dir}/{n}")]
    assert [set(line) for line in lines] == [{"key", "prediction"}] * 3
    assert set(lines[0]["prediction"]) == {"tags", "scores", "probabilities"}
    about = json.loads(open(f"{config.output_dir}/_predictions.json").read())
    assert (about["model"]["name"], about["model"]["version"]) == ("my-model", "7")
    at = datetime.datetime.fromisoformat(about["time"])
    assert datetime.timedelta() <= datetime.datetime.now(datetime.timezone.utc) - at
    assert at.utcoffset() == datetime.timedelta()


class BreakingLines(JsonLinesWriter):
    """Writes one file and then fails."""

    num_closed = 0

    def write(self, predictions):
        if BreakingLines.num_closed:
            raise RuntimeError("broken in the middle")
        super().write(predictions)

    def close(self):
        super().close()
        BreakingLines.num_closed += 1


class BreakingTable(ParquetWriter):
    """Writes one table file and then fails."""

    num_closed = 0

    def write(self, predictions):
        if BreakingTable.num_closed:
            raise RuntimeError("broken in the middle")
        super().write(predictions)

    def close(self):
        super().close()
        BreakingTable.num_closed += 1


@pytest.mark.parametrize(
    ("writer", "breaking"), [(JsonLinesWriter, BreakingLines), (ParquetWriter, BreakingTable)]
)
def test_run_that_goes_on_keeps_its_time_and_what_is_done(config, writer, breaking):
    breaking.num_closed = 0
    with pytest.raises(RuntimeError, match="broken in the middle"):
        batch_predict(config, RUNNER, breaking)
    parent = os.path.dirname(config.output_dir)
    staging = f"{parent}/_day-2024-05-03.partial"
    (done,) = glob.glob(f"{staging}/complete/*")
    inode = os.stat(done).st_ino
    manifest = json.loads(open(f"{staging}/manifest.json").read())
    manifest["begun"] = "2024-05-03T06:00:00+00:00"
    with open(f"{staging}/manifest.json", "w") as file:
        json.dump(manifest, file)

    counts = batch_predict(config, RUNNER, writer)

    assert counts == {"predicted": 3, "errors": 1}
    assert os.stat(f"{config.output_dir}/{os.path.basename(done)}").st_ino == inode
    about = json.loads(open(f"{config.output_dir}/_predictions.json").read())
    assert about["time"] == manifest["begun"]
    assert not os.path.exists(staging)


def older_staging(config, layout):
    """Rewrites what was begun into the form that the previous version left."""
    parent, name = os.path.split(config.output_dir)
    older = f"{parent}/{name}.partial"
    os.rename(Staging(config.output_dir, 1).folder, older)
    manifest = json.loads(open(f"{older}/manifest.json").read())
    del manifest["begun"]
    with open(f"{older}/manifest.json", "w") as file:
        json.dump(manifest | {"layout": layout}, file)
    return older


def test_lines_that_an_older_version_began_are_gone_on_with(config):
    BreakingLines.num_closed = 0
    with pytest.raises(RuntimeError, match="broken in the middle"):
        batch_predict(config, RUNNER, BreakingLines)
    older = older_staging(config, 2)
    (done,) = glob.glob(f"{older}/complete/*")
    inode = os.stat(done).st_ino

    assert batch_predict(config, RUNNER) == {"predicted": 3, "errors": 1}

    assert os.stat(f"{config.output_dir}/{os.path.basename(done)}").st_ino == inode
    assert os.listdir(os.path.dirname(config.output_dir)) == ["day=2024-05-03"]


def test_table_that_an_older_version_began_is_refused_by_name(config):
    BreakingTable.num_closed = 0
    with pytest.raises(RuntimeError, match="broken in the middle"):
        batch_predict(config, RUNNER, BreakingTable)
    older_staging(config, 2)

    with pytest.raises(
        ValueError, match="started again with --restart.* another version of tagtower"
    ):
        batch_predict(config, RUNNER, ParquetWriter)
