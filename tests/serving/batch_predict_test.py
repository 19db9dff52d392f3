"""Batch prediction on an exported servable: formats, errors, nothing half-written."""

import json

import numpy as np
import pytest
import tensorflow as tf

from serving.batch_predict import BatchPredictConfig, batch_predict
from serving.export import export_servable
from serving.index import BruteForceIndex
from serving.retrieval import TagRetrieval
from tests.toy_towers import ToyTowers

RUNNER = ["--runner=DirectRunner", "--direct_running_mode=in_memory"]


@pytest.fixture(scope="module")
def version_dir(tmp_path_factory):
    """User u<i> likes tag t<i> best, then t<i+1> ..., by construction."""
    folder = tmp_path_factory.mktemp("servable")
    candidates = np.eye(6)
    users = np.array([np.roll(np.arange(6, 0, -1.0), i) for i in range(6)])
    ToyTowers(users, candidates).save(folder / "towers")
    towers = tf.saved_model.load(str(folder / "towers"))
    module = TagRetrieval(towers, BruteForceIndex(candidates), k=4)
    export_servable(module, str(folder / "1"), {"index": {"num_tags": 6}})
    return folder / "1"


def probabilities(logits):
    """Uncalibrated, of the tags that are returned: sigmoid(log p) = p / (1 + p)."""
    shares = np.exp(logits) / np.exp(logits).sum()
    return (shares / (1 + shares)).tolist()


def write(path, lines):
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def predict(tmp_path, version_dir, lines, **options):
    config = BatchPredictConfig(
        model_dir=str(version_dir),
        input_pattern=write(tmp_path / "in.jsonl", lines),
        output_dir=str(tmp_path / "out"),
        **options,
    )
    counts = batch_predict(config, RUNNER)
    files = sorted((tmp_path / "out").iterdir())
    rows = {
        prefix: [
            json.loads(line)
            for file in files
            if file.name.startswith(prefix)
            for line in file.read_text(encoding="utf-8").splitlines()
        ]
        for prefix in ("prediction.results", "prediction.errors_stats")
    }
    return counts, rows["prediction.results"], rows["prediction.errors_stats"], files


def test_lines_have_instance_and_prediction_in_vertex_form(tmp_path, version_dir):
    lines = [json.dumps({"user_id": "é", "name": "u2"}, ensure_ascii=False)]

    counts, results, errors, files = predict(tmp_path, version_dir, lines)

    assert counts == {"predicted": 1, "errors": 0}
    assert errors == []
    assert results == [
        {
            "instance": {"user_id": "é", "name": "u2"},
            "prediction": {
                "tags": ["t2", "t3", "t4", "t5"],
                "scores": [6.0, 5.0, 4.0, 3.0],
                "probabilities": pytest.approx(probabilities([6.0, 5.0, 4.0, 3.0]), rel=1e-5),
            },
        }
    ]
    assert [file.name for file in files] == [
        "prediction.errors_stats-00000-of-00001",
        "prediction.results-00000-of-00001",
    ]
    assert not (tmp_path / "out.partial").exists()


def test_key_field_takes_the_place_of_the_instance(tmp_path, version_dir):
    lines = [json.dumps({"id": 7, "name": "u0"}), json.dumps({"name": "u1"})]

    counts, results, errors, _ = predict(
        tmp_path, version_dir, lines, key_field="id", num_tags=1, excluded_fields=()
    )

    assert counts == {"predicted": 1, "errors": 1}
    assert [row["key"] for row in results] == [7]
    prediction = results[0]["prediction"]
    assert (prediction["tags"], prediction["scores"]) == (["t0"], [6.0])
    assert prediction["probabilities"] == pytest.approx(probabilities([6, 5, 4, 3])[:1], rel=1e-5)
    assert errors[0]["error"]["message"] == "`id` is missing."


def test_bad_instances_are_set_aside_with_their_reason(tmp_path, version_dir):
    lines = ['{"name": "u0"}', "{", "[1]", '{"colour": "red"}', '{"name": 3}', '{"name": "u1"}']

    counts, results, errors, _ = predict(tmp_path, version_dir, lines, batch_size=10)

    assert counts == {"predicted": 2, "errors": 4}
    assert [row["prediction"]["tags"][0] for row in results] == ["t0", "t1"]
    messages = {json.dumps(row["instance"]): row["error"]["message"] for row in errors}
    assert "no JSON" in messages['"{"']
    assert "no JSON object" in messages['"[1]"']
    assert "colour" in messages['{"colour": "red"}']
    assert "must be a string" in messages['{"name": 3}']


def test_existing_output_is_refused_and_kept(tmp_path, version_dir):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("kept")

    with pytest.raises(ValueError, match="`output` must be a folder that does not exist yet"):
        predict(tmp_path, version_dir, ['{"name": "u0"}'])

    assert (tmp_path / "out" / "mine").read_text() == "kept"


def test_missing_input_is_one_clear_line(tmp_path, version_dir):
    config = BatchPredictConfig(str(version_dir), str(tmp_path / "no*"), str(tmp_path / "out"))

    with pytest.raises(ValueError, match="`input` must match at least one file"):
        batch_predict(config, RUNNER)
