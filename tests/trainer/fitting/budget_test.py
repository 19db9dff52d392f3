"""The budget of a training: epochs for a large log, steps for a small one."""

import dataclasses

import pytest

from trainer.config import TrainingConfig
from trainer.fitting.budget import Budget

CONFIG = TrainingConfig(
    batch_size=256, max_batch_share=0.03, max_epochs=5, budget_steps=500, min_steps=100
)


def budget(num_examples, num_replicas=1, **changes):
    return Budget.of(dataclasses.replace(CONFIG, **changes), num_examples, num_replicas)


def test_a_large_log_is_trained_for_epochs_and_evaluated_after_each():
    # 4,228 users of 6 snapshots each.
    found = budget(25_368)

    assert found == Budget(
        batch_size=256, steps_per_epoch=100, num_steps=500, min_steps=100, evaluation_steps=100
    )
    assert budget(10**6).num_steps == 5 * 3907


def test_a_small_log_has_small_batches_and_more_epochs():
    # 500 users of 6 snapshots each: in batches of 256 these were 12 steps an epoch.
    found = budget(3_000)

    assert (found.batch_size, found.steps_per_epoch) == (90, 34)
    assert found.num_steps == 500
    # At most 20 evaluations, none before the first epoch is done.
    assert found.evaluation_steps == 34
    assert budget(3_000, budget_steps=1500).evaluation_steps == 75
    assert budget(3_000, evaluation_steps=7).evaluation_steps == 7


@pytest.mark.parametrize(
    ("num_examples", "num_replicas", "changes", "batch_size"),
    [
        (3_000, 1, {}, 90),
        # Never below 32, unless it is configured.
        (200, 1, {}, 32),
        (200, 1, {"batch_size": 8}, 8),
        (200, 1, {"max_batch_share": 1.0}, 200),
        (200, 64, {}, 64),
        (3, 1, {}, 32),
    ],
)
def test_a_batch_is_a_share_of_the_log_at_most(num_examples, num_replicas, changes, batch_size):
    found = budget(num_examples, num_replicas, **changes)

    assert found.batch_size == batch_size
    assert found.steps_per_epoch == -(-num_examples // batch_size)


@pytest.mark.parametrize(
    ("changes", "num_steps"),
    [
        ({}, 500),
        ({"budget_steps": 0}, 170),
        ({"budget_steps": 0, "min_steps": 300}, 300),
        ({"max_steps": 400}, 400),
        ({"max_steps": 400, "max_epochs": 50}, 400),
        ({"max_epochs": 50}, 1700),
    ],
)
def test_steps_are_bounded_from_below_and_above(changes, num_steps):
    assert budget(3_000, **changes).num_steps == num_steps


def test_an_evaluation_follows_every_so_many_steps_and_the_last_one():
    found = budget(3_000, evaluation_steps=200)

    ends = [0]
    while ends[-1] < found.num_steps:
        ends.append(found.next_evaluation(ends[-1]))
    assert ends == [0, 200, 400, 500]
