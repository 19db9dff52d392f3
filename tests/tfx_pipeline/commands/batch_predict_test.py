"""The command on a toy servable: Parquet, arguments of another engine, printed lines."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
import yaml

from serving.batch.servable_caller import ServableCaller
from serving.index.top_k import BruteForceIndex
from serving.servable.export import export_servable
from serving.servable.retrieval import TagRetrieval
from tests.toy_towers import ToyTowers
from tfx_pipeline.cli import main

NUM_USERS, NUM_TAGS, SIZE, K = 9, 30, 4, 6
IN_MEMORY = "--runner=DirectRunner --direct_running_mode=in_memory"


@pytest.fixture(scope="module")
def base_path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("servable")
    rng = np.random.default_rng(0)
    users, tags = (rng.normal(size=(n, SIZE)) for n in (NUM_USERS, NUM_TAGS))
    ToyTowers(users, tags).save(folder / "towers")
    towers = tf.saved_model.load(str(folder / "towers"))
    module = TagRetrieval(towers, BruteForceIndex(tags), k=K)
    for version in (1, 2):
        path = folder / "base" / str(version)
        export_servable(module, str(path), {"index": {"num_tags": NUM_TAGS}})
    return folder / "base"


@pytest.fixture
def command(tmp_path, base_path):
    lines = [json.dumps({"user_id": f"id{i}", "name": f"u{i}"}) for i in range(NUM_USERS)]
    (tmp_path / "in.jsonl").write_text("\n".join([*lines, '{"name": "u1"}']), "utf-8")
    return ["batch-predict", f"--model_base_path={base_path}", f"--input={tmp_path}/in.jsonl"]


def test_parquet_has_the_tags_of_every_user_and_needs_his_id(tmp_path, base_path, command, capfd):
    output = tmp_path / "out"

    flags = [f"--output={output}", "--output_format=parquet", "--num_tags=3"]
    status = main([*command, *flags, f"--beam_pipeline_args={IN_MEMORY}"])

    assert status == 0
    printed = capfd.readouterr().out
    assert "predicting with version 2 ..." in printed
    assert printed.endswith(f"9 predicted, 1 errors, in {output}\n")
    table = pq.read_table(output / "prediction.results-00000-of-00001.parquet")
    caller = ServableCaller(str(base_path / "2"))
    expected = caller.retrieve([{"name": f"u{i}"} for i in range(NUM_USERS)])
    assert set(table.column("model_version").to_pylist()) == {"2"}
    assert table.select(table.schema.names[:5]).to_pydict() == {
        "user_id": [f"id{i}" for i in range(NUM_USERS) for _ in range(3)],
        "rank": [1, 2, 3] * NUM_USERS,
        "tag": [tag for tags in expected.tags for tag in tags[:3]],
        "score": [score for scores in expected.scores for score in scores[:3]],
        "probability": [p for row in expected.probabilities for p in row[:3]],
    }
    (errors,) = output.glob("_prediction.errors_stats-*")
    assert json.loads(errors.read_text())["error"]["message"] == "`user_id` is missing."


def test_run_begun_with_another_version_is_one_clear_line(tmp_path, command, capfd):
    # A run that only began.
    beginning = [f"--output={tmp_path}/out", "--beam_pipeline_args=--runner=NoSuchRunner"]
    assert main([*command, *beginning, "--version=1"]) == 2
    assert "NoSuchRunner" in capfd.readouterr().err

    flags = [f"--output={tmp_path}/out", f"--beam_pipeline_args={IN_MEMORY}"]
    status = main([*command, *flags])
    error = capfd.readouterr().err
    restarted = main([*command, *flags, "--restart"])

    assert status == 2
    assert "started with model version 1." in error and len(error.strip().splitlines()) == 1
    assert restarted == 0
    assert (tmp_path / "out" / "prediction.results-00000-of-00001").is_file()


def test_engine_of_a_configuration_is_checked_before_anything_starts(tmp_path, command, capfd):
    config = {
        "name": "log",
        "data": {"interactions": "i.csv", "items": "t.csv", "users": "u.csv"},
        "features": {"domains": [{"name": "clicked"}]},
        "beam": {"runner": "dataflow"},
    }
    path = tmp_path / "log.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    flags = [f"--output={tmp_path}/out", f"--config={path}"]

    refused = main([*command, *flags])
    error = capfd.readouterr().err
    elsewhere = main([*command, *flags[:1], "--runner=local"])

    assert refused == 2
    assert "`dataflow` must have project, region and temp_location" in error
    assert len(error.strip().splitlines()) == 1
    assert elsewhere == 0
