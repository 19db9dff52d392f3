"""Output folders named by a relative path, read from elsewhere, or moved since the run."""

import json
import os

import pytest
import yaml

from tests.tfx_pipeline.evaluation.distributions_test import statistics
from tests.tfx_pipeline.runs.reindex_test import NUM_TAGS, Project
from tfx_pipeline.artifacts.places import located
from tfx_pipeline.cli import main
from tfx_pipeline.config.pipeline import load_config
from tfx_pipeline.fingerprints import files_fingerprint
from tfx_pipeline.run_log.log import logged_run
from tfx_pipeline.versions.pushed_versions import rolled_back_as, serving_version
from trainer.contract.file_system import files_below
from trainer.contract.whole_files import replace_link

EXAMPLES = "artifacts/ExampleGen/examples/2"
STATISTICS = "artifacts/StatisticsGen/statistics/3"


def test_artifact_is_found_where_it_is_now(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    output = tmp_path / "runs" / "artifacts" / "log"  # the word may be in the way to it, too
    (output / EXAMPLES).mkdir(parents=True)
    here = str(output / EXAMPLES)
    absent = str(output / "artifacts/ExampleGen/examples/9")

    assert located(here, "/elsewhere") == here
    assert located(f"runs/artifacts/log/{EXAMPLES}", "/elsewhere") == here
    assert located(f"/before/{EXAMPLES}", str(output)) == here
    assert located(f"/before/{EXAMPLES}/", "runs/artifacts/log").rstrip("/") == here
    assert located(f"build/runs/log/{EXAMPLES}", str(output)) == here
    # A path that does not exist keeps its name, for the message.
    assert located("/before/artifacts/ExampleGen/examples/9", str(output)) == absent.replace(
        str(output), "/before"
    )
    assert located("/data/examples", str(output)) == "/data/examples"
    assert located("gs://bucket/examples", str(output)) == "gs://bucket/examples"


class Log:
    """A run in `runs/log` that has pushed version 7, with the paths of its configuration."""

    def __init__(self, folder, output, report_path):
        self.folder = folder
        self.config_path = str(folder / "log.yaml")
        mapping = {
            "name": "log",
            "data": {"interactions": "i.csv", "items": "t.csv", "users": "u.csv"},
            "features": {"profile": [{"name": "segment"}], "domains": [{"name": "clicked"}]},
            "validation": {"skew": {"segment": {"l_infinity": 0.2}}},
        }
        if output is not None:
            mapping["output"] = output
        (folder / "log.yaml").write_text(yaml.safe_dump(mapping), encoding="utf-8")
        config = load_config(self.config_path)
        self.output = os.path.abspath(config.output_dir)
        os.makedirs(os.path.join(self.output, EXAMPLES))
        split = os.path.join(self.output, STATISTICS, "Split-train")
        os.makedirs(split)
        trained = statistics(segment=[["a"], ["b"]] * 5, clicked=[["jazz"], ["pop"]] * 5)
        with open(os.path.join(split, "FeatureStats.pb"), "wb") as file:
            file.write(trained.SerializeToString())
        with logged_run(config) as run:
            run.report |= {
                "run.examples": report_path(os.path.join(config.output_dir, EXAMPLES)),
                "run.statistics": report_path(os.path.join(config.output_dir, STATISTICS)),
            }
            run.end({"push.version": 7}, ())
        described = {"run": "log", "kind": "run", "examples": os.path.join(self.output, EXAMPLES)}
        for number in (6, 7):
            assets = os.path.join(self.output, "serving", str(number), "assets.extra")
            os.makedirs(assets)
            with open(os.path.join(assets, "version.json"), "w", encoding="utf-8") as file:
                json.dump(described | {"version": number}, file)
        requests = [{"segment": s, "clicked": ["jazz"]} for s in "ababa"]
        lines = "".join(json.dumps(request) + "\n" for request in requests)
        (folder / "requests.jsonl").write_text(lines, encoding="utf-8")

    def command(self, capfd, *arguments):
        capfd.readouterr()
        status = main([arguments[0], "--config", self.config_path, *arguments[1:]])
        captured = capfd.readouterr()
        return status, captured.out, captured.err

    def check(self, capfd, *flags):
        requests = str(self.folder / "requests.jsonl")
        return self.command(capfd, "check-requests", "--requests", requests, *flags)


BEFORE, NOW = (lambda path: path), os.path.abspath  # what reports say


@pytest.mark.parametrize("report_path", [BEFORE, NOW], ids=["older report", "report"])
@pytest.mark.parametrize("output", [None, "out/log"], ids=["default output", "relative output"])
@pytest.mark.parametrize("where", ["here", "from elsewhere", "moved", "project moved"])
def test_requests_are_checked_wherever_the_output_is(
    tmp_path, monkeypatch, capfd, output, report_path, where
):
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    log = Log(project, output, report_path)
    flags = []
    if where == "from elsewhere":
        monkeypatch.chdir(tmp_path)
        flags = ["--output", log.output]
    elif where == "moved":
        os.rename(log.output, tmp_path / "moved")
        flags = ["--output", "../moved"]
    elif where == "project moved":
        os.rename(project, tmp_path / "renamed")
        monkeypatch.chdir(tmp_path / "renamed")
        log.folder, log.config_path = tmp_path / "renamed", "log.yaml"

    status, out, err = log.check(capfd, *flags)

    assert (status, err) == (0, "")
    assert out.splitlines()[0].endswith("beside the training examples of version 7")
    assert out.splitlines()[-1].split() == ["segment", "l_infinity", "0.100", "0.200", "ok"]

    assert log.command(capfd, "rollback", *flags)[0] == 0
    status, out, _ = log.command(capfd, "versions", "--json", *flags)
    states = {row["version"]: row["state"] for row in json.loads(out)}
    assert (status, states) == (0, {6: "serves", 7: "withdrawn"})


def test_version_of_another_run_is_not_compared_with_examples_of_the_same_name(
    tmp_path, monkeypatch, capfd
):
    monkeypatch.chdir(tmp_path)
    log = Log(tmp_path, None, NOW)
    path = os.path.join(log.output, "serving", "7", "assets.extra", "version.json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"run": "other", "examples": f"/gone/{EXAMPLES}"}, file)

    status, _, err = log.check(capfd)

    assert status == 2
    assert f"hold the run that made the examples of version 7 (/gone/{EXAMPLES})" in err


def test_links_of_an_output_folder_hold_when_it_is_moved(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    artifact = "out/artifacts/ExampleGen/instances/4"
    os.makedirs(artifact)
    (tmp_path / artifact / "part.jsonl").write_text("{}")
    replace_link(artifact, "out/instances")
    os.symlink("out", "link")
    replace_link(artifact, "link/by_link")

    os.rename("out", "moved")

    for name in ("instances", "by_link"):
        assert os.listdir(f"moved/{name}") == ["part.jsonl"]


def test_towers_that_were_rolled_back_stay_so_when_their_output_is_moved(tmp_path):
    def towers(output, number, content):
        folder = tmp_path / output / "artifacts" / "Trainer" / "model" / str(number)
        (folder / "Format-Serving").mkdir(parents=True)
        (folder / "Format-Serving" / "saved_model.pb").write_bytes(content)
        return str(folder)

    base = tmp_path / "serving"
    for number, place in ((4, "withdrawn/4"), (3, "3")):
        path = towers("out", number, bytes([number]))
        digest = files_fingerprint(files_below(os.path.join(path, "Format-Serving")))
        assets = base / place / "assets.extra"
        assets.mkdir(parents=True)
        described = {"towers": path, "towers_fingerprint": digest}
        (assets / "version.json").write_text(json.dumps(described))
    here = str(tmp_path / "out" / "artifacts" / "Trainer" / "model")
    assert [rolled_back_as(str(base), f"{here}/{number}") for number in (3, 4)] == [None, 4]

    os.rename(tmp_path / "out", tmp_path / "moved")

    now = str(tmp_path / "moved" / "artifacts" / "Trainer" / "model")
    assert [rolled_back_as(str(base), f"{now}/{number}") for number in (3, 4)] == [None, 4]
    assert rolled_back_as(str(base), f"{here}/4") == 4  # what an artifact of then says of itself
    # Artifacts of the same name, of another output folder that pushes to the same place.
    other = towers("other", 4, b"other")
    assert rolled_back_as(str(base), other) is None


TAG_FILE = "tag,category,weight,retired\nnew,u3,,\n"


@pytest.fixture
def project(tmp_path):
    """Makes a pushed run of toy towers, with artifacts in its output folder."""
    project = Project(tmp_path, tmp_path / "run" / "artifacts" / "made")
    project.push()
    return project


def provenance(project):
    return serving_version(str(project.base)).provenance


def move(project):
    project.output = project.output.rename(project.folder / "moved")
    project.config_path.write_text(json.dumps(project.mapping({"kind": "exact", "k": 10})))
    project.base = project.output / "serving"


def test_reindex_of_a_moved_output_makes_a_version_of_the_same_towers(project):
    named = {name: provenance(project)[name] for name in ("towers", "examples")}
    move(project)

    assert project.reindex(TAG_FILE) == 0

    again = provenance(project)
    assert again["kind"] == "reindex"
    assert {name: again[name] for name in named} == named
    assert again["num_tags"] == NUM_TAGS + 1


def test_reindex_of_an_output_with_other_towers_of_that_name_is_refused(project, capfd):
    towers = provenance(project)["towers"]
    move(project)
    (project.output / "artifacts/made/model/Format-Serving/saved_model.pb").write_bytes(b"other")

    assert project.reindex(TAG_FILE) == 2

    (line,) = capfd.readouterr().err.strip().splitlines()[-1:]
    assert "`output` must be the folder of the run that made version" in line and towers in line


def test_reindex_without_the_towers_says_where_they_were_looked_for(project, capfd):
    towers = provenance(project)["towers"]
    move(project)
    (project.output / "artifacts").rename(project.folder / "gone")

    assert project.reindex(TAG_FILE) == 2

    assert f"or below `output`, {project.output}, if that was moved. Received: {towers}" in (
        capfd.readouterr().err
    )
