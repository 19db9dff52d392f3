"""Early stopping: which state is the best, when to stop, and when it stopped too early."""

import dataclasses

import pytest

from trainer.fitting.early_stopping import EarlyStopping


def run(values, patience=2, min_steps=0, steps_between=10):
    """Returns the stopping after all values up to the one that stops, and the best ones so far."""
    stopping, bests = EarlyStopping(patience, min_steps), []
    for i, value in enumerate(values):
        bests.append(stopping.update(i * steps_between, value))
        if stopping.should_stop:
            break
    return stopping, bests


@pytest.mark.parametrize(
    ("values", "best_step", "num_evaluations"),
    [
        ([0.1, 0.2, 0.3], 20, 3),
        # The untrained start may be the best.
        ([0.3, 0.2, 0.1, 0.9], 0, 3),
        ([0.1, 0.05, 0.2, 0.1, 0.1, 0.9], 20, 5),
        # An equal value is no improvement; a negative one is a value like any other.
        ([-0.1, -0.1, -0.1], 0, 3),
        ([-0.2, -0.1, 0.0], 20, 3),
        # An undefined value is never the best, and counts as no improvement.
        ([None, 0.1, None, None], 10, 4),
        ([None, None, None, 0.1], None, 3),
    ],
)
def test_best_state_is_the_first_highest_and_patience_ends_the_search(
    values, best_step, num_evaluations
):
    stopping, bests = run(values)

    assert (stopping.best_step, len(stopping.values)) == (best_step, num_evaluations)
    assert stopping.steps == [10 * i for i in range(num_evaluations)]
    best = None if best_step is None else values[best_step // 10]
    assert stopping.best_value == best
    kept = [10 * i for i, is_best in enumerate(bests) if is_best]
    assert kept[-1:] == ([] if best_step is None else [best_step])


@pytest.mark.parametrize(("min_steps", "num_evaluations"), [(0, 3), (20, 3), (21, 4), (45, 6)])
def test_nothing_stops_before_the_minimum(min_steps, num_evaluations):
    stopping, _ = run([0.3, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1], min_steps=min_steps)

    assert len(stopping.values) == num_evaluations


def test_a_stopping_made_of_its_fields_goes_on():
    stopping, _ = run([0.1, 0.3, 0.2])

    again = EarlyStopping(**dataclasses.asdict(stopping))
    assert not again.update(30, 0.2)
    assert again.should_stop and again.best_step == 10


@pytest.mark.parametrize(
    ("values", "is_improving"),
    [
        # Before three quarters of the steps .40, after them .45.
        ([0.1, 0.3, 0.35, 0.4, 0.45], True),
        # Better by less than half a hundredth of it, and better before.
        ([0.1, 0.3, 0.35, 0.4, 0.401], False),
        ([0.1, 0.5, 0.35, 0.4, 0.45], False),
        # The best need not be the very last.
        ([0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.2, 0.3, 0.29], True),
        ([None, None, None, None, 0.3], False),
        ([None, None], False),
    ],
)
def test_a_training_still_improved_where_its_last_quarter_brought_something(values, is_improving):
    stopping, _ = run(values, patience=99)

    assert stopping.is_improving == is_improving
