"""How many of the items that held-out users click later their tags recall."""

from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np

from trainer.contract.features import USER_ID
from trainer.contract.tag_items import TagItems
from trainer.data.snapshots import Snapshots
from trainer.evaluation import metrics
from trainer.evaluation.figures import TagScorer

NUM_TAGS = 10  # of a profile, that recall
NUM_ITEMS = 100  # recalled
_CHUNK = 64

# From a chunk of users to the items recalled for each: (user's place, items to leave out) -> items.
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
    users = snapshots.scalars[USER_ID]
    seen = [set(history_items.get(user, ())) for user in users]
    truths = [set(label_items.get(user, ())) - s for user, s in zip(users, seen, strict=True)]
    # Nobody else is scored.
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
