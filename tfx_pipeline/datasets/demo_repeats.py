"""Users of the synthetic log who return to items that they clicked, or never do.

Both functions change events after they were drawn, in the order of time, for all users of a chunk
at once.
"""

from __future__ import annotations

import numpy as np


def repeat_clicks(
    event_user: np.ndarray,
    event_item: np.ndarray,
    event_clicked: np.ndarray,
    share: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Redirects a share of the clicks to items of earlier clicks of the same user.

    Args:
      event_user: int [m], user of each event, ascending; each user's events in order of time.
      event_item: int [m], item of each event.
      event_clicked: bool [m], whether the event is a click.
      share: Share of the clicks with an earlier one that are redirected.
      rng: Generator that draws the clicks, and an earlier one for each with equal probabilities.

    Returns:
      int [m], the changed items.
    """
    items = event_item.copy()
    places = np.flatnonzero(event_clicked)
    if not len(places):
        return items
    users = event_user[places]
    is_first = np.r_[True, users[1:] != users[:-1]]
    first = np.maximum.accumulate(np.where(is_first, np.arange(len(places)), 0))
    rank = np.arange(len(places)) - first
    is_repeat = (rng.random(len(places)) < share) & (rank > 0)
    earlier = first + (rng.random(len(places)) * rank).astype(np.int64)
    # A repeated click may itself be repeated, so earlier ones are processed first.
    for number in range(1, int(rank.max()) + 1):
        chosen = np.flatnonzero(is_repeat & (rank == number))
        items[places[chosen]] = items[places[earlier[chosen]]]
    return items


def drop_repeated_clicks(
    event_user: np.ndarray,
    event_tags: np.ndarray,
    event_clicked: np.ndarray,
    num_tags: int,
) -> np.ndarray:
    """Turns clicks into skips if the item has a tag that the user has clicked before.

    Args:
      event_user: int [m], user of each event, ascending; each user's events in order of time.
      event_tags: int [m, width], tags of the item, -1 for padding.
      event_clicked: bool [m], whether the event is a click.
      num_tags: Number of tags.

    Returns:
      bool [m], whether the event is still a click.
    """
    clicked = event_clicked.copy()
    if not len(clicked):
        return clicked
    is_first = np.r_[True, event_user[1:] != event_user[:-1]]
    position = np.arange(len(clicked))
    position -= np.maximum.accumulate(np.where(is_first, position, 0))
    # Padding has the last column, which never counts as clicked.
    seen = np.zeros((int(event_user[-1]) + 1, num_tags + 1), bool)
    order = np.argsort(position, kind="stable")
    ends = np.cumsum(np.bincount(position))
    for first, end in zip(np.r_[0, ends[:-1]], ends, strict=True):
        events = order[first:end]
        users, tags = event_user[events][:, np.newaxis], event_tags[events]
        clicked[events] &= ~seen[users, tags].any(axis=1)
        seen[users, tags] |= clicked[events][:, np.newaxis]
        seen[:, -1] = False
    return clicked
