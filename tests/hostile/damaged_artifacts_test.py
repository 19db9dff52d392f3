"""The cache does not answer with truncated or changed artifacts of earlier runs."""

import os
from pathlib import Path

import pytest
from tfx import v1 as tfx
from tfx.dsl.components.common import resolver
from tfx.orchestration import metadata

from tfx_pipeline.artifacts.manifests import ArtifactManifests
from tfx_pipeline.runs.local_runner import ReportingLocalRunner
from trainer.contract.manifest import DamagedFolderError

Model = tfx.types.standard_artifacts.Model
Blessing = tfx.types.standard_artifacts.ModelBlessing


@tfx.dsl.components.component
def Writer(model: tfx.dsl.components.OutputArtifact[Model]):
    os.makedirs(os.path.join(model.uri, "Format-Serving"))
    Path(model.uri, "Format-Serving", "data").write_bytes(b"0123456789")


@tfx.dsl.components.component
def Reader(
    model: tfx.dsl.components.InputArtifact[Model],
    blessing: tfx.dsl.components.OutputArtifact[Blessing],
):
    Path(blessing.uri, "read").write_bytes(Path(model.uri, "Format-Serving", "data").read_bytes())


class Latest(resolver.ResolverStrategy):
    """Resolves the latest model, in place of `last_blessed`'s strategies."""

    def resolve_artifacts(self, store, input_dict):
        return {"model": sorted(input_dict["model"], key=lambda artifact: artifact.id)[-1:]}


class Run:
    def __init__(self, folder: Path):
        self.folder, self.lines, self.begun = folder, [], []

    def run(self, resolves: bool = False) -> dict:
        writer = Writer().with_id("Writer")
        components = [writer, Reader(model=writer.outputs["model"]).with_id("Reader")]
        if resolves:
            channel = tfx.dsl.Channel(type=Model, producer_component_id="Writer")
            components = [resolver.Resolver(strategy_class=Latest, model=channel).with_id("Last")]
        connection = metadata.sqlite_metadata_connection_config(str(self.folder / "db.sqlite"))
        pipeline = tfx.dsl.Pipeline(
            "toy", str(self.folder / "artifacts"), connection, components, enable_cache=True
        )
        runner = ReportingLocalRunner(self.begun.append, lambda r: None, self.lines.append)
        return {run.node: run for run in runner.run(pipeline)}


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path)


def uri(runs, node="Writer", key="model") -> str:
    return runs[node].outputs[key][0].uri


def test_sound_artifacts_are_answered_from_the_cache(run):
    first = run.run()
    assert not any(node.is_cached for node in first.values())
    again = run.run()
    assert all(node.is_cached for node in again.values()) and run.lines == []
    assert os.listdir(uri(first)) == ["Format-Serving"]  # nothing of ours is within it


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (lambda f: f.write_bytes(b"01234"), "has 5 bytes in place of 10"),
        (lambda f: f.write_bytes(b"0123456780"), "has changed since it was written"),
        (lambda f: f.unlink(), "is missing"),
        (lambda f: f.with_name("more").write_bytes(b""), "is not in the manifest"),
    ],
)
def test_damaged_artifact_is_named_and_made_anew(run, damage, fault):
    first = run.run()
    damage(Path(uri(first), "Format-Serving", "data"))
    run.begun.clear()

    second = run.run()

    assert run.begun == ["Writer", "Reader"]  # each is announced once
    (line,) = run.lines
    assert line.startswith(f"{uri(first)} is damaged: `Format-Serving/") and fault in line
    assert uri(second) != uri(first)
    assert not any(node.is_cached for node in second.values())
    read = Path(uri(second, "Reader", "blessing"), "read").read_bytes()
    assert read == b"0123456789"
    assert all(node.is_cached for node in run.run().values())


def test_resolver_takes_the_one_before_a_damaged_one(run):
    first = run.run()
    Path(uri(first), "Format-Serving", "data").write_bytes(b"")
    second = run.run()
    assert uri(run.run(resolves=True), "Last") == uri(second)
    run.lines.clear()
    Path(uri(second), "Format-Serving", "data").write_bytes(b"")

    assert run.run(resolves=True)["Last"].outputs.get("model", []) == []

    assert len(run.lines) == 1 and "`Format-Serving/data`" in run.lines[0]


def test_artifact_of_an_earlier_release_is_taken(run):
    first = run.run()
    os.remove(f"{uri(first)}.manifest.json")
    Path(uri(first), "Format-Serving", "data").write_bytes(b"other")
    assert all(node.is_cached for node in run.run().values())


def test_answer_that_stays_damaged_ends_the_run(run):
    first = run.run()
    Path(uri(first), "Format-Serving", "data").write_bytes(b"")
    manifests, outputs = ArtifactManifests(), first["Writer"].outputs
    config = metadata.sqlite_metadata_connection_config(str(run.folder / "db.sqlite"))
    with metadata.Metadata(config) as handle:
        assert "is damaged" in manifests.forget_damaged(handle, outputs)
        with pytest.raises(DamagedFolderError):
            manifests.forget_damaged(handle, outputs)
