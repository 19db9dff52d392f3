"""A whole study on a small log: killed, resumed, repeated, and run by changed code.

The tests share one study. Each asks for a step of its life, which is taken then, after those before
it, and checks what the step recorded: the order of the tests does not matter.
"""

import dataclasses
import json
import os
import re
import time
from pathlib import Path

import pytest
import yaml

from tests.e2e.small_log import make_small_project
from tests.e2e.steps import step
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


@dataclasses.dataclass(frozen=True)
class Ran:
    """What `tagtower study` printed, and what lay in the folders after it.

    Attributes:
      out: Output of the command.
      num_trials: Number of the files of trials.
      files: Content of the files in the output folder, by name.
      published: Content of the files beside the page, by name.
    """

    out: str
    num_trials: int
    files: dict[str, bytes]
    published: dict[str, bytes]

    @property
    def runs(self) -> list[dict]:
        return json.loads(self.files["study.json"])

    @property
    def report(self) -> str:
        return self.files["study.md"].decode()


class StudyFolder:
    """The files of a study, and the steps of its life.

    Attributes:
      capfd: Captured output of the test that runs.
    """

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
        self.capfd: pytest.CaptureFixture[str] | None = None

    @property
    def trials(self) -> list[Path]:
        return sorted((self.output / "trials").glob("*.json"))

    def run(self, *arguments: str) -> Ran:
        """Runs `tagtower study` in this process."""
        self.capfd.readouterr()
        status = main(["study", "--config", str(self.config), *arguments])
        captured = self.capfd.readouterr()
        assert status == 0, captured
        return Ran(
            captured.out, len(self.trials), contents(self.output), contents(self.page.parent)
        )

    @step
    def killed(self) -> tuple[int, bool, str]:
        """Kills a process after its second trial.

        Returns:
          Number of the finished trials, whether there are results, and error output.
        """
        process = self.project.tagtower("study", "--config", str(self.config))
        while len(self.trials) < 2 and process.poll() is None:
            time.sleep(0.05)
        process.kill()
        _, error = process.communicate()
        return len(self.trials), (self.output / "study.json").exists(), error

    @step
    def resumed(self) -> tuple[Ran, bool]:
        """Runs with one finished trial and half of another.

        Returns:
          The run, and whether it left the finished trial as it was.
        """
        self.killed()
        whole, half = self.trials[:2]
        for path in self.trials[2:]:
            path.unlink()
        half.write_text(half.read_text(encoding="utf-8")[:200], encoding="utf-8")
        before = os.stat(whole).st_mtime_ns
        ran = self.run()
        return ran, os.stat(whole).st_mtime_ns == before

    @step
    def repeated(self) -> Ran:
        """Runs again with every trial finished."""
        self.resumed()
        return self.run()

    @step
    def changed(self) -> tuple[Ran, Ran, dict, dict]:
        """Runs twice with a trial of other code: the first run accepts it, the second does not.

        Returns:
          Both runs, and the content of the trial before the change and after the second run.
        """
        self.repeated()
        path = self.trials[0]
        before = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps({**before, "code": "older"}), encoding="utf-8")
        accepted = self.run("--accept_changed_code")
        again = self.run()
        return accepted, again, before, json.loads(path.read_text(encoding="utf-8"))

    @step
    def other_seeds(self) -> Ran:
        """Runs with one of the seeds, and `--output`."""
        self.changed()
        return self.run("--output", str(self.output), "--seeds", "1")


@pytest.fixture(scope="module")
def shared_study(tmp_path_factory):
    return StudyFolder(tmp_path_factory.mktemp("study"))


@pytest.fixture
def study(shared_study, capfd):
    shared_study.capfd = capfd
    return shared_study


def contents(folder: Path) -> dict[str, bytes]:
    """Returns the content of the files in a folder, without its subfolders, by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def trained_lines(output: str) -> list[str]:
    return re.findall(r"^\[ *\d+/\d+\] .* seed .*$", output, re.MULTILINE)


def test_killed_study_keeps_its_finished_trials(study):
    num_trials, has_results, error = study.killed()

    assert 2 <= num_trials < NUM_TRIALS, error
    assert not has_results


def test_resumed_study_trains_what_is_missing_and_nothing_else(study):
    ran, is_kept = study.resumed()

    assert f"{NUM_TRIALS} trials, 1 of them finished already" in ran.out
    assert f"{NUM_NEW_TAGS_TRIALS} trials, 0 of them finished already" in ran.out
    lines = trained_lines(ran.out)
    assert len(lines) == NUM_TRIALS - 1 + NUM_NEW_TAGS_TRIALS
    for line, num_trials in ((lines[NUM_TRIALS - 2], NUM_TRIALS), (lines[-1], NUM_NEW_TAGS_TRIALS)):
        assert line.startswith(f"[  {num_trials}/{num_trials}] ")
        assert line.endswith("about 0 min left")
    # Training steps are in the log, not on the terminal.
    assert "validation ndcg_at_10" not in ran.out
    assert is_kept
    assert ran.num_trials == NUM_TRIALS


def test_runs_have_a_model_of_every_cell_and_seed(study):
    runs = study.resumed()[0].runs
    cells = [(run["tower"], run["objective"], run["budget"], run["seed"]) for run in runs]

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
    for one in runs:
        metrics = one["metrics"]
        assert one["interaction"] == {"utpm": "utpm", "average": "youtube_dnn"}[one["tower"]]
        assert 0 <= metrics["eval.model.precision_at_10"] <= 1
        assert metrics["eval.popularity.precision_at_10"] > 0
        assert one["parameters"] > 0 and one["examples_per_second"] > 0
        assert undocumented_keys(metrics) == []
        has_clicks = one["objective"] == "both"
        assert (metrics["eval.model.click_gauc"] is not None) == has_clicks
    by_name = {cell: one for cell, one in zip(cells, runs, strict=True)}
    shared = [by_name["average", "both", budget, 0]["trial"] for budget in ("width", "parameters")]
    assert shared[0] == shared[1]


def test_report_plots_and_page_are_written(study):
    ran, _ = study.resumed()
    report = ran.report

    for name in ("utpm", "average", "blend", "own history", "popularity", "random"):
        assert f"\n| {name} |" in report, name
    assert "**Does attention beat pooling?**" in report
    plots = re.findall(r"\]\((study-[\w-]+\.png)\)", report)
    assert len(plots) == 4
    for files in (ran.files, ran.published):
        assert all(files[plot].startswith(b"\x89PNG") for plot in plots)
    page = ran.published["page.md"].decode()
    assert page == f"# Results\n\n{BEGIN}\n{report.strip()}\n{END}\n\nThe end.\n"
    assert json.loads(ran.published["study.json"]) == ran.runs


def test_new_tags_have_a_table_and_a_file_of_their_own(study):
    ran, _ = study.resumed()

    for row in ("views | views", "id only | views", "popularity of category | -", "random | -"):
        assert f"\n| {row} |" in ran.report, row
    runs = json.loads(ran.files["new_tags.json"])
    assert [(run["tower"], run["seed"]) for run in runs] == [("views", 0), ("views", 1)]
    for one in runs:
        metrics = one["metrics"]
        assert 0 < metrics["eval.views.num_new_tags"] < metrics["eval.views.num_tags"] / 5
        assert 0 <= metrics["eval_validation.views.recall_at_10"] <= 1
    assert json.loads(ran.published["new_tags.json"]) == runs


def test_repeated_study_trains_nothing_and_says_the_same(study):
    before, _ = study.resumed()
    ran = study.repeated()

    assert f"{NUM_TRIALS} trials, {NUM_TRIALS} of them finished already" in ran.out
    assert trained_lines(ran.out) == []
    assert (
        f"{NUM_NEW_TAGS_TRIALS} trials, {NUM_NEW_TAGS_TRIALS} of them finished already" in ran.out
    )
    assert ran.out.count("done: cached") == 5
    for name in ("study.md", "study.json", "new_tags.json"):
        assert ran.files[name] == before.files[name], name


def test_trial_of_other_code_is_trained_again_and_comes_to_the_same(study):
    accepted, again, before, after = study.changed()

    note = "Finished trials of another version of the code, used as they are: 1."
    assert note in accepted.out
    assert trained_lines(accepted.out) == []
    assert note in accepted.report
    assert "Finished trials of another version of the code, trained again: 1 (" in again.out
    assert len(trained_lines(again.out)) == 1
    assert "other code" not in again.report
    assert after["code"] == before["code"]
    assert after["outcome"]["metrics"] == before["outcome"]["metrics"]


def test_more_seeds_use_what_is_finished(study):
    ran = study.other_seeds()

    num_trials = NUM_TRIALS // 2
    assert f"{num_trials} trials, {num_trials} of them finished already" in ran.out
    assert {one["seed"] for one in ran.runs} == {1}
    # With --output the page stays as it is.
    assert "seeds 0, 1," in ran.published["page.md"].decode()
