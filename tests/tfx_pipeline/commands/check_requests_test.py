"""Logged requests compared with the training statistics of the version that serves."""

import json

import pytest
import yaml

from tests.tfx_pipeline.evaluation.distributions_test import statistics
from tfx_pipeline.cli import main
from tfx_pipeline.config.pipeline import load_config
from tfx_pipeline.run_log.log import logged_run

EXAMPLES = "artifacts/examples/2"


class Project:
    """An output folder with a run and the version that it pushed."""

    def __init__(self, folder):
        self.folder = folder
        self.config_path = str(folder / "config.yaml")
        self.statistics = folder / "statistics"
        self.write_thresholds(segment={"l_infinity": 0.2})

    def write_thresholds(self, **skew):
        mapping = {
            "name": "log",
            "output": str(self.folder / "run"),
            "data": {"interactions": "i.csv", "items": "t.csv", "users": "u.csv"},
            "features": {"profile": [{"name": "segment"}], "domains": [{"name": "clicked"}]},
            "validation": {"skew": skew},
        }
        with open(self.config_path, "w", encoding="utf-8") as file:
            yaml.safe_dump(mapping, file)

    def run(self, examples=EXAMPLES):
        path = self.statistics / "Split-train" / "FeatureStats.pb"
        path.parent.mkdir(parents=True, exist_ok=True)
        trained = statistics(segment=[["a"], ["b"]] * 5, clicked=[["jazz"], ["pop"]] * 5)
        path.write_bytes(trained.SerializeToString())
        (self.folder / "run").mkdir(exist_ok=True)
        with logged_run(load_config(self.config_path)) as run:
            facts = {"run.examples": examples, "run.statistics": str(self.statistics)}
            run.end({**facts, "push.version": 7}, ())

    def push(self, **provenance):
        folder = self.folder / "run" / "serving" / "7" / "assets.extra"
        folder.mkdir(parents=True)
        (folder / "version.json").write_text(json.dumps(provenance), encoding="utf-8")

    def check(self, capfd, segments, *extra_lines):
        """Checks requests of these segments; returns exit status, output and error output."""
        path = self.folder / "requests.jsonl"
        lines = [json.dumps({"segment": s, "clicked": ["jazz"]}) for s in segments]
        path.write_text("".join(line + "\n" for line in [*lines, *extra_lines]), encoding="utf-8")
        capfd.readouterr()
        status = main(["check-requests", "--config", self.config_path, "--requests", str(path)])
        captured = capfd.readouterr()
        return status, captured.out, captured.err


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


def test_requests_are_compared_with_what_the_version_was_trained_on(project, capfd):
    project.run()
    project.push(examples=EXAMPLES)
    project.run(examples="artifacts/examples/9")  # of another day, which pushed nothing

    like_training = project.check(capfd, ["a", "b", "a", "b", "a"])
    unlike = project.check(capfd, ["a"] * 5)

    assert like_training[0] == 0, like_training
    assert like_training[1].splitlines()[0] == (
        "5 requests (0 more could not be read) beside the training examples of version 7"
    )
    assert like_training[1].splitlines()[-1].split() == [
        "segment",
        "l_infinity",
        "0.100",
        "0.200",
        "ok",
    ]
    assert unlike[0] == 3
    *_, row, reason = unlike[1].splitlines()
    assert row.split()[2:] == ["0.500", "0.200", "fail"]
    assert reason.endswith("0.5000, at most 0.2 is accepted (`validation.skew.segment.l_infinity`)")


def test_warning_is_no_failure(project, capfd):
    project.write_thresholds(segment={"l_infinity": 0.2, "on_violation": "warn"})
    project.run()
    project.push(examples=EXAMPLES)

    status, out, _ = project.check(capfd, ["a"] * 5)

    assert status == 0
    assert out.splitlines()[-1].split()[-1] == "warn"


def test_too_many_requests_that_cannot_be_read_are_a_mistake(project, capfd):
    project.run()
    project.push(examples=EXAMPLES)

    status, _, err = project.check(capfd, ["a", "b"], '{"segment": 3}')

    assert status == 2
    (line,) = err.strip().splitlines()
    assert "1 of 3 requests cannot be read (`segment` must be a string." in line


def test_what_is_missing_is_one_line(project, capfd):
    def line():
        status, _, err = project.check(capfd, ["a"])
        assert status == 2
        (only,) = err.strip().splitlines()
        return only

    assert "`serving.base_path` must hold a pushed version." in line()
    project.push(examples=EXAMPLES)
    assert f"`output` must hold the run that made the examples of version 7 ({EXAMPLES})." in line()
    project.run()
    (project.statistics / "Split-train" / "FeatureStats.pb").unlink()
    assert "`output` must still hold the statistics of that run." in line()
    project.write_thresholds()
    assert "`validation.skew` must have a threshold" in line()
