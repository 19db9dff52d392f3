"""One trial for real: reproducible whatever ran before, and scored as the protocol says."""

import dataclasses

import numpy as np
import pytest

from tests.trainer.toy_training import (
    NUM_TAGS,
    SHORT,
    SMALL,
    SPEC,
    make_model,
    snapshots,
    train_part,
    validation_part,
)
from tfx_pipeline.evaluation.figures import evaluate_baselines
from tfx_pipeline.study.grid.config import USER_METRICS
from tfx_pipeline.study.trials.baseline_figures import baseline_figures
from tfx_pipeline.study.trials.evaluation import evaluate_stages
from tfx_pipeline.study.trials.examples import StudyExamples
from tfx_pipeline.study.trials.training import run_trial
from tfx_pipeline.study.trials.trial import TrialDefinition
from trainer.config import RankingConfig
from trainer.contract.features import profile_vocabulary_name
from trainer.contract.metric_registry import MEAN_NDCG
from trainer.evaluation.baselines_config import BaselinesConfig
from trainer.evaluation.fitted_baselines import fit_baselines
from trainer.evaluation.second_stage import SecondStage
from trainer.fitting.early_stopping import InMemoryEvaluator
from trainer.towers.tag_views import TagAttributes

TAGS = TagAttributes(tuple(f"tag {i}" for i in range(NUM_TAGS)), ("",) * NUM_TAGS)


def make_examples(**changes):
    parts = {"train": train_part(), "validation": validation_part(), "test": snapshots(24, 2000)}
    examples = StudyExamples(
        SPEC,
        {"tags": NUM_TAGS + 1, profile_vocabulary_name("segment"): 4},
        TAGS,
        np.ones(NUM_TAGS),
        parts,
        np.arange(float(NUM_TAGS)),
    )
    return dataclasses.replace(examples, **changes)


@pytest.fixture(scope="module")
def examples():
    return make_examples()


def definition(examples, seed=0, **model):
    return TrialDefinition(
        examples.fingerprint,
        SPEC,
        dataclasses.replace(SMALL, **model),
        dataclasses.replace(SHORT, max_epochs=2),
        RankingConfig(num_candidates=4),
        seed,
    )


@pytest.fixture(scope="module")
def trial(examples):
    return run_trial(definition(examples), examples, "code")


@pytest.fixture(scope="module")
def other(examples):
    return run_trial(definition(examples, seed=1), examples, "code")


def test_trial_does_not_depend_on_what_ran_before(examples, trial, other):
    again = run_trial(definition(examples), examples, "code")

    assert again.outcome.metrics == trial.outcome.metrics
    assert again.outcome.click_weight == trial.outcome.click_weight
    for name, values in trial.by_user.items():
        np.testing.assert_array_equal(again.by_user[name], values)


def test_another_seed_is_another_training(trial, other):
    assert other.outcome.metrics != trial.outcome.metrics


def test_trial_has_figures_of_both_parts_and_of_users(trial):
    metrics = trial.outcome.metrics
    for prefix in ("eval", "eval_validation"):
        for who in ("model", "multi_class_stage", "click_stage"):
            assert 0 <= metrics[f"{prefix}.{who}.precision_at_10"] <= 1
            assert 0 <= metrics[f"{prefix}.{who}.click_gauc"] <= 1
    assert trial.code == "code"
    assert trial.outcome.steps >= trial.outcome.best_step >= 0
    assert trial.outcome.parameters > 0
    assert trial.outcome.examples_per_second > 0
    for name in USER_METRICS:
        values = trial.by_user[f"model.{name}"]
        assert values.shape == (24,)
        assert np.nanmean(values) == pytest.approx(metrics[f"eval.model.{name}"], rel=1e-6)


# --- second stages ---


@pytest.fixture(scope="module")
def model():
    model = make_model(seed=3)
    rng = np.random.default_rng(0)
    tower = model.tag_tower
    for table in (tower.bias, tower.click_bias):
        table.assign(rng.normal(size=table.shape))
    return model


def test_first_stage_alone_has_the_figures_of_early_stopping(model):
    part = snapshots(24, 2000)

    figures = evaluate_stages(model, part, SecondStage(num_candidates=3))

    expected = InMemoryEvaluator(model).evaluate(part)
    # Of early stopping alone.
    del expected[MEAN_NDCG]
    for who in ("model", "multi_class_stage"):
        assert figures[who].metrics == pytest.approx(expected, rel=1e-6, nan_ok=True)
    assert "mix_stage" not in figures


def test_stages_order_the_proposed_tags_by_their_score(model):
    part = snapshots(24, 2000)
    stage = SecondStage(click_weight=0.25, mix_weight=0.5, num_candidates=3)

    figures = evaluate_stages(model, part, stage)

    queries = model.query_embeddings(part.features()).numpy()
    multi_class = queries @ model.candidate_embeddings().numpy().T
    clicks = queries @ model.click_candidate_embeddings().numpy().T
    labels = part.lists["label_tags"]
    for who, weight in {"model": 0.25, "mix_stage": 0.5, "click_stage": 1.0}.items():
        hits = []
        for user in range(24):
            proposed = np.argsort(-multi_class[user])[:3]
            mixed = (1 - weight) * multi_class[user] + weight * clicks[user]
            best = max(proposed, key=lambda tag, mixed=mixed: mixed[tag])
            hits.append(best in labels.values[labels.offsets[user] : labels.offsets[user + 1]])
        assert figures[who].metrics["precision_at_1"] == pytest.approx(np.mean(hits)), who


def test_model_without_click_head_has_no_other_stages():
    model = make_model(joint_weight=0.0)

    figures = evaluate_stages(model, snapshots(8, 2000), SecondStage(num_candidates=3))

    assert set(figures) == {"model", "multi_class_stage"}
    assert figures["model"].metrics["click_gauc"] is None
    assert "click_gauc" not in figures["model"].by_user


# --- baselines ---


def test_baselines_have_the_figures_of_the_pipelines_evaluator(examples):
    clicks = np.arange(NUM_TAGS, dtype=float) ** 2
    validation, test = (examples.splits[part] for part in ("validation", "test"))

    def fitted(seed):
        config = BaselinesConfig()
        return fit_baselines(
            clicks, examples.splits["train"], validation, examples.spec, config, seed
        )

    by_seed = baseline_figures(fitted(0), test, NUM_TAGS, [0, 5])

    for seed, by_name in by_seed.items():
        expected, _ = evaluate_baselines(fitted(seed), clicks, test)
        assert set(by_name) == set(expected)
        for who, figures in by_name.items():
            assert figures.metrics == {name: expected[who][name] for name in figures.metrics}, who
            for name, values in figures.by_user.items():
                if figures.metrics[name] is not None:
                    mean = np.nanmean(values)
                    assert mean == pytest.approx(figures.metrics[name], rel=1e-6), (who, name)


# --- the fingerprint ---


@pytest.mark.parametrize(
    "change",
    [
        {"tags": dataclasses.replace(TAGS, categories=("x",) * NUM_TAGS)},
        {"tag_frequencies": np.full(NUM_TAGS, 2.0)},
        {"vocabulary_sizes": {"tags": NUM_TAGS + 2, profile_vocabulary_name("segment"): 4}},
        {
            "splits": {
                "train": train_part(),
                "validation": validation_part(),
                "test": snapshots(24, 2001),
            }
        },
    ],
)
def test_fingerprint_sees_every_part_of_the_examples(examples, change):
    assert make_examples().fingerprint == examples.fingerprint
    assert make_examples(**change).fingerprint != examples.fingerprint
    changed = make_examples(**change)
    assert changed.fingerprint_with_clicks != examples.fingerprint_with_clicks


def test_clicks_by_tag_enter_only_the_fingerprint_that_names_them(examples):
    changed = make_examples(tag_clicks=np.ones(NUM_TAGS))
    assert changed.fingerprint == examples.fingerprint
    assert changed.fingerprint_with_clicks != examples.fingerprint_with_clicks
