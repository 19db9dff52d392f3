"""Reindex and batch prediction refuse damaged sources by the file's name, and write nothing."""

import io
import json
import os
from pathlib import Path

import pytest

from serving.batch.batch_predict import BatchPredictConfig, batch_predict
from tfx_pipeline.config.pipeline import load_config
from tfx_pipeline.runs.reindex import reindex
from tfx_pipeline.terminal.console import Console
from trainer.contract.manifest import DamagedFolderError, write_manifest


def fill(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"what is in {name}")
    return folder


class Run:
    """The output of a run, as far as its manifests describe it."""

    def __init__(self, folder: Path):
        self.folder, self.output = folder, folder / "run"
        self.towers = fill(folder / "model/5", "Format-Serving/saved_model.pb", "ancestry.json")
        self.examples = fill(folder / "examples/1", "Split-validation/data.gz")
        self.summary = fill(folder / "summary/1", "tags.jsonl", "counts.json")
        write_manifest(str(self.towers / "Format-Serving"))
        for artifact in (self.towers, self.examples, self.summary):
            write_manifest(str(artifact), f"{artifact}.manifest.json")
        self.version = fill(self.output / "serving/7", "saved_model.pb")
        provenance = {
            "towers": str(self.towers),
            "examples": str(self.examples),
            "tags_file": str(self.summary / "tags.jsonl"),
        }
        fill(self.version, "assets.extra/version.json")
        (self.version / "assets.extra/version.json").write_text(json.dumps(provenance))
        write_manifest(str(self.version))
        (folder / "config.yaml").write_text(
            json.dumps(
                {
                    "name": "toy",
                    "output": str(self.output),
                    "data": {"interactions": "i", "items": "t", "users": "u"},
                    "features": {"domains": [{"name": "clicked_tags"}]},
                }
            )
        )

    def reindex(self):
        config = load_config(str(self.folder / "config.yaml"))
        reindex(config, str(self.folder / "tags.csv"), False, Console(io.StringIO()))


@pytest.mark.parametrize(
    ("where", "file"),
    [
        ("version", "saved_model.pb"),
        ("towers", "Format-Serving/saved_model.pb"),
        ("towers", "ancestry.json"),
        ("examples", "Split-validation/data.gz"),
        ("summary", "tags.jsonl"),
    ],
)
@pytest.mark.parametrize("has_manifest_beside", [True, False])
def test_reindex_of_a_damaged_source_builds_nothing(tmp_path, where, file, has_manifest_beside):
    run = Run(tmp_path)
    folder = getattr(run, where)
    os.truncate(folder / file, 3)
    has_own = where == "version" or file.startswith("Format-Serving/")
    if not has_manifest_beside and where != "version":
        os.remove(f"{folder}.manifest.json")  # as a run on Vertex AI leaves it
        if not has_own:
            return
    with pytest.raises(DamagedFolderError) as caught:
        run.reindex()
    assert os.path.basename(file) in str(caught.value) and "has 3 bytes" in str(caught.value)
    assert os.listdir(run.output / "serving") == ["7"]


def test_batch_prediction_with_a_damaged_version_writes_nothing(tmp_path):
    version = fill(tmp_path / "serving/7", "saved_model.pb", "assets/vocabulary.txt")
    write_manifest(str(version))
    os.truncate(version / "assets/vocabulary.txt", 3)
    fill(tmp_path, "instances.jsonl")
    config = BatchPredictConfig(
        str(version), str(tmp_path / "instances.jsonl"), str(tmp_path / "out")
    )
    with pytest.raises(DamagedFolderError, match="`assets/vocabulary.txt` has 3 bytes"):
        batch_predict(config, [])
    assert sorted(os.listdir(tmp_path)) == ["instances.jsonl", "serving"]
