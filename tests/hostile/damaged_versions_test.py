"""Truncated, changed or exchanged versions are refused by the file's name by every reader.

The model looks a text up in a vocabulary, whose file TensorFlow loads even if it is truncated.
"""

import json
import os
import shutil
from pathlib import Path

import grpc
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from serving.model_server.errors import ServingError
from serving.model_server.models import loading, warmup
from serving.model_server.models.load_memory import LoadMemory, NotEnoughMemoryError
from serving.model_server.models.loading import load_servable
from serving.model_server.models.model_config import ModelConfig
from serving.model_server.server import ModelServer
from serving.servable.warmup_records import record_answers
from tests.serving.model_server import toy_models
from tfx_pipeline.cli import main
from tfx_pipeline.versions.pushing import push
from trainer.contract.manifest import DamagedFolderError, add_to_manifest, write_manifest

TAGS = [f"tag {i}" for i in range(50)]
VOCABULARY = "assets/vocabulary.txt"
WARMUP = "assets.extra/tf_serving_warmup_requests"


class Lookup(tf.Module):
    def __init__(self, vocabulary: str):
        super().__init__()
        initializer = tf.lookup.TextFileInitializer(
            vocabulary,
            tf.int64,
            tf.lookup.TextFileIndex.LINE_NUMBER,
            tf.string,
            tf.lookup.TextFileIndex.WHOLE_LINE,
        )
        self.tags = tf.lookup.StaticHashTable(initializer, "")

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64, name="first")])
    def retrieve(self, first):
        numbers = first[:, tf.newaxis] + tf.range(5, dtype=tf.int64)
        return {"tags": self.tags.lookup(numbers), "scores": -tf.cast(numbers, tf.float32)}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Makes a version as an export writes it: warm-up, answers, manifest."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "vocabulary.txt").write_text("".join(f"{tag}\n" for tag in TAGS))
    module, version = Lookup(str(folder / "vocabulary.txt")), str(folder / "1")
    tf.saved_model.save(module, version, signatures={"retrieve": module.retrieve})
    request = predict_pb2.PredictRequest()
    request.model_spec.signature_name = "retrieve"
    request.inputs["first"].CopyFrom(tf.make_tensor_proto([0, 20], tf.int64))
    toy_models.write_warmup(version, [request])
    record_answers(version)
    write_manifest(version)
    return folder / "1"


@pytest.fixture
def version(made, tmp_path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "serving" / "1"))


def exchange_lines(version: Path, i: int = 1, j: int = 3) -> None:
    lines = (version / VOCABULARY).read_text().splitlines(keepends=True)
    lines[i], lines[j] = lines[j], lines[i]
    (version / VOCABULARY).write_text("".join(lines))


def list_versions(base_path: Path) -> list[str]:
    """Returns the names at a base path except its lock."""
    names = os.listdir(base_path) if base_path.exists() else []
    return sorted(name for name in names if name != ".lock")


def cut(path: Path) -> None:
    with open(path, "r+b") as file:
        file.truncate(path.stat().st_size // 2)


def load(path: Path) -> None:
    load_servable(str(path), 1).close()


def test_sound_version_loads_and_knows_its_answers(version):
    load(version)
    (record,) = tf.data.TFRecordDataset(str(version / WARMUP)).as_numpy_iterator()
    log = prediction_log_pb2.PredictionLog.FromString(record).predict_log
    tags = tf.make_ndarray(log.response.outputs["tags"])
    assert tags[1].tolist() == [b"tag 20", b"tag 21", b"tag 22", b"tag 23", b"tag 24"]


def test_tensorflow_alone_takes_a_cut_vocabulary(version):
    # Why there is a manifest.
    cut(version / VOCABULARY)
    served = tf.saved_model.load(str(version)).signatures["retrieve"]
    assert "" in [t.decode() for t in served(first=tf.constant([40], tf.int64))["tags"].numpy()[0]]


@pytest.mark.parametrize(
    ("damage", "file"),
    [
        (lambda v: cut(v / VOCABULARY), VOCABULARY),
        (exchange_lines, VOCABULARY),
        (lambda v: (v / "variables/variables.index").unlink(), "variables/variables.index"),
        (lambda v: (v / "assets/more").write_text("x"), "assets/more"),
        (lambda v: (v / "manifest.json").write_text(""), "manifest.json"),
        (lambda v: cut(v / WARMUP), WARMUP),
    ],
)
def test_damaged_version_does_not_load_and_is_not_pushed(version, damage, file, tmp_path, capsys):
    damage(version)
    with pytest.raises(ServingError) as caught:
        load(version)
    assert caught.value.code is grpc.StatusCode.DATA_LOSS
    assert f"{version} is damaged: `{file}`" in caught.value.message
    with pytest.raises(DamagedFolderError, match=f"`{file}`"):
        push({str(tmp_path / "base"): str(version)})
    assert list_versions(tmp_path / "base") == []

    base = str(version.parent)
    assert main(["versions", "--model_base_path", base, "--verify"]) == 1
    assert f"damaged: {file}" in capsys.readouterr().out


@pytest.mark.parametrize("recorded", [True, False])
def test_other_answers_fail_the_load_where_the_manifest_was_mended(version, recorded):
    exchange_lines(version)
    if not recorded:  # a version of an earlier release
        path = str(version / WARMUP)
        (record,) = tf.data.TFRecordDataset(path).as_numpy_iterator()
        log = prediction_log_pb2.PredictionLog.FromString(record)
        log.predict_log.ClearField("response")
        with tf.io.TFRecordWriter(path) as writer:
            writer.write(log.SerializeToString())
    write_manifest(str(version))
    if not recorded:
        load(version)
        return
    with pytest.raises(ServingError, match="signature `retrieve` answers differently.*`tags`") as e:
        load(version)
    assert e.value.code is grpc.StatusCode.DATA_LOSS


@pytest.mark.parametrize(
    ("description", "is_approximate"),
    [
        ('{"index": {"kind": "scann"}}', True),
        ('{"index": {"kind": "scann"', True),
        ("[1]", True),
        ("[" * 100_000, True),
        ('{"index": {"kind": "exact"}}', False),
        (None, False),
    ],
)
def test_answers_are_compared_as_approximate_where_nobody_can_tell(
    version, description, is_approximate, monkeypatch
):
    """A version without a manifest may have a damaged description, and an index of ScaNN."""
    (version / "manifest.json").unlink()
    if description is not None:
        (version / "assets.extra/tagtower.json").write_text(description)
    asked = []
    monkeypatch.setattr(warmup, "difference", lambda *given: asked.append(given[-1]))
    load(version)
    assert asked == [is_approximate]


def test_version_that_is_too_large_is_not_read_whole_at_each_try(version, monkeypatch):
    read = []
    monkeypatch.setattr(loading, "check_manifest", lambda path, **options: read.append(path))
    for _ in range(3):
        with pytest.raises(NotEnoughMemoryError):
            load_servable(str(version), 1, memory=LoadMemory(0.001))
    assert read == []


@pytest.mark.parametrize("damage", [cut, os.remove])
def test_graph_that_is_damaged_is_for_the_manifest_to_say(version, damage):
    damage(version / "saved_model.pb")
    with pytest.raises(ServingError, match="is damaged: `saved_model.pb`") as caught:
        load_servable(str(version), 1, memory=LoadMemory(100_000))
    assert caught.value.code is grpc.StatusCode.DATA_LOSS


def test_answers_of_a_servers_log_are_not_compared(version):
    # Of another version, maybe: a log of requests is the usual warm-up of TensorFlow Serving.
    path = str(version / WARMUP)
    (record,) = tf.data.TFRecordDataset(path).as_numpy_iterator()
    log = prediction_log_pb2.PredictionLog.FromString(record)
    log.predict_log.response.model_spec.version_label = ""
    with tf.io.TFRecordWriter(path) as writer:
        writer.write(log.SerializeToString())
    exchange_lines(version)
    write_manifest(str(version))
    load(version)


def test_warmup_records_of_ones_own_are_taken_when_the_manifest_is_told(version):
    request = predict_pb2.PredictRequest()
    request.model_spec.signature_name = "retrieve"
    request.inputs["first"].CopyFrom(tf.make_tensor_proto([7], tf.int64))
    shutil.rmtree(version / "assets.extra")
    toy_models.write_warmup(str(version), [request])
    with pytest.raises(ServingError) as caught:
        load(version)
    assert f"If it was changed on purpose: remove {version}/manifest.json" in caught.value.message
    add_to_manifest(str(version), [WARMUP])
    load(version)
    cut(version / VOCABULARY)
    with pytest.raises(ServingError) as caught:
        load(version)
    assert f"`{VOCABULARY}` has " in caught.value.message
    assert "on purpose" not in caught.value.message


def test_version_without_a_manifest_loads(version, capsys):
    (version / "manifest.json").unlink()
    load(version)
    assert main(["versions", "--model_base_path", str(version.parent), "--verify"]) == 0
    assert "no manifest" in capsys.readouterr().out


def test_damaged_new_version_leaves_the_old_one_serving(version):
    damaged = shutil.copytree(version, version.parent / ".2")
    cut(damaged / VOCABULARY)
    config = ModelConfig("default", str(version.parent))
    with ModelServer([config], host="127.0.0.1", poll_wait_s=0.02) as server:
        server.wait_until_available(120)
        os.rename(damaged, version.parent / "2")
        model = server.manager.models["default"]
        assert server.manager.wait_until(model.failures, 120)
        (failure,) = model.failures()
        assert failure.version == 2 and f"`{VOCABULARY}` has " in failure.message
        assert model.is_available(1)


def test_pushed_version_has_a_manifest_with_its_provenance(version, tmp_path):
    base, second = str(tmp_path / "base"), str(tmp_path / "second")
    number = str(push({base: str(version), second: str(version)}, {"run": "r"}))
    for folder in (base, second):
        pushed = Path(folder) / number
        load(pushed)
        files = json.loads((pushed / "manifest.json").read_text())["files"]
        assert "assets.extra/version.json" in files and VOCABULARY in files


def test_copy_that_lost_bytes_is_not_pushed(version, tmp_path, monkeypatch):
    # A full disk, or a store that acknowledges what it does not keep.
    from tfx_pipeline.versions import pushing

    def losing(source, target, *arguments, **options):
        shutil.copytree(source, target)
        cut(Path(target) / VOCABULARY)

    monkeypatch.setattr(pushing, "copy_folder", losing)
    with pytest.raises(DamagedFolderError, match=f"`{VOCABULARY}` has "):
        push({str(tmp_path / "base"): str(version)})
    assert list_versions(tmp_path / "base") == []


def test_roll_back_to_a_damaged_version_moves_nothing(version, capsys):
    base = version.parent
    shutil.copytree(version, base / "2")
    cut(version / VOCABULARY)
    assert main(["rollback", "--model_base_path", str(base)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert f"{version} is damaged: `{VOCABULARY}`" in line
    assert list_versions(base) == ["1", "2"]
