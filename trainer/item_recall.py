"""Tags lead to items: which items a list of tags recalls.

A tag profile is used for recall: each of the user's first tags brings its most clicked items. A
`TagItems` does that for one user; `item_recall` measures it on held-out users, against the items
that they click later.
"""

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from trainer import metrics
from trainer.config_loader import require
from trainer.evaluation import TagScorer
from trainer.features import USER_ID
from trainer.snapshots import Snapshots

# Tags of a profile that recall, and items that each of them brings before the next one's turn.
NUM_TAGS = 10
ITEMS_PER_TAG = 10
_CHUNK = 256

# From a chunk of users to the items recalled for each: (user's place, items to leave out) -> items.
_ItemLister = Callable[[int, Collection[str]], list[str]]


class TagItems:
    """The items of every tag, the most clicked first."""

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
        """Reads the `items.jsonl` that a run leaves: lines with `item_id`, `clicks` and `tags`."""
        with tf.io.gfile.GFile(path) as file:
            rows = [json.loads(line) for line in file]
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


def item_recall(
    items: TagItems,
    snapshots: Snapshots,
    label_items: Mapping[bytes, Collection[str]],
    history_items: Mapping[bytes, Collection[str]],
    tag_scorer: TagScorer | None,
    tags: Sequence[str],
    k: int = 100,
) -> tuple[float | None, int]:
    """Share of the items clicked later that are recalled, mean over users who click any.

    Items clicked before are neither recalled nor in the truth: nobody needs them recommended.

    Args:
      items: The items by tag.
      snapshots: One a user.
      label_items: By user id, the items clicked at or after the snapshot's time.
      history_items: By user id, those clicked before it.
      tag_scorer: Scores every tag; the first `NUM_TAGS` of a user recall. None: popular items,
        whoever the user is.
      tags: The tags in order of their ids.
      k: Items recalled.

    Returns:
      The mean, None where no user has a truth; and the number of users with one.
    """
    recalls: list[float] = []
    for first in range(0, snapshots.num_examples, _CHUNK):
        rows = np.arange(first, min(first + _CHUNK, snapshots.num_examples))
        chunk = snapshots.take(rows)
        lister = _lister(items, chunk, tag_scorer, tags, k)
        for place, user in enumerate(chunk.scalars[USER_ID]):
            seen = set(history_items.get(user, ()))
            truth = set(label_items.get(user, ())) - seen
            if truth:
                recalls.append(len(truth.intersection(lister(place, seen))) / len(truth))
    return (float(np.mean(recalls)) if recalls else None), len(recalls)


def _lister(
    items: TagItems,
    chunk: Snapshots,
    tag_scorer: TagScorer | None,
    tags: Sequence[str],
    k: int,
) -> _ItemLister:
    if tag_scorer is None:
        return lambda _, seen: items.popular(k, seen)
    ranked = metrics.top_k(tag_scorer(chunk), NUM_TAGS)
    return lambda place, seen: items.recall([tags[t] for t in ranked[place]], k, seen)
