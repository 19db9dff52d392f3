"""Tests which trials are trained, under which name, and which count as finished."""

import dataclasses
import json

import numpy as np
import pytest

from tfx_pipeline.config.data import DataConfig
from tfx_pipeline.config.pipeline import PipelineConfig
from tfx_pipeline.study.grid.config import BaseConfig, Cell, GridBlock, StudyConfig
from tfx_pipeline.study.grid.definition import Study
from tfx_pipeline.study.trials.trial import FinishedTrial, TrialDefinition, TrialOutcome
from tfx_pipeline.study.trials.trial_store import TrialStore, pending_trials
from tfx_pipeline.study.trials.trials import study_trials
from trainer.config import ModelConfig, RankingConfig, TrainingConfig
from trainer.contract.features import Domain, FeatureSpec, Vocabulary

SPEC = FeatureSpec(domains=(Domain("clicked"),), vocabularies={"tags": Vocabulary(max_size=5)})
DEFINITION = TrialDefinition("ab12", SPEC, ModelConfig(), TrainingConfig(), RankingConfig(), 0)
OUTCOME = TrialOutcome(10, 20, 99.5, 3, 2, 0.05, 4.25, {"eval.model.click_gauc": None, "a": 0.5})


def finished(code="c0"):
    by_user = {"model.precision_at_10": np.array([0.5, np.nan], np.float32)}
    return FinishedTrial(code, OUTCOME, by_user)


def study(grid, seeds=(0, 1), **options):
    config = StudyConfig(
        "s",
        BaseConfig("demo"),
        {"utpm": {}, "same": {"interaction": "utpm"}, "nfm": {"interaction": "nfm"}},
        {"both": {}, "clicks": {"multi_class_weight": 0.0}},
        grid,
        seeds=seeds,
        **options,
    )
    return Study(config, PipelineConfig("base", DataConfig("i", "t", "u"), SPEC))


def trials_of(a_study, widths=None, fingerprints=None):
    cells = a_study.config.cells
    fingerprints = fingerprints or {cell.data_set: "ab12" for cell in cells}
    return study_trials(a_study, fingerprints, {cell: 64 for cell in cells} | (widths or {}))


# --- the trainings of a study ---


def test_every_cell_is_trained_with_every_seed():
    a_study = study((GridBlock(("utpm", "nfm"), ("both", "clicks")),))

    trials = trials_of(a_study)

    assert [(trial.cells, trial.definition.seed) for trial in trials] == [
        ((Cell(tower, objective),), seed)
        for objective in ("both", "clicks")
        for tower in ("utpm", "nfm")
        for seed in (0, 1)
    ]
    last = trials[-1].definition
    assert (last.model.interaction, last.model.hidden_dim) == ("nfm", 64)
    assert last.training.multi_class_weight == 0.0
    assert last.features == SPEC


def test_cells_that_come_to_the_same_training_share_it():
    block = GridBlock(("utpm", "same", "nfm"), ("both",), budgets=("width", "parameters"))
    a_study = study((block,), seeds=(4,), parameter_reference="utpm")

    trials = trials_of(a_study, {Cell("nfm", "both", budget="parameters"): 900})

    assert [set(trial.cells) for trial in trials] == [
        {Cell(tower, "both", budget=b) for tower in ("utpm", "same") for b in block.budgets},
        {Cell("nfm", "both")},
        {Cell("nfm", "both", budget="parameters")},
    ]


def test_data_sets_come_one_after_the_other_and_share_nothing():
    domains = [{"name": "clicked"}, {"name": "recent", "window_days": 1.0}]
    grid = tuple(
        GridBlock((tower,), ("both",), data_sets=("base", "recent")) for tower in ("utpm", "nfm")
    )
    a_study = study(grid, seeds=(0,), data_sets={"recent": {"features": {"domains": domains}}})

    trials = trials_of(a_study, fingerprints={"base": "x", "recent": "y"})

    assert [trial.data_set for trial in trials] == ["base", "base", "recent", "recent"]
    assert [trial.definition.examples for trial in trials] == ["x", "x", "y", "y"]
    assert len(trials[2].definition.features.domains) == 2


# --- names ---


@pytest.mark.parametrize(
    "change",
    [
        {"examples": "ab13"},
        {"features": dataclasses.replace(SPEC, history_window_days=9.0)},
        {"model": ModelConfig(dropout=0.1)},
        {"training": TrainingConfig(max_epochs=9)},
        {"ranking": RankingConfig(num_candidates=9)},
        {"seed": 1},
    ],
)
def test_everything_that_defines_a_trial_is_in_its_name(change):
    assert dataclasses.replace(DEFINITION, **change).key != DEFINITION.key
    assert dataclasses.replace(DEFINITION).key == DEFINITION.key


# --- the store ---


def test_finished_trial_comes_back_as_it_was(tmp_path):
    store = TrialStore(tmp_path / "trials")
    assert store.read(DEFINITION) is None

    store.write(DEFINITION, finished())

    found = store.read(DEFINITION)
    assert (found.code, found.outcome) == ("c0", OUTCOME)
    np.testing.assert_array_equal(
        found.by_user["model.precision_at_10"], finished().by_user["model.precision_at_10"]
    )
    assert sorted(path.suffix for path in (tmp_path / "trials").iterdir()) == [".json", ".npz"]
    assert store.read(dataclasses.replace(DEFINITION, seed=1)) is None


@pytest.mark.parametrize("suffix", [".json", ".npz"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.95])
def test_trial_written_halfway_counts_as_not_trained(tmp_path, suffix, share):
    store = TrialStore(tmp_path)
    store.write(DEFINITION, finished())
    path = store.path(DEFINITION).with_suffix(suffix)
    content = path.read_bytes()

    path.write_bytes(content[: int(share * len(content))])

    assert store.read(DEFINITION) is None


def test_trial_without_its_figures_by_user_counts_as_not_trained(tmp_path):
    store = TrialStore(tmp_path)
    store.write(DEFINITION, finished())

    store.path(DEFINITION).with_suffix(".npz").unlink()

    assert store.read(DEFINITION) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content["definition"].update(seed=7),
        lambda content: content["outcome"].pop("steps"),
        lambda content: content["outcome"].update(steps="3"),
        lambda content: content.pop("code"),
    ],
)
def test_file_that_is_not_this_trial_counts_as_not_trained(tmp_path, change):
    store = TrialStore(tmp_path)
    store.write(DEFINITION, finished())
    content = json.loads(store.path(DEFINITION).read_text())

    change(content)
    store.path(DEFINITION).write_text(json.dumps(content))

    assert store.read(DEFINITION) is None


def test_what_is_finished_is_not_pending(tmp_path):
    trials = trials_of(study((GridBlock(("utpm", "nfm"), ("both",)),)))
    store = TrialStore(tmp_path)
    store.write(trials[0].definition, finished("mine"))
    store.write(trials[2].definition, finished("other"))

    strict = pending_trials(trials, store, "mine", accept_changed_code=False)
    assert strict.trials == (trials[1], trials[2], trials[3])
    assert (strict.num_finished, strict.num_changed) == (1, 1)

    lenient = pending_trials(trials, store, "mine", accept_changed_code=True)
    assert lenient.trials == (trials[1], trials[3])
    assert (lenient.num_finished, lenient.num_changed) == (1, 1)
