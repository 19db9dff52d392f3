"""Tags without history in a study: each tower is trained once, and the report says it."""

import dataclasses
import io
import json

import numpy as np
import pytest

from tests.tfx_pipeline.study.made_results import make_new_tags_results, make_results
from tests.trainer.toy_training import (
    NUM_TAGS,
    SHORT,
    SMALL,
    SPEC,
    snapshots,
    train_part,
    validation_part,
)
from tfx_pipeline.config.data import DataConfig
from tfx_pipeline.config.pipeline import PipelineConfig
from tfx_pipeline.fingerprints import _closure
from tfx_pipeline.study import run as study_run
from tfx_pipeline.study.grid.config import BaseConfig, Cell, GridBlock, NewTagsConfig, StudyConfig
from tfx_pipeline.study.grid.definition import Study
from tfx_pipeline.study.report.new_tags_table import new_tags_report, new_tags_table
from tfx_pipeline.study.report.report import build_report
from tfx_pipeline.study.trials.examples import StudyExamples
from tfx_pipeline.study.trials.held_out_tags import run_held_out
from tfx_pipeline.study.trials.hidden_tags import choose_new_tags
from tfx_pipeline.study.trials.new_tags import CODE, new_tags_trials, run_new_tags, without_views
from tfx_pipeline.terminal.console import Console
from trainer.config import ModelConfig
from trainer.contract.features import profile_vocabulary_name
from trainer.towers.tag_views import TagAttributes

TAGS = tuple(f"tag {i}" for i in range(NUM_TAGS))
TOWERS = {
    "words": {"tag_views": ["words"], "id_dropout": 0.5},
    "both": {"tag_views": ["words", "category"]},
    "plain": {},
}


def make_study(tmp_path, towers=("words", "both"), seeds=(0, 1), fraction=0.3):
    config = StudyConfig(
        "s",
        BaseConfig("demo"),
        TOWERS,
        {"clicks": {"joint_weight": 0.5}},
        (GridBlock(("plain",), ("clicks",)),),
        seeds=seeds,
        new_tags=NewTagsConfig(towers, "clicks", fraction=fraction),
        output=str(tmp_path),
    )
    training = dataclasses.replace(SHORT, max_epochs=1)
    data = DataConfig("i", "t", "u")
    return Study(config, PipelineConfig("base", data, SPEC, model=SMALL, training=training))


class InMemory:
    """The one data set of a study, which needs no preparation here."""

    def __init__(self):
        self.content = StudyExamples(
            SPEC,
            {"tags": NUM_TAGS + 1, profile_vocabulary_name("segment"): 4},
            TagAttributes(TAGS, ("even", "odd") * (NUM_TAGS // 2)),
            np.ones(NUM_TAGS),
            {"train": train_part(), "validation": validation_part(), "test": snapshots(24, 2000)},
            np.arange(float(NUM_TAGS)),
        )

    def examples(self, name):
        assert name == "base"
        return self.content


# --- what is trained ---


def test_every_tower_is_trained_with_views_and_once_without(tmp_path):
    study = make_study(tmp_path)

    trials = new_tags_trials(study, study.config.new_tags, "ab12")

    words, both = (Cell(tower, "clicks") for tower in ("words", "both"))
    assert [(trial.cells, trial.definition.seed) for trial in trials] == [
        ((words,), 0),
        ((words,), 1),
        # They differ only in their views: without them they are the same.
        ((words, both), 0),
        ((words, both), 1),
        ((both,), 0),
        ((both,), 1),
    ]
    definitions = [trial.definition for trial in trials[::2]]
    assert [one.model.tag_views for one in definitions] == [("words",), (), ("words", "category")]
    assert {one.fraction for one in definitions} == {0.3}
    assert {one.training.joint_weight for one in definitions} == {0.5}
    assert definitions[1].model == dataclasses.replace(SMALL)


def test_without_views_keeps_what_is_not_of_views():
    model = ModelConfig(
        tag_views=("words",), id_dropout=0.7, num_word_buckets=9, output_dim=5, dropout=0.2
    )
    assert without_views(model) == ModelConfig(output_dim=5, dropout=0.2)


def test_fraction_is_in_the_name_of_a_trial(tmp_path):
    names = []
    for fraction in (0.3, 0.4):
        study = make_study(tmp_path, fraction=fraction)
        trials = new_tags_trials(study, study.config.new_tags, "ab12")
        names += [trial.definition.key for trial in trials]
    assert len(set(names)) == len(names) == 12


def test_trials_of_the_grid_do_not_depend_on_the_code_of_new_tags():
    of_grid, of_new_tags = (set(_closure([code])) for code in (study_run.CODE, CODE))

    assert not {name for name in of_grid if "new_tags" in name or "held_out" in name}
    assert {"tfx_pipeline.study.trials.hidden_tags", "trainer.towers.tag_tower"} <= of_new_tags


# --- trained once ---


def run(study, accept=False):
    terminal = io.StringIO()
    results = run_new_tags(study, study.config.new_tags, InMemory(), accept, Console(terminal))
    return results, terminal.getvalue()


def test_finished_trials_are_not_trained_again(tmp_path):
    study = make_study(tmp_path, towers=("words",), seeds=(0,))
    first, output = run(study)
    assert "2 trials, 0 of them finished already" in output
    assert "[  2/2] words" in output
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "new_tags").iterdir()}
    assert len(times) == 4

    again, output = run(study)
    assert "2 trials, 2 of them finished already" in output
    assert again.to_json() == first.to_json()
    assert {path: path.stat().st_mtime_ns for path in times} == times

    # A truncated file is no trial: it is trained again, with the same result.
    path = tmp_path / "new_tags" / f"{first.runs[0].trials['id_only']}.json"
    content = json.loads(path.read_text())
    path.write_text(path.read_text()[:200])
    third, output = run(study)
    assert "2 trials, 1 of them finished already" in output
    assert [one["metrics"] for one in third.to_json()] == [
        one["metrics"] for one in first.to_json()
    ]

    path.write_text(json.dumps({**content, "code": "older"}))
    accepted, output = run(study, accept=True)
    assert "2 trials, 2 of them finished already" in output
    assert accepted.notes == (
        "Finished trials of another version of the code, used as they are: 1.",
    )
    report = "\n".join(new_tags_report(accepted))
    assert accepted.notes[0] in report


@pytest.fixture(scope="module")
def held_out(tmp_path_factory):
    study = make_study(tmp_path_factory.mktemp("held_out"), towers=("both",), seeds=(3,))
    trials = new_tags_trials(study, study.config.new_tags, "ab12")
    return [run_held_out(trial.definition, InMemory().content, "c0") for trial in trials]


def test_both_trainings_of_a_seed_miss_the_same_tags(held_out):
    with_views, without = (trial.outcome.metrics for trial in held_out)
    expected = len(choose_new_tags(TAGS, 0.3, 3))
    for prefix in ("eval", "eval_validation"):
        assert with_views[f"{prefix}.views.num_new_tags"] == expected
        for name in (f"{prefix}.popularity_of_category.", f"{prefix}.random."):
            ours = {k: v for k, v in with_views.items() if k.startswith(name)}
            assert ours == {k: v for k, v in without.items() if k.startswith(name)}
            assert ours
    assert "eval.views.mrr" not in without
    assert without["eval.id_only.num_users"] == with_views["eval.views.num_users"]
    # The views are rows of the tag tower; the user tower is the same.
    sizes = [trial.outcome.embedding_parameters for trial in held_out]
    width = SMALL.output_dim + 2
    assert sizes[0] - sizes[1] == (SMALL.num_word_buckets + 2) * width
    assert held_out[0].outcome.parameters == held_out[1].outcome.parameters


# --- what is said ---

FIGURES = [
    {
        "views.recall_at_10": 0.2,
        "id_only.recall_at_10": 0.1,
        "popularity_of_category.among_new.mrr": 0.5,
        "random.recall_at_100": None,
    },
    {
        "views.recall_at_10": 0.4,
        "id_only.recall_at_10": 0.1,
        "popularity_of_category.among_new.mrr": 0.5,
        "random.recall_at_100": 0.3,
    },
]


def test_table_has_towers_with_and_without_views_and_what_needs_no_model():
    other = [{"views.recall_at_10": 0.3}, {"views.recall_at_10": 0.3}]

    header, rows = new_tags_table(make_new_tags_results({"a": FIGURES, "b": other}))

    assert header == [
        *("ranked by", "tower", "R@10", "R@50", "R@100", "MRR"),
        *("R@10 among new", "R@50 among new", "R@100 among new", "MRR among new"),
    ]
    assert [row[:3] for row in rows] == [
        ["views", "a", "0.3000 \N{PLUS-MINUS SIGN} 0.1414"],
        ["id only", "a", "0.1000"],
        ["views", "b", "0.3000"],
        ["id only", "b", "0.0000"],
        ["popularity of category", "-", "0.0000"],
        ["random", "-", "0.0000"],
    ]
    assert rows[4][-1] == "0.5000"
    # One seed has no figure: a mean over the others would mislead.
    assert rows[5][4] == "-"


def test_report_says_how_many_tags_and_users():
    text, note, table = new_tags_report(make_new_tags_results({"a": FIGURES}, ["Mind the gap."]))

    assert text.startswith("**Tags without history.** 10 to 11 of 100 tags, drawn anew with every")
    assert "(10%)" in text
    assert "for the 50 to 51 test users who clicked" in text
    assert note == "Mind the gap."
    assert table.splitlines()[0].startswith("| ranked by | tower | R@10 |")
    assert table.splitlines()[2].startswith("| views | a | 0.3000 \N{PLUS-MINUS SIGN} 0.1414 |")
    assert len({line.count("|") for line in table.splitlines()}) == 1


def test_report_of_a_study_ends_with_its_new_tags(tmp_path):
    study = make_study(tmp_path)
    results = make_results({Cell("plain", "clicks"): (0.5, 0.6)})
    new_tags = make_new_tags_results({"words": FIGURES})

    without = build_report(study, results, [])
    whole = build_report(study, results, [], new_tags=new_tags)

    assert whole == without + "\n" + "\n\n".join(new_tags_report(new_tags)) + "\n"


def test_runs_have_the_keys_that_are_documented():
    runs = make_new_tags_results({"a": FIGURES}).to_json()

    assert json.loads(json.dumps(runs, allow_nan=False)) == runs
    first = runs[0]
    assert (first["tower"], first["objective"], first["data_set"]) == ("a", "both", "base")
    assert (first["seed"], first["fraction"]) == (0, 0.1)
    assert first["metrics"]["eval.views.recall_at_10"] == 0.2
    assert first["metrics"]["eval.id_only.recall_at_10"] == 0.1
    assert first["metrics"]["eval.popularity_of_category.among_new.mrr"] == 0.5
    assert first["metrics"]["eval.random.recall_at_100"] is None
    assert first["trials"] == {"views": "a-views-0", "id_only": "a-id_only-0"}
    assert first["best_step"] == {"views": 4, "id_only": 4}
    page = open("docs/study.md", encoding="utf-8").read().partition("## new_tags.json")[2]
    for key in first:
        assert f"`{key}`" in page, key
    for name in first["metrics"]:
        _, who, _, *_ = name.split(".")
        assert f"`{who}`" in page
