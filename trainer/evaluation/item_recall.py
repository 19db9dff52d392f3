"""Measures how many of the items that held-out users click later are recalled by their tags."""

from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np

from trainer.contract.features import USER_ID
from trainer.contract.metric_registry import NUM_ITEMS
from trainer.contract.tag_items import TagItems
from trainer.data.snapshots import Snapshots
from trainer.evaluation import metrics
from trainer.evaluation.figures import TagScorer

NUM_TAGS = 10  # a user's first tags, which recall items
_CHUNK = 64

# Function from a user's place in the chunk and the items to leave out to the recalled items.
_ItemLister = Callable[[int, Collection[str]], list[str]]


def item_recall(
    items: TagItems,
    snapshots: Snapshots,
    label_items: Mapping[bytes, Collection[str]],
    history_items: Mapping[bytes, Collection[str]],
    tag_scorer: TagScorer | None,
    tags: Sequence[str],
    k: int = NUM_ITEMS,
) -> tuple[float | None, int]:
    """Computes the recall of items clicked later, mean over users who click any.

    Items clicked before are neither recalled nor in the truth: they need no recommendation.

    Args:
      items: The items by tag.
      snapshots: One snapshot for each user.
      label_items: Items clicked at or after the snapshot's time, by user id.
      history_items: Items clicked before the snapshot's time, by user id.
      tag_scorer: Scorer of every tag; a user's first `NUM_TAGS` tags recall items. None: popular
        items are recalled, the same for every user.
      tags: The tags in order of their ids.
      k: Number of items recalled.

    Returns:
      The mean, None where no user has a truth; and the number of users with one.
    """
    users = snapshots.scalars[USER_ID]
    seen = [set(history_items.get(user, ())) for user in users]
    truths = [set(label_items.get(user, ())) - s for user, s in zip(users, seen, strict=True)]
    # Only these users are scored.
    with_truth = np.array([i for i, truth in enumerate(truths) if truth], np.int64)
    recalls: list[float] = []
    for first in range(0, len(with_truth), _CHUNK):
        rows = with_truth[first : first + _CHUNK]
        lister = _lister(items, snapshots.take(rows), tag_scorer, tags, k)
        for place, row in enumerate(rows):
            recalled = truths[row].intersection(lister(place, seen[row]))
            recalls.append(len(recalled) / len(truths[row]))
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
