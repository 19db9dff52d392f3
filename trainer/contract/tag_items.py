"""Recalls items through tags: each of a user's first tags brings its most clicked items.

A caller who has a user's tags can use it in a process without TensorFlow;
`trainer.evaluation.item_recall` measures how good the items are.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from trainer.contract.config_loader import require

ROW_KEYS = ("item_id", "clicks", "tags")  # keys of a line of `items.jsonl`
ITEMS_PER_TAG = 10  # items that a tag brings before the next tag's turn


class TagItems:
    """Lists of the items of every tag, ordered by clicks, then by id."""

    def __init__(self, item_ids: Sequence[str], clicks: np.ndarray, tags: Iterable[Sequence[str]]):
        """Sorts the items of every tag.

        Args:
          item_ids: Ids of n items.
          clicks: int [n], clicks on each item; items with as many clicks are sorted by id.
          tags: Tags of each item.

        Raises:
          ValueError: The arguments have different numbers of items.
        """
        clicks = np.asarray(clicks)
        require(len(clicks) == len(item_ids), "clicks", f"have {len(item_ids)} values", len(clicks))
        order = sorted(range(len(item_ids)), key=lambda i: (-clicks[i], item_ids[i]))
        tags_of = list(tags)
        require(len(tags_of) == len(item_ids), "tags", f"have {len(item_ids)} values", len(tags_of))
        self._popular = [item_ids[i] for i in order]
        self._by_tag: dict[str, list[str]] = {}
        for i in order:
            for tag in dict.fromkeys(tags_of[i]):
                self._by_tag.setdefault(tag, []).append(item_ids[i])

    @classmethod
    def load(cls, path: str) -> "TagItems":
        """Reads the `items.jsonl` that a run leaves in its output folder."""
        with open(path, encoding="utf-8") as file:
            return cls.from_lines(file)

    @classmethod
    def from_lines(cls, lines: Iterable[str]) -> "TagItems":
        """Reads JSON objects, one a line, with `item_id`, `clicks` and `tags`."""
        return cls.from_rows(map(json.loads, lines))

    @classmethod
    def from_rows(cls, rows: Iterable[Mapping[str, Any]]) -> "TagItems":
        """Builds the lists from mappings with the keys `ROW_KEYS`."""
        rows = list(rows)
        return cls(
            [row["item_id"] for row in rows],
            np.array([row["clicks"] for row in rows], np.int64),
            [row["tags"] for row in rows],
        )

    def recall(
        self,
        tags: Sequence[str],
        k: int = 100,
        exclude: Collection[str] = frozenset(),
        items_per_tag: int = ITEMS_PER_TAG,
    ) -> list[str]:
        """Returns items of a user's tags, ordered by tag and within a tag by clicks.

        The tags take turns in their order: each brings its `items_per_tag` most clicked items that
        no earlier tag has brought. While there are fewer than k items, another round follows.

        Args:
          tags: A user's tags, best first; unknown tags bring nothing.
          k: Number of items wanted.
          exclude: Items that are never returned, for example those that the user has seen.
          items_per_tag: Number of items that a tag brings in one turn.

        Returns:
          At most k distinct items, in the order in which the tags brought them.
        """
        require(k >= 1, "k", "be a positive integer", k)
        require(items_per_tag >= 1, "items_per_tag", "be a positive integer", items_per_tag)
        taken = set(exclude)
        found: list[str] = []
        sources = [iter(self._by_tag.get(tag, ())) for tag in dict.fromkeys(tags)]
        while sources and len(found) < k:
            unfinished = []
            for source in sources:
                brought = 0
                for item in source:
                    if item in taken:
                        continue
                    taken.add(item)
                    found.append(item)
                    brought += 1
                    if brought == items_per_tag or len(found) == k:
                        break
                if brought == items_per_tag:
                    unfinished.append(source)
                if len(found) == k:
                    break
            sources = unfinished
        return found

    def popular(self, k: int = 100, exclude: Collection[str] = frozenset()) -> list[str]:
        """Returns the k most clicked items, the baseline for recall through tags.

        Args:
          k: Number of items wanted.
          exclude: Items that are never returned.

        Returns:
          At most k items, the most clicked first.
        """
        found: list[str] = []
        for item in self._popular:
            if len(found) == k:
                break
            if item not in exclude:
                found.append(item)
        return found
