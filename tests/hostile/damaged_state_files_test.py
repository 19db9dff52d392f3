"""Each small file of a finished project, damaged in every way, with the commands that read it.

The file is named in one line with what is wrong and what to do, and what can be done without it is
done.
"""

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.batch.staging import Staging
from tests.tfx_pipeline.run_log.logged_runs import daily_config, push
from tfx_pipeline.artifacts.json_files import read_artifact_json
from tfx_pipeline.cli import main
from tfx_pipeline.commands.check_requests import training_statistics
from tfx_pipeline.config.pipeline import to_json
from tfx_pipeline.run_log.lock import only_run
from tfx_pipeline.run_log.log import read_runs
from tfx_pipeline.runs.finished_run import finished_run
from tfx_pipeline.runs.reindex_source import reindexed_version
from tfx_pipeline.study.trials.trial_store import TrialStore
from tfx_pipeline.versions.pushed_versions import read_versions, rolled_back_as, serving_version
from trainer.contract.manifest import write_manifest
from trainer.contract.whole_files import DamagedFileError, read_json, read_json_lines
from trainer.fitting.checkpoints import CheckpointFolder

DAMAGES = {
    "empty": lambda whole: b"",
    "cut": lambda whole: whole[: len(whole) // 2],
    "list": lambda whole: b"[1, 2]",
    "number": lambda whole: b"7\n",
    "text": lambda whole: b'"report"',
    "zeros": lambda whole: b"\0" * len(whole),
    "latin": lambda whole: b'{"run.id": "caf\xe9"}',
    "nested": lambda whole: b"[" * 100_000,
    "other object": lambda whole: b'{"a": 1}',
    "folder": None,
}


@contextlib.contextmanager
def damaged(path: Path, how: str) -> Iterator[None]:
    """Damages the file, and restores it afterwards."""
    make, whole = DAMAGES[how], path.read_bytes()
    path.unlink()
    if make is None:
        path.mkdir()
    else:
        path.write_bytes(make(whole))
    try:
        yield
    finally:
        if path.is_dir():
            path.rmdir()
        path.write_bytes(whole)


@pytest.fixture(params=DAMAGES)
def how(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return Project(tmp_path_factory.mktemp("project"))


class Project:
    """A project with two runs of a day, and three versions."""

    def __init__(self, folder: Path):
        self.config = daily_config(folder)
        self.path = folder / "config.yaml"
        self.path.write_text(to_json(self.config))
        self.first = push(self.config, 7)["run.id"]
        self.base = Path(self.config.base_path)
        self.second = push(self.config, 8)["run.id"]
        for number in (7, 8):
            self.describe(number)

    def describe(self, number: int) -> None:
        facts = {"kind": "run", "run": "log", "towers": f"/towers/{number}", "num_tags": 3}
        self.version_file(number).parent.mkdir(parents=True, exist_ok=True)
        self.version_file(number).write_text(json.dumps(facts))
        write_manifest(str(self.base / str(number)))

    def version_file(self, number: int) -> Path:
        return self.base / str(number) / "assets.extra" / "version.json"

    def report_file(self, run: str) -> Path:
        return Path(self.config.output_dir, "runs", run, "report.json")

    def command(self, capsys, *arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main([arguments[0], "--config", str(self.path), *arguments[1:]])
        return status, *capsys.readouterr()


def one_line(text: str, *parts: object) -> None:
    (line,) = text.strip().splitlines()
    for part in parts:
        assert str(part) in line


class TestReportOfARun:
    def test_is_listed_as_damaged_and_stops_nothing(self, project, how, capsys):
        file = project.report_file(project.first)
        with damaged(file, how):
            status, out, _ = project.command(capsys, "runs")
            assert status == 0 and project.second in out
            (line,) = [line for line in out.splitlines() if f"{project.first} damaged: " in line]
            assert f"{file} is damaged: it" in line and "remove it" in line

            comparison = ("runs", "compare", project.second, project.first)
            status, out, err = project.command(capsys, *comparison)
            assert (status, out) == (2, "")
            one_line(err, file, "is damaged")

    def test_is_in_no_later_runs_way(self, project):
        file = project.report_file(project.first)
        with damaged(file, "empty"):
            assert finished_run(project.config)["run.id"] == project.second
            project.second = push(project.config, 8)["run.id"]
            states = [report["run.state"] for report in read_runs(project.config.output_dir)]
        assert states == ["damaged", *["pushed"] * (len(states) - 1)]

    def test_of_a_run_is_written_to_its_own_folder_whatever_it_says(self, project):
        file = project.report_file(project.first)
        whole = file.read_bytes()
        killed = {"run.id": "../../x", "run.state": "running", "run.process": 2**22 + 1}
        file.write_text(json.dumps(json.loads(whole) | killed))
        project.second = push(project.config, 8)["run.id"]
        assert json.loads(file.read_text())["run.state"] == "killed"
        assert not Path(project.config.output_dir, "x").exists()
        file.write_bytes(whole)


class TestVersionFile:
    def test_of_the_version_that_serves_stops_what_can_do_without(self, project, how, capsys):
        file = project.version_file(8)
        with damaged(file, how):
            status, out, _ = project.command(capsys, "versions")
            assert status == 0
            if how != "other object":  # of a release that knew less, for all one can tell
                assert "serves, damaged" in out and f"{file} is damaged: it" in out
            assert serving_version(str(project.base)).number == 8
            named = "version" if how == "other object" else file
            with pytest.raises(ValueError) as error:
                training_statistics(project.config)
            one_line(str(error.value), named)
            tags = str(project.path.parent / "items.jsonl")
            status, _, err = project.command(capsys, "reindex", "--tags", tags)
            assert status == 2
            one_line(err, named)

            status, out, err = project.command(capsys, "rollback")
            assert (status, err) == (0, "") and "version 7" in out
            # The file is in the manifest: the version is no longer loaded, nor rolled back to.
            status, out, err = project.command(capsys, "rollback", "--to", "8")
            assert (status, out) == (2, "")
            one_line(err, "is damaged: `assets.extra/version.json`")
            (project.base / "withdrawn" / "8").rename(project.base / "8")

    def test_of_another_version_is_in_nobodys_way(self, project, how):
        with damaged(project.version_file(7), how):
            base = str(project.base)
            assert [v.number for v in read_versions(base)] == [7, 8]
            assert rolled_back_as(base, "/towers/8") is None
            assert serving_version(base).provenance["towers"] == "/towers/8"

    @pytest.mark.parametrize("key", ["towers", "kind", "towers_fingerprint", "run"])
    def test_with_a_value_of_another_kind_is_damaged(self, tmp_path, key):
        file = tmp_path / "8" / "assets.extra" / "version.json"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps({"towers": "/a", key: 7}))
        assert f"its `{key}` is not text" in serving_version(str(tmp_path)).damage
        with pytest.raises(ValueError, match="is damaged"):
            reindexed_version(str(tmp_path), str(tmp_path))


class TestLockFile:
    def test_says_nothing_that_matters(self, project, capsys):
        for folder in (project.base, Path(project.config.output_dir)):
            (folder / ".lock").write_bytes(b"\0\xff not text")
        assert project.command(capsys, "rollback")[0] == 0
        with only_run(project.config.output_dir):
            pass


class TestStagingOfABatchPrediction:
    MANIFEST = {"model": {"version": 1}, "input": []}

    def test_damaged_manifest_is_named_and_begun_anew_on_request(self, tmp_path, how):
        staging = Staging(str(tmp_path / "out"), 1)
        with staging.begin(self.MANIFEST):
            pass
        manifest = Path(staging.folder, "manifest.json")
        with damaged(manifest, how):
            with pytest.raises(ValueError) as error, staging.begin(self.MANIFEST):
                pass
            one_line(str(error.value), staging.folder)
            if how != "folder":
                assert "--restart" in str(error.value)
                with staging.begin(self.MANIFEST, restart=True):
                    pass
                with staging.begin(self.MANIFEST):
                    pass

    def test_shard_whose_counts_are_damaged_is_predicted_again(self, tmp_path, how):
        staging = Staging(str(tmp_path / "out"), 1)
        with staging.begin(self.MANIFEST):
            with staging.write_shard(0, {"predicted": 1}) as files:
                for path in (files.results, files.errors):
                    Path(path).write_text("")
            assert staging.is_done(0)
            done = Path(staging.folder, "done", "00000.json")
            with damaged(done, how):
                assert staging.is_done(0) == (how == "other object")
            assert staging.is_done(0)


@dataclasses.dataclass(frozen=True)
class _Definition:
    key: str = "trial"


def test_damaged_trial_of_a_study_is_trained_again(tmp_path, how):
    (tmp_path / "trial.json").write_text('{"definition": {"key": "trial"}, "code": "", "a": 1}')
    with damaged(tmp_path / "trial.json", how):
        if how == "folder":  # which is no file to write over: an error that names it
            with pytest.raises(IsADirectoryError):
                TrialStore(tmp_path).read(_Definition())
        else:
            assert TrialStore(tmp_path).read(_Definition()) is None


def test_damaged_checkpoint_is_a_training_from_the_beginning(tmp_path, how, caplog):
    path = tmp_path / "checkpoint.npz"
    path.write_bytes(b"PK\3\4" + os.urandom(200))
    with damaged(path, how), caplog.at_level("WARNING", "tagtower.train"):
        if how == "folder":
            with pytest.raises(IsADirectoryError):
                CheckpointFolder(str(tmp_path)).load()
            return
        assert CheckpointFolder(str(tmp_path)).load() is None
    assert str(path) in caplog.text


def test_damaged_file_of_an_artifact_names_the_folder_to_remove(tmp_path, how):
    folder = tmp_path / "artifacts" / "Evaluator" / "evaluation" / "9"
    path = folder / "below" / "metrics.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"a": 1}')
    with damaged(path, how):
        if how == "other object":
            assert read_artifact_json(str(path)) == {"a": 1}
            return
        with pytest.raises(DamagedFileError) as error:
            read_artifact_json(str(path))
    one_line(str(error.value), path, f"remove {folder},")


@pytest.mark.parametrize("content", [b"{\n", b"[1]\n", b"\0\0", b'{"clicks": 1}\n', b"\xff\n"])
def test_damaged_line_is_named_with_its_number(tmp_path, content):
    path = tmp_path / "tags.jsonl"
    path.write_bytes(b'{"tag": "a"}\n' + content)
    with pytest.raises(DamagedFileError) as error:
        list(read_json_lines(str(path)))
    one_line(str(error.value), path, "line 2")


def test_missing_key_and_value_of_another_kind_are_named(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"a": "x"}')
    for required, words in (({"b": str}, "lacks `b`"), ({"a": int}, "its `a` is a text")):
        with pytest.raises(DamagedFileError, match=words):
            read_json(str(path), "do so", required=required)
