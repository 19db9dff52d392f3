"""The mean recall of items over users, computed by hand."""

import numpy as np
import pytest

from trainer.contract.features import USER_ID
from trainer.contract.tag_items import TagItems
from trainer.data.snapshots import Snapshots
from trainer.evaluation.item_recall import item_recall


@pytest.fixture
def items():
    """Makes items whose clicks fall from a to g; b and c are equal. x: b, c, d, g; y: a, c, e."""
    tags = [["x"], ["x", "y"], ["x"], ["y"], ["x"], ["y"], []]
    return TagItems(["g", "c", "b", "a", "d", "e", "f"], np.array([0, 7, 7, 9, 5, 3, 1]), tags)


def test_recall_is_the_mean_over_users_with_something_new_to_click(items):
    users = Snapshots({USER_ID: np.array([b"u1", b"u2", b"u3", b"u4"], object)}, {})
    label_items = {b"u1": ["a", "f"], b"u2": ["b", "c"], b"u3": ["a"], b"u4": []}
    history_items = {b"u2": ["b"], b"u3": ["a"]}
    arguments = (items, users, label_items, history_items)

    def prefers_x(chunk):
        return np.tile([1.0, 0.0], (chunk.num_examples, 1))

    # u1: x then y bring b, c of which none is true; u2: c is new and brought; u3, u4: no truth.
    assert item_recall(*arguments, prefers_x, ["x", "y"], k=2) == (pytest.approx(0.5), 2)
    # With 6 items a is among them, f never.
    assert item_recall(*arguments, prefers_x, ["x", "y"], k=6) == (pytest.approx(0.75), 2)
    # Popular: u1 gets a and b, u2 a and c.
    assert item_recall(*arguments, None, ["x", "y"], k=2) == (pytest.approx(0.75), 2)
    nobody = (items, users.take(np.array([2, 3])), label_items, history_items)
    assert item_recall(*nobody, None, ["x", "y"]) == (None, 0)


def test_users_without_a_truth_are_not_scored(items):
    # More users than a chunk holds, of whom every third has something new.
    users = Snapshots({USER_ID: np.array([f"u{i}".encode() for i in range(300)], object)}, {})
    label_items = {f"u{i}".encode(): ["b" if i % 2 else "f"] for i in range(0, 300, 3)}
    scored = []

    def prefers_x(chunk):
        scored.extend(chunk.scalars[USER_ID])
        return np.tile([1.0, 0.0], (chunk.num_examples, 1))

    recall, num_users = item_recall(items, users, label_items, {}, prefers_x, ["x", "y"], k=1)

    assert (recall, num_users) == (0.5, 100)
    assert scored == list(label_items)
