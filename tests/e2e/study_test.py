"""A whole study on a small log: killed, resumed, repeated, and run by changed code.

The tests of this file share one study and run in order: each is one step of its life.
"""

import json
import os
import re
import time
from pathlib import Path

import pytest
import yaml

from tests.e2e.small_log import make_small_project
from tests.report_keys import undocumented_keys
from tfx_pipeline.cli import main
from tfx_pipeline.study.report.page import BEGIN, END

pytestmark = pytest.mark.e2e

NUM_TRIALS = 6
NUM_NEW_TAGS_TRIALS = 4
STUDY = {
    "name": "small",
    "seeds": [0, 1],
    "towers": {
        "utpm": {},
        "average": {"interaction": "youtube_dnn"},
        "views": {"interaction": "youtube_dnn", "tag_views": ["words", "category"]},
    },
    "objectives": {"both": {}, "multi_class": {"joint_weight": 0.0}},
    "parameter_reference": "average",
    "grid": [
        {"towers": ["utpm", "average"], "objectives": ["both"]},
        {"towers": ["average"], "objectives": ["multi_class"]},
        {"towers": ["average"], "objectives": ["both"], "budgets": ["parameters"]},
    ],
    "questions": [
        {
            "question": "Does attention beat pooling?",
            "shared": {"objective": "both"},
            "reference": {"tower": "utpm"},
            "against": [{"tower": "average"}, {"tower": "utpm", "who": "popularity"}],
        }
    ],
    "new_tags": {"towers": ["views"], "objective": "both"},
}


class StudyFolder:
    """The files of a study."""

    def __init__(self, folder: Path):
        self.project = make_small_project(folder)
        self.output = folder / "study"
        self.config = folder / "study.yaml"
        self.page = folder / "page.md"
        self.page.write_text(f"# Results\n\n{BEGIN}\n{END}\n\nThe end.\n", encoding="utf-8")
        base = {
            "config": str(self.project.config_path),
            "overrides": {"training": {"max_epochs": 1}},
        }
        mapping = {**STUDY, "base": base, "output": str(self.output), "page": str(self.page)}
        self.config.write_text(yaml.safe_dump(mapping), encoding="utf-8")

    @property
    def trials(self) -> list[Path]:
        return sorted((self.output / "trials").glob("*.json"))

    @property
    def runs(self) -> list[dict]:
        return json.loads((self.output / "study.json").read_text(encoding="utf-8"))

    def read(self, name: str) -> str:
        return (self.output / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return StudyFolder(tmp_path_factory.mktemp("study"))


def run(study, capfd, *arguments) -> str:
    capfd.readouterr()
    status = main(["study", "--config", str(study.config), *arguments])
    out = capfd.readouterr()
    assert status == 0, out
    return out.out


def trained_lines(output: str) -> list[str]:
    return re.findall(r"^\[ *\d+/\d+\] .* seed .*$", output, re.MULTILINE)


def test_killed_study_keeps_its_finished_trials(study):
    process = study.project.tagtower("study", "--config", str(study.config))
    while len(study.trials) < 2 and process.poll() is None:
        time.sleep(0.05)
    process.kill()
    _, error = process.communicate()

    assert 2 <= len(study.trials) < NUM_TRIALS, error
    assert not (study.output / "study.json").exists()


def test_resumed_study_trains_what_is_missing_and_nothing_else(study, capfd):
    whole, half = study.trials[:2]
    for path in study.trials[2:]:
        path.unlink()
    half.write_text(half.read_text(encoding="utf-8")[:200], encoding="utf-8")
    before = os.stat(whole).st_mtime_ns

    output = run(study, capfd)

    assert f"{NUM_TRIALS} trials, 1 of them finished already" in output
    assert f"{NUM_NEW_TAGS_TRIALS} trials, 0 of them finished already" in output
    lines = trained_lines(output)
    assert len(lines) == NUM_TRIALS - 1 + NUM_NEW_TAGS_TRIALS
    for line, num_trials in ((lines[NUM_TRIALS - 2], NUM_TRIALS), (lines[-1], NUM_NEW_TAGS_TRIALS)):
        assert line.startswith(f"[  {num_trials}/{num_trials}] ")
        assert line.endswith("about 0 min left")
    # Training steps are in the log, not on the terminal.
    assert "validation ndcg_at_10" not in output
    assert os.stat(whole).st_mtime_ns == before
    assert len(study.trials) == NUM_TRIALS


def test_runs_have_a_model_of_every_cell_and_seed(study):
    cells = [(run["tower"], run["objective"], run["budget"], run["seed"]) for run in study.runs]

    assert cells == [
        ("utpm", "both", "width", 0),
        ("utpm", "both", "width", 1),
        ("average", "both", "width", 0),
        ("average", "both", "width", 1),
        ("average", "multi_class", "width", 0),
        ("average", "multi_class", "width", 1),
        # The reference has its own parameters: these two were not trained again.
        ("average", "both", "parameters", 0),
        ("average", "both", "parameters", 1),
    ]
    for one in study.runs:
        metrics = one["metrics"]
        assert one["interaction"] == {"utpm": "utpm", "average": "youtube_dnn"}[one["tower"]]
        assert 0 <= metrics["eval.model.precision_at_10"] <= 1
        assert metrics["eval.popularity.precision_at_10"] > 0
        assert one["parameters"] > 0 and one["examples_per_second"] > 0
        assert undocumented_keys(metrics) == []
        has_clicks = one["objective"] == "both"
        assert (metrics["eval.model.click_gauc"] is not None) == has_clicks
    by_name = {cell: one for cell, one in zip(cells, study.runs, strict=True)}
    shared = [by_name["average", "both", budget, 0]["trial"] for budget in ("width", "parameters")]
    assert shared[0] == shared[1]


def test_report_plots_and_page_are_written(study):
    report = study.read("study.md")

    for name in ("utpm", "average", "blend", "own history", "popularity", "random"):
        assert f"\n| {name} |" in report, name
    assert "**Does attention beat pooling?**" in report
    plots = re.findall(r"\]\((study-[\w-]+\.png)\)", report)
    assert len(plots) == 4
    for folder in (study.output, study.page.parent):
        assert all((folder / plot).read_bytes().startswith(b"\x89PNG") for plot in plots)
    page = study.page.read_text(encoding="utf-8")
    assert page == f"# Results\n\n{BEGIN}\n{report.strip()}\n{END}\n\nThe end.\n"
    assert json.loads((study.page.parent / "study.json").read_text("utf-8")) == study.runs


def test_new_tags_have_a_table_and_a_file_of_their_own(study):
    report = study.read("study.md")
    for row in ("views | views", "id only | views", "popularity of category | -", "random | -"):
        assert f"\n| {row} |" in report, row
    runs = json.loads(study.read("new_tags.json"))
    assert [(run["tower"], run["seed"]) for run in runs] == [("views", 0), ("views", 1)]
    for one in runs:
        metrics = one["metrics"]
        assert 0 < metrics["eval.views.num_new_tags"] < metrics["eval.views.num_tags"] / 5
        assert 0 <= metrics["eval_validation.views.recall_at_10"] <= 1
    page = study.page.parent / "new_tags.json"
    assert json.loads(page.read_text("utf-8")) == runs


def test_repeated_study_trains_nothing_and_says_the_same(study, capfd):
    names = ("study.md", "study.json", "new_tags.json")
    before = [study.read(name) for name in names]

    output = run(study, capfd)

    assert f"{NUM_TRIALS} trials, {NUM_TRIALS} of them finished already" in output
    assert trained_lines(output) == []
    assert f"{NUM_NEW_TAGS_TRIALS} trials, {NUM_NEW_TAGS_TRIALS} of them finished already" in output
    assert output.count("done: cached") == 5
    assert [study.read(name) for name in names] == before


def test_trial_of_other_code_is_trained_again_and_comes_to_the_same(study, capfd):
    changed = study.trials[0]
    content = json.loads(changed.read_text(encoding="utf-8"))
    changed.write_text(json.dumps({**content, "code": "older"}), encoding="utf-8")

    accepted = run(study, capfd, "--accept_changed_code")
    note = "Finished trials of another version of the code, used as they are: 1."
    assert note in accepted
    assert trained_lines(accepted) == []
    assert note in study.read("study.md")

    output = run(study, capfd)
    assert "Finished trials of another version of the code, trained again: 1 (" in output
    assert len(trained_lines(output)) == 1
    assert "other code" not in study.read("study.md")
    again = json.loads(changed.read_text(encoding="utf-8"))
    assert again["code"] == content["code"]
    assert again["outcome"]["metrics"] == content["outcome"]["metrics"]


def test_more_seeds_use_what_is_finished(study, capfd):
    output = run(study, capfd, "--output", str(study.output), "--seeds", "1")

    num_trials = NUM_TRIALS // 2
    assert f"{num_trials} trials, {num_trials} of them finished already" in output
    assert {one["seed"] for one in study.runs} == {1}
    # With --output the page stays as it is.
    assert "seeds 0, 1," in study.page.read_text(encoding="utf-8")
