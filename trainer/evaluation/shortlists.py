"""Short lists of validation users: the few tags that any second stage may rank first.

All tags are scored once; parameters of the second stage are then tried on these lists alone.
"""

from collections.abc import Sequence

import numpy as np

from trainer.contract import features as f
from trainer.contract.list_column import ListValues
from trainer.contract.memory import domain_shares
from trainer.contract.metric_registry import CUTS
from trainer.data.snapshots import Snapshots
from trainer.evaluation import metrics
from trainer.evaluation.figures import users_at_once

# Names of the logits among the scalars, float [num_users, n].
MULTI_CLASS, CLICK = "multi_class_logits", "click_logits"


def shortlists(
    queries: np.ndarray,
    candidates: np.ndarray,
    clicks: np.ndarray,
    users: Snapshots,
    num_candidates: int,
    with_novel: bool,
    domains: Sequence[str] = (),
) -> Snapshots:
    """Returns the tags of every user that decide metrics at cuts, whatever w and memory are.

    A list has the N candidates; as many of the best tags as the greatest cut; with `with_novel` as
    many of the best tags that are not in the history; the labels; and the tags in the domains of
    memory.

    Args:
      queries: float [num_users, dimension], query embeddings.
      candidates: float [num_tags, dimension], embeddings for multi-class logits.
      clicks: float [num_tags, dimension], embeddings for click logits.
      users: Snapshots of the users with labels and histories.
      num_candidates: N, number of candidates.
      with_novel: Whether novel metrics are wanted.
      domains: Names of the domains that memory may use.

    Returns:
      The users, with tags numbered by their place in the user's own list, which is in order of the
      tags' ids. Scalars have both logits, float [num_users, n], -inf where a list is shorter, and
      for every domain shares, float [num_users, n], and total weights, float [num_users]. Lists
      have the labels and the tags of the history, -1 for a tag that is not listed.
    """
    size = users_at_once(len(candidates))
    parts = []
    for first in range(0, users.num_examples, size):
        rows = np.arange(first, min(first + size, users.num_examples))
        logits = queries[rows] @ candidates.T
        listed = _deciding_tags(logits, users.take(rows), num_candidates, with_novel, domains)
        user, tags = np.nonzero(listed)
        products = np.einsum("pd,pd->p", queries[rows[user]], clicks[tags])
        parts.append((rows[user], tags, logits[listed], products))
    user, tags, *logits_of_pairs = (np.concatenate(p) for p in zip(*parts, strict=True))
    pairs = _Pairs(user, tags, users.num_examples, len(candidates))
    shape = (users.num_examples, int(pairs.places.max()) + 1)
    scores = {}
    for name, values in zip((MULTI_CLASS, CLICK), logits_of_pairs, strict=True):
        scores[name] = np.full(shape, -np.inf, np.float32)
        scores[name][user, pairs.places] = values
    lists = {name: pairs.listed_only(users.lists[name]) for name in (f.LABEL_TAGS, f.HISTORY_TAGS)}
    for name in domains:
        own = domain_shares(users.lists, name, len(candidates))
        listed = pairs.places_of(own.row_ids, own.tags)
        scores[shares_of(name)] = np.zeros(shape, np.float32)
        scores[shares_of(name)][own.row_ids, listed] = own.shares
        scores[total_of(name)] = own.totals
    return Snapshots({**users.scalars, **scores}, lists)


def _deciding_tags(
    logits: np.ndarray,
    users: Snapshots,
    num_candidates: int,
    with_novel: bool,
    domains: Sequence[str],
) -> np.ndarray:
    """Which tags are in the lists of `shortlists`, bool [num_users, num_tags]."""
    listed = np.zeros(logits.shape, bool)
    best = metrics.top_k(logits, max(num_candidates, *CUTS))
    np.put_along_axis(listed, best, True, axis=1)
    if with_novel:
        novel = logits.copy()
        novel[known_pairs(users.lists[f.HISTORY_TAGS])] = -np.inf
        np.put_along_axis(listed, metrics.top_k(novel, max(CUTS)), True, axis=1)
    for name in (f.LABEL_TAGS, *domains):
        listed[known_pairs(users.lists[name], logits.shape[1])] = True
    return listed


class _Pairs:
    """The users and tags of all lists.

    Attributes:
      places: int [num_pairs], of each tag in its user's list.
    """

    def __init__(self, users: np.ndarray, tags: np.ndarray, num_users: int, num_tags: int):
        """Numbers the pairs, which are in order of the users and of the tags."""
        starts = np.searchsorted(users, np.arange(num_users))
        self.places = np.arange(len(users)) - starts[users]
        self._num_tags = num_tags
        # One number a pair, ascending, so that a pair is found by bisection.
        self._keys = users * num_tags + tags

    def places_of(self, users: np.ndarray, tags: np.ndarray) -> np.ndarray:
        """The places of pairs that are listed."""
        return self.places[np.searchsorted(self._keys, users * self._num_tags + tags)]

    def listed_only(self, column: ListValues) -> ListValues:
        """Tags by their places; -1 where they are not listed."""
        wanted = column.row_ids * self._num_tags + column.values
        found = np.minimum(np.searchsorted(self._keys, wanted), len(self._keys) - 1)
        is_listed = (self._keys[found] == wanted) & (column.values >= 0)
        return ListValues(np.where(is_listed, self.places[found], -1), column.offsets)


def shares_of(domain: str) -> str:
    """Returns the name of a domain's shares among the scalars."""
    return f"shares_of_{domain}"


def total_of(domain: str) -> str:
    """Returns the name of a domain's total weights among the scalars."""
    return f"total_of_{domain}"


def known_pairs(column: ListValues, num_tags: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Returns the rows and ids of known tags: from 0 on and, if given, below `num_tags`."""
    is_known = column.values >= 0
    if num_tags is not None:
        is_known &= column.values < num_tags
    return column.row_ids[is_known], column.values[is_known]
