"""Batch prediction on an exported servable: formats, errors, resuming, nothing half written."""

import base64
import dataclasses
import json
import multiprocessing

import numpy as np
import pytest
import tensorflow as tf

from serving.batch.batch_predict import BatchPredictConfig, batch_predict
from serving.batch.output import ABOUT_FILE
from serving.index.top_k import BruteForceIndex
from serving.servable.export import export_servable
from serving.servable.retrieval import TagRetrieval
from tests.serving.batch.dying_writer import RUNNER, SHARDS_BEFORE_DEATH, predict_and_die
from tests.toy_towers import ToyTowers, write_users


@pytest.fixture(scope="module")
def version_dir(tmp_path_factory):
    """Exports a version: user u<i> likes tag t<i> best, then t<i+1> ..., by construction."""
    folder = tmp_path_factory.mktemp("servable")
    candidates = np.eye(6)
    users = np.array([np.roll(np.arange(6, 0, -1.0), i) for i in range(6)])
    ToyTowers(users, candidates).save(folder / "towers")
    towers = tf.saved_model.load(str(folder / "towers"))
    module = TagRetrieval(towers, BruteForceIndex(candidates), k=4)
    export_servable(module, str(folder / "1"), {"index": {"num_tags": 6}})
    return folder / "1"


def probabilities(logits):
    """Returns uncalibrated probabilities of the returned tags: sigmoid(log p) = p / (1 + p)."""
    shares = np.exp(logits) / np.exp(logits).sum()
    return (shares / (1 + shares)).tolist()


def write(path, lines):
    path.write_bytes(b"".join((x if isinstance(x, bytes) else x.encode()) + b"\n" for x in lines))
    return str(path)


def read_outputs(folder):
    """Returns the lines of results and of errors, in order of the files' names, and the files."""
    files = sorted(path for path in folder.iterdir() if path.name != ABOUT_FILE)
    results, errors = (
        [
            json.loads(line)
            for file in files
            if file.name.startswith(prefix)
            for line in file.read_bytes().splitlines()
        ]
        for prefix in ("prediction.results-", "prediction.errors_stats-")
    )
    return results, errors, files


def predict(tmp_path, version_dir, lines, **options):
    config = BatchPredictConfig(
        model_dir=str(version_dir),
        input_pattern=write(tmp_path / "in.jsonl", lines),
        output_dir=str(tmp_path / "out"),
        **options,
    )
    counts = batch_predict(config, RUNNER)
    return counts, *read_outputs(tmp_path / "out")


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
    assert not (tmp_path / "_out.partial").exists()


def test_key_field_takes_the_place_of_the_instance(tmp_path, version_dir):
    lines = ['{"id": 7, "name": "u0"}', '{"name": "u1"}', '{"id": "b", "name": 1}']

    counts, results, errors, _ = predict(
        tmp_path, version_dir, lines, key_field="id", num_tags=1, excluded_fields=()
    )

    assert counts == {"predicted": 1, "errors": 2}
    assert [row["key"] for row in results] == [7]
    assert set(results[0]) == {"key", "prediction"}
    prediction = results[0]["prediction"]
    assert (prediction["tags"], prediction["scores"]) == (["t0"], [6.0])
    assert prediction["probabilities"] == pytest.approx(probabilities([6, 5, 4, 3])[:1], rel=1e-5)
    assert errors == [
        {
            "instance": {"name": "u1"},
            "error": {"status": "INVALID_ARGUMENT", "message": "`id` is missing."},
        },
        {
            "key": "b",
            "error": {
                "status": "INVALID_ARGUMENT",
                "message": "`name` of the instance must be a string. Received: 1.",
            },
        },
    ]


def test_bad_instances_are_set_aside_with_their_reason(tmp_path, version_dir):
    lines = [
        '{"name": "u0"}',
        "{",
        "[1]",
        '{"colour": "red"}',
        '{"name": 3}',
        b'{"name": "\xff"}',
        '{"user_id": NaN}',
        # Well-formed, but refused by the model's graph: it holds no number.
        '{"name": "ux"}',
        '{"name": "\\ud800"}',
        "[" * 100_000,
        "",
        '{"name": "u1"}',
        # Half a character and a number beyond any float, where the model does not look.
        '{"name": "u2", "user_id": ["\\ud800", 1e999]}',
    ]

    counts, results, errors, _ = predict(tmp_path, version_dir, lines, batch_size=20)

    assert counts == {"predicted": 3, "errors": 9}
    assert [row["prediction"]["tags"][0] for row in results] == ["t0", "t1", "t2"]
    messages = {json.dumps(row["instance"]): row["error"]["message"] for row in errors}
    # In the order of the input.
    assert [row["instance"] for row in errors[:4]] == ["{", "[1]", {"colour": "red"}, {"name": 3}]
    assert "is not JSON" in messages['"{"']
    assert "not a JSON object" in messages['"[1]"']
    assert "colour" in messages['{"colour": "red"}']
    assert "must be a string" in messages['{"name": 3}']
    assert "is not UTF-8" in messages[json.dumps('{"name": "\\xff"}')]
    assert "NaN is not a JSON value" in messages[json.dumps('{"user_id": NaN}')]
    assert "The model refuses" in messages['{"name": "ux"}']
    assert "surrogates" in messages['{"name": "\\ud800"}']


def test_features_of_a_tf_example_say_the_same_as_json(tmp_path, version_dir):
    names = [f"u{i}" for i in range(6)]
    lines = [json.dumps({"name": name, "user_id": name}) for name in names]
    _, expected, _, _ = predict(tmp_path, version_dir, lines)
    write_users(tmp_path / "users-tfrecord-00000.gz", names[:3])
    write_users(tmp_path / "users-tfrecord-00001.gz", names[3:])
    bad = tf.train.Example()
    bad.features.feature["name"].bytes_list.value.append(b"\xff")
    several = tf.train.Example()
    several.features.feature["name"].bytes_list.value.extend([b"u1", b"u2"])
    # Features that the model does not take are left out, as by TensorFlow Serving.
    several.features.feature["label_tags"].bytes_list.value.append(b"t1")
    with tf.io.TFRecordWriter(str(tmp_path / "users-tfrecord-00002")) as writer:  # not compressed
        for record in (b"no example", bad.SerializeToString(), several.SerializeToString(), b""):
            writer.write(record)

    config = BatchPredictConfig(
        str(version_dir), str(tmp_path / "users-*"), str(tmp_path / "from_examples")
    )
    counts = batch_predict(config, RUNNER)
    results, errors, files = read_outputs(tmp_path / "from_examples")

    assert counts == {"predicted": 7, "errors": 3}
    assert results[:6] == expected
    assert results[6]["instance"] == {}  # an example of nothing is a user of whom nothing is known
    assert [error["instance"] for error in errors] == [
        {"b64": base64.b64encode(b"no example").decode()},
        {"b64": base64.b64encode(bad.SerializeToString()).decode()},
        {"name": ["u1", "u2"]},
    ]
    reasons = [error["error"]["message"] for error in errors]
    assert "not a tf.Example" in reasons[0]
    assert "`name` is not UTF-8" in reasons[1]
    assert "`name` of the instance must be a string" in reasons[2]
    assert len(files) == 1 + 3


def shard_lines(num_lines=12):
    return [json.dumps({"user_id": i, "name": f"u{i % 6}"}) for i in range(num_lines)] + ["{"]


def test_output_is_the_same_bytes_on_another_engine(tmp_path, version_dir):
    config = BatchPredictConfig(
        model_dir=str(version_dir),
        input_pattern=write(tmp_path / "in.jsonl", shard_lines()),
        output_dir=str(tmp_path / "one"),
        shard_bytes=100,
        batch_size=2,
    )
    batch_predict(config, RUNNER)
    workers = ["--runner=DirectRunner", "--direct_running_mode=multi_processing"]
    other = dataclasses.replace(config, output_dir=str(tmp_path / "two"))
    counts = batch_predict(other, [*workers, "--direct_num_workers=2"])

    results, errors, files = read_outputs(tmp_path / "one")
    assert counts == {"predicted": 12, "errors": 1}
    assert [row["instance"]["user_id"] for row in results] == list(range(12))
    assert len(files) == 1 + 4 and len(errors) == 1
    assert files[1].name == "prediction.results-00000-of-00004"
    for file in files:
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()


def test_killed_run_goes_on_and_shows_nothing_before_its_end(tmp_path, version_dir):
    config = BatchPredictConfig(
        model_dir=str(version_dir),
        input_pattern=write(tmp_path / "in.jsonl", shard_lines()),
        output_dir=str(tmp_path / "out"),
        shard_bytes=100,
    )
    whole = dataclasses.replace(config, output_dir=str(tmp_path / "whole"))
    expected = batch_predict(whole, RUNNER)
    process = multiprocessing.get_context("spawn").Process(target=predict_and_die, args=(config,))
    process.start()
    process.join(timeout=300)

    assert process.exitcode == -9
    assert not (tmp_path / "out").exists()
    finished = {
        path.name: path.stat().st_ino for path in (tmp_path / "_out.partial/complete").iterdir()
    }
    assert len(finished) == SHARDS_BEFORE_DEATH

    with pytest.raises(ValueError, match="started with options num_tags null"):
        batch_predict(dataclasses.replace(config, num_tags=2), RUNNER)
    counts = batch_predict(config, RUNNER)

    assert counts == expected
    files = read_outputs(tmp_path / "whole")[2]
    assert [path.name for path in read_outputs(tmp_path / "out")[2]] == [p.name for p in files]
    for path in files:
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()
    # The files that were there are still the same files: nothing was computed again.
    for name, number in finished.items():
        assert (tmp_path / "out" / name).stat().st_ino == number
    assert not (tmp_path / "_out.partial").exists()


def test_file_that_breaks_off_is_one_clear_line_and_nothing_appears(tmp_path, version_dir):
    write_users(tmp_path / "tfrecord-0.gz", ["u0"])
    write_users(tmp_path / "tfrecord-1.gz", [f"u{i % 6}" for i in range(1000)])
    content = (tmp_path / "tfrecord-1.gz").read_bytes()
    (tmp_path / "tfrecord-1.gz").write_bytes(content[: len(content) // 2])
    config = BatchPredictConfig(
        str(version_dir), str(tmp_path / "tfrecord-*"), str(tmp_path / "out")
    )

    with pytest.raises(ValueError, match="`input` must be readable to the end. .*-1.gz") as caught:
        batch_predict(config, RUNNER)

    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
    complete = tmp_path / "_out.partial" / "complete"
    assert [path.name for path in complete.iterdir()] == ["prediction.results-00000-of-00002"]


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


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"num_tags": 0}, "`num_tags` must be a positive integer. Received: num_tags=0."),
        ({"batch_size": 0}, "`batch_size` must be a positive integer"),
        ({"shard_bytes": 0}, "`shard_bytes` must be a positive integer"),
        ({"input_format": "csv"}, "`input_format` must be one of auto, jsonl, tf-record"),
    ],
)
def test_wrong_option_is_one_clear_line(option, message):
    with pytest.raises(ValueError, match=message):
        BatchPredictConfig("model", "in", "out", **option)
