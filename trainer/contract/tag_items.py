"""Tags lead to items: which items a list of tags recalls.

A tag profile is used for recall: each of the user's first tags brings its most clicked items. For a
caller who has a user's tags, in a process without TensorFlow; how good the items are is measured in
`trainer.evaluation.item_recall`.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from trainer.contract.config_loader import require

# Items that a tag brings before the next one's turn.
ROW_KEYS = ("item_id", "clicks", "tags")  # of a line of `items.jsonl`
ITEMS_PER_TAG = 10


class TagItems:
    """The items of every tag: the most clicked first, those without a click last, by id."""

    def __init__(self, item_ids: Sequence[str], clicks: np.ndarray, tags: Iterable[Sequence[str]]):
        """Sorts the items of every tag.

        Args:
          item_ids: n items.
          clicks: int [n]; equally clicked items stand in order of their id.
          tags: Of each item.

        Raises:
          ValueError: The arguments are not of the same items.
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
        """The same of the objects themselves, which have the keys `ROW_KEYS`."""
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
        """Items through tags: by tag, and within a tag by clicks.

        The tags take turns, in their order: each brings its `items_per_tag` most clicked items that
        no tag before it has brought. Where that gives fewer than k, there is another round.

        Args:
          tags: A user's tags, best first; unknown ones bring nothing.
          k: Items wanted.
          exclude: Items never returned, such as those the user has seen.
          items_per_tag: Of one turn.

        Returns:
          At most k distinct items, in the order in which they were brought.
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
        """The k most clicked items but those excluded: what recall through tags is compared with.

        Args:
          k: Items wanted.
          exclude: Items never returned.
        """
        found: list[str] = []
        for item in self._popular:
            if len(found) == k:
                break
            if item not in exclude:
                found.append(item)
        return found
