"""Fitting is fixed by its seed, keeps the best state, learns what is planted, and resumes."""

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.trainer.toy_training import (
    NUM_TAGS,
    SMALL,
    SPEC,
    Keeps,
    make_model,
    snapshots,
    train_part,
    validation_part,
)
from trainer.contract.list_column import ListValues
from trainer.data.snapshots import Snapshots
from trainer.fitting import loop as fitting
from trainer.fitting.checkpoints import CheckpointFolder
from trainer.fitting.early_stopping import InMemoryEvaluator
from trainer.fitting.initial_values import set_initial_values
from trainer.fitting.loop import build_model, fit
from trainer.fitting.model_state import ModelState


def trained(seed: int = 0, checkpoints: CheckpointFolder | None = None, **options):
    log_dir = options.pop("log_dir", None)
    model = make_model(seed, **options)
    result = fit(model, train_part(), validation_part(), seed, log_dir, checkpoints=checkpoints)
    return model, result


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("first_run")


@pytest.fixture(scope="module")
def first_run(folder):
    """Trains six steps an epoch, with an evaluation after each, and a checkpoint every 4 steps."""
    options = {"checkpoint_steps": 4, "log_dir": str(folder / "logs")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "LOG_EVERY_STEPS", 5)
        return trained(checkpoints=Keeps(str(folder)), **options)


def assert_same_state(model, other):
    states = [ModelState.of(model).to_arrays(), ModelState.of(other).to_arrays()]
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        np.testing.assert_array_equal(value, states[1][name], err_msg=name)


def assert_same_result(result, other):
    seconds = {"examples_per_second", "seconds_per_epoch", "seconds_per_evaluation"}
    figures, others = dataclasses.asdict(result), dataclasses.asdict(other)
    assert {k: v for k, v in figures.items() if k not in seconds} == {
        k: v for k, v in others.items() if k not in seconds
    }


def test_same_seed_gives_the_same_weights_and_figures_with_and_without_checkpoints(first_run):
    again, result = trained()

    assert_same_state(first_run[0], again)
    assert_same_result(first_run[1], result)


def test_users_who_were_not_trained_on_get_the_tags_that_follow_theirs():
    model, result = trained(max_epochs=12, patience=12)

    scores = model.score_tags(validation_part().features(SPEC.raw_names)).numpy()
    likes = np.arange(1000, 1016) % NUM_TAGS
    for row, like in zip(scores, likes, strict=True):
        assert set(np.argsort(-row)[:2]) == {like, (like + 1) % NUM_TAGS}
    best = result.evaluated_steps.index(result.best_step)
    assert result.validation[best]["click_gauc"] == 1.0
    assert result.losses[-1] < result.losses[0] / 2


def test_best_state_is_kept_not_the_last(first_run):
    model, result = first_run

    values = [figures["mean_ndcg_at_10"] for figures in result.validation]
    assert result.evaluated_steps == tuple(range(0, result.steps + 1, 6))
    assert result.best_step == 6 * int(np.argmax(values))
    assert len(values) == len(result.losses) + 1 == result.steps / 6 + 1
    assert result.steps <= result.budget.num_steps == 24
    assert result.epochs == result.steps / 6
    kept = InMemoryEvaluator(model).evaluate(validation_part())
    assert kept == result.validation[result.best_step // 6]


@pytest.mark.parametrize(("min_steps", "steps"), [(0, 6), (7, 9)])
def test_training_that_learns_nothing_stops_after_its_patience_and_its_minimum(min_steps, steps):
    # Copies of one user, steps that change nothing, and a model without randomness.
    still = dataclasses.replace(SMALL, norm="layer", dropout=0.0, domain_dropout=0.0)
    options = {"learning_rate": 1e-12, "max_epochs": 9, "patience": 2, "min_steps": min_steps}
    model = make_model(model=still, **options)
    user = snapshots(1)
    build_model(model, user)
    set_initial_values(model, user.take(np.zeros(40, np.int64)))
    expected = float(model.compute_loss(user.features(model.training_names)))

    result = fit(model, user.take(np.zeros(40, np.int64)), validation_part(), 0)

    # Steps of 16, 16 and 8 users an epoch.
    assert result.losses == pytest.approx([expected] * (steps // 3), rel=1e-5)
    assert (result.best_step, result.steps) == (0, steps)
    assert result.evaluated_steps == tuple(range(0, steps + 1, 3))
    assert not result.is_improving


def other_likes() -> Snapshots:
    """Makes training users who click what validation users never do."""
    users = train_part()
    labels = users.lists["label_tags"]
    # One tag alone, and of every user the same.
    lists = {**users.lists, "label_tags": ListValues(np.zeros_like(labels.values), labels.offsets)}
    return Snapshots(users.scalars, lists)


def test_start_is_kept_where_training_makes_it_worse(first_run):
    start = ModelState.of(first_run[0])
    model = make_model(patience=1)

    result = fit(model, other_likes(), validation_part(), 0, start=start)

    assert result.best_step == 0 < result.steps
    kept = ModelState.of(model)
    for name, value in start.weights.items():
        np.testing.assert_array_equal(kept.weights[name], value, err_msg=name)
    # The optimizer's step count is kept.
    assert kept.iterations == start.iterations + result.steps


def test_small_log_is_trained_until_validation_users_stop_improving():
    model, result = trained(max_epochs=1, budget_steps=1000, patience=3)

    # More than one epoch, but not to the end.
    assert 6 < result.best_step < result.steps < result.budget.num_steps == 1000
    every = result.budget.evaluation_steps
    assert every == 50
    assert result.steps == result.best_step + 3 * every
    assert not result.is_improving
    values = [figures["mean_ndcg_at_10"] for figures in result.validation]
    assert max(values) == values[result.best_step // every] > values[0]


def test_training_cut_short_says_that_it_still_improved():
    _, cut = trained(max_steps=10, evaluation_steps=2)

    assert cut.evaluated_steps == (0, 2, 4, 6, 8, 10)
    assert cut.steps == cut.budget.num_steps == 10
    assert cut.is_improving


def test_lines_say_how_far_a_training_is_and_what_it_brought(caplog):
    caplog.set_level("INFO", "tagtower.train")

    _, result = trained(max_steps=8, evaluation_steps=4, patience=9)

    lines = [record.getMessage() for record in caplog.records if record.name == "tagtower.train"]
    values = [figures["mean_ndcg_at_10"] for figures in result.validation]
    patterns = ["before the first step, ", "step 4 of 8 (epoch 0.7): loss {}, "]
    patterns.append("step 8 of 8 (epoch 1.3): loss {}, ")
    best = 0
    for i, (line, pattern) in enumerate(zip(lines, patterns, strict=True)):
        best = i if values[i] > values[best] else best
        ending = " *" if best == i else f" (best: {values[best]:.4f} after step {4 * best})"
        expected = pattern.format(f"{result.losses[i - 1]:.4f}" if i else "")
        assert line.startswith(f"{expected}validation mean_ndcg_at_10 {values[i]:.4f}{ending}, ")
        assert line.endswith(" s")


def test_validation_without_a_truth_keeps_the_last_state():
    model, held_out = make_model(max_epochs=2), validation_part()
    nothing = np.zeros(held_out.num_examples + 1, np.int64)
    lists = {
        name: ListValues(column.values[:0], nothing) if name.startswith("label") else column
        for name, column in held_out.lists.items()
    }

    result = fit(model, train_part(), Snapshots(held_out.scalars, lists), 0)

    assert result.validation[0]["ndcg_at_10"] is None
    assert (result.best_step, result.steps) == (12, 12)
    assert not result.is_improving


@pytest.mark.parametrize("step", [6, 8])
def test_training_that_stopped_goes_on_as_if_it_had_not(first_run, folder, caplog, step):
    caplog.set_level("INFO", "tagtower.train")

    resumed, result = trained(checkpoints=CheckpointFolder(Keeps(str(folder)).at(step)))

    lines = [record.getMessage() for record in caplog.records if record.name == "tagtower.train"]
    assert lines[0] == f"resuming from the checkpoint after step {step} of 24"
    assert_same_state(first_run[0], resumed)
    assert_same_result(first_run[1], result)


def test_training_with_a_sampled_softmax_and_adagrad_goes_on_as_if_it_had_not_stopped(tmp_path):
    options = {"full_softmax_max_tags": 4, "num_sampled_tags": 5, "optimizer": "adagrad"}
    whole, expected = trained(checkpoints=Keeps(str(tmp_path)), **options)

    resumed, result = trained(checkpoints=CheckpointFolder(Keeps(str(tmp_path)).at(6)), **options)

    assert_same_state(whole, resumed)
    assert_same_result(expected, result)


def test_finished_training_found_again_is_not_trained_further(first_run, folder):
    again, result = trained(checkpoints=CheckpointFolder(str(folder / "last")))

    assert_same_state(first_run[0], again)
    assert result == first_run[1]


def test_figures_of_steps_and_epochs_are_logged_for_tensorboard(first_run, folder):
    points = {}
    for path in (folder / "logs").iterdir():
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                points.setdefault(value.tag, []).append(event.step)
    steps = first_run[1].steps
    assert points["train/loss"] == list(range(5, steps + 1, 5))
    assert points["validation/ndcg_at_10"] == list(range(0, steps + 1, 6))


KILLED = """
import os, signal, sys
from tests.trainer.fitting.loop_test import trained
from trainer.contract import whole_files
from trainer.fitting.checkpoints import CheckpointFolder

replace, left = whole_files.replace_file, [3]

def killed_before_the_third_rename(*args):
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(*args)

whole_files.replace_file = killed_before_the_third_rename
trained(checkpoints=CheckpointFolder(sys.argv[1]), checkpoint_steps=4)
"""


def test_process_killed_while_it_writes_a_checkpoint_goes_on_from_the_one_before(
    first_run, tmp_path
):
    finished = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == -signal.SIGKILL, finished.stderr
    # Written, but not yet renamed: steps 4 and 6 are in place, 8 is not.
    assert len(list(tmp_path.iterdir())) == 2
    assert CheckpointFolder(str(tmp_path)).load().progress.step == 6

    resumed, _ = trained(checkpoints=CheckpointFolder(str(tmp_path)), checkpoint_steps=4)

    assert_same_state(first_run[0], resumed)
