"""Early stopping: which epoch is the best one, and when it is enough."""

import pytest

from trainer.early_stopping import EarlyStopping


def run(values, patience=2):
    """The stopping after all values up to the one that stops, and which were the best so far."""
    stopping, bests = EarlyStopping(patience), []
    for value in values:
        bests.append(stopping.update(value))
        if stopping.should_stop:
            break
    return stopping, bests


@pytest.mark.parametrize(
    ("values", "best_epoch", "num_epochs"),
    [
        ([0.1, 0.2, 0.3], 3, 3),
        ([0.3, 0.2, 0.1, 0.9], 1, 3),
        ([0.1, 0.05, 0.2, 0.1, 0.1, 0.9], 3, 5),
        # Equal is no improvement; below 0 is a value like any other.
        ([-0.1, -0.1, -0.1], 1, 3),
        # Undefined never counts as best, and as nothing gained.
        ([None, 0.1, None, None], 2, 4),
        ([None, None, 0.1], 0, 2),
    ],
)
def test_best_epoch_is_the_first_highest_and_patience_ends_the_search(
    values, best_epoch, num_epochs
):
    stopping, bests = run(values)

    assert (stopping.best_epoch, stopping.num_epochs) == (best_epoch, num_epochs)
    assert stopping.best_value == (values[best_epoch - 1] if best_epoch else None)
    assert [i + 1 for i, best in enumerate(bests) if best][-1:] == ([best_epoch] * bool(best_epoch))
