import json

import numpy as np
import pytest

from trainer.features import USER_ID
from trainer.item_recall import TagItems, item_recall
from trainer.snapshots import Snapshots

# Clicks fall from a to g; b and c are equal.
IDS = ["g", "c", "b", "a", "d", "e", "f"]
CLICKS = np.array([0, 7, 7, 9, 5, 3, 1])
TAGS = [["x"], ["x", "y"], ["x"], ["y"], ["x"], ["y", "y"], []]


@pytest.fixture
def items():
    return TagItems(IDS, CLICKS, TAGS)


def test_a_tag_brings_its_most_clicked_items(items):
    assert items.recall(["x"]) == ["b", "c", "d", "g"]
    assert items.recall(["y"], k=2) == ["a", "c"]


def test_tags_take_turns_and_no_item_comes_twice(items):
    assert items.recall(["x", "y"], items_per_tag=1) == ["b", "a", "c", "e", "d", "g"]
    assert items.recall(["x", "y"], items_per_tag=2) == ["b", "c", "a", "e", "d", "g"]
    assert items.recall(["x", "y"], k=3, items_per_tag=2) == ["b", "c", "a"]
    assert items.recall(["y", "y"], items_per_tag=1) == ["a", "c", "e"]


def test_excluded_items_and_unknown_tags_bring_nothing(items):
    assert items.recall(["nothing", "x"], exclude={"b", "d"}) == ["c", "g"]
    assert items.recall(["nothing"]) == []
    assert items.recall([]) == []
    assert items.popular(3, exclude={"c"}) == ["a", "b", "d"]


def test_a_profile_that_recalls_more_than_there_is_ends(items):
    assert sorted(items.recall(["x", "y"], k=100)) == ["a", "b", "c", "d", "e", "g"]
    assert items.popular(100) == ["a", "b", "c", "d", "e", "f", "g"]


@pytest.mark.parametrize("wrong", [{"k": 0}, {"items_per_tag": 0}])
def test_impossible_numbers_are_refused(items, wrong):
    with pytest.raises(ValueError, match="must be a positive integer"):
        items.recall(["x"], **wrong)


def test_arguments_of_different_items_are_refused():
    with pytest.raises(ValueError, match="`clicks` must have 7 values"):
        TagItems(IDS, CLICKS[:3], TAGS)
    with pytest.raises(ValueError, match="`tags` must have 7 values"):
        TagItems(IDS, CLICKS, TAGS[:3])


def test_items_are_read_from_the_file_that_a_run_leaves(tmp_path, items):
    path = tmp_path / "items.jsonl"
    rows = [
        {"item_id": item, "clicks": int(clicks), "tags": tags}
        for item, clicks, tags in zip(IDS, CLICKS, TAGS, strict=True)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    assert TagItems.load(str(path)).recall(["x", "y"]) == items.recall(["x", "y"])


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
