import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from trainer.contract.tag_items import TagItems

GUIDE = Path(__file__).resolve().parents[3] / "docs" / "your-own-log.md"

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


def test_items_without_a_click_stand_last_in_order_of_their_ids():
    items = TagItems(["i2", "i10", "i1", "i3"], np.array([0, 0, 0, 1]), [["x"]] * 4)

    assert items.recall(["x"]) == items.popular() == ["i3", "i1", "i10", "i2"]


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


@pytest.fixture
def items_path(tmp_path):
    path = tmp_path / "items.jsonl"
    rows = [
        {"item_id": item, "clicks": int(clicks), "tags": tags}
        for item, clicks, tags in zip(IDS, CLICKS, TAGS, strict=True)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def test_items_are_read_from_the_file_that_a_run_leaves(items_path, items):
    assert TagItems.load(str(items_path)).recall(["x", "y"]) == items.recall(["x", "y"])


def test_recall_equals_the_turns_written_out():
    rng = np.random.default_rng(0)
    ids = [f"i{i}" for i in range(60)]
    clicks = rng.integers(0, 6, len(ids))
    tags = [[f"t{t}" for t in rng.choice(9, rng.integers(0, 5))] for _ in ids]
    items = TagItems(ids, clicks, tags)
    for _ in range(50):
        profile = [f"t{t}" for t in rng.permutation(9)[: rng.integers(1, 9)]]
        exclude = set(rng.choice(ids, rng.integers(0, 30), replace=False))
        items_per_tag, k = int(rng.integers(1, 5)), int(rng.integers(1, 70))

        found: list[str] = []
        left = True
        while left:
            left = False
            for tag in profile:
                rest = [
                    (-clicks[i], ids[i])
                    for i in range(len(ids))
                    if tag in tags[i] and ids[i] not in exclude and ids[i] not in found
                ]
                found += [item for _, item in sorted(rest)[:items_per_tag]]
                left = left or bool(rest)

        assert items.recall(profile, k, exclude, items_per_tag) == found[:k]


def test_snippet_of_the_guide_runs_without_tensorflow(tmp_path, items_path):
    snippet = GUIDE.read_text("utf-8").rpartition("```python\n")[2].partition("```")[0]
    assert '"build/runs/my-log/items.jsonl"' in snippet
    script = snippet.replace("build/runs/my-log/items.jsonl", str(items_path))
    script += "import sys\nassert 'tensorflow' not in sys.modules\n"

    finished = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )

    # Nothing of the toy is called jazz or blues.
    assert finished.stdout.splitlines() == ["[]", str(list("abcdefg"))]
