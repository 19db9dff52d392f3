"""Represents users as sparse rows of tag counts, to which EASE and neighbours are fitted.

A training snapshot has no uncapped history (only evaluation needs one), but it has all clicks of
its user: those before it in a domain of clicked tags, the others as labels. So a training user's
row is made from their *earliest* snapshot: its labels, with the higher cap, hold most clicks, and a
domain that counts tags holds those before.
"""

import numpy as np
from scipy import sparse

from trainer.contract.features import (
    HISTORY_TAG_COUNTS,
    HISTORY_TAGS,
    LABEL_TAG_WEIGHTS,
    LABEL_TAGS,
    TAG_VOCABULARY,
    USER_ID,
    Domain,
    FeatureSpec,
    weights_name,
)
from trainer.data.snapshots import Snapshots

# Share of non-zero entries from which products of dense blocks are faster than sparse ones.
_DENSE_SHARE = 0.02


def counting_domain(spec: FeatureSpec, events: str = "clicked") -> str | None:
    """Finds the domain that counts most of a user's events by tag.

    Args:
      spec: The feature specification.
      events: `clicked` or `skipped`.

    Returns:
      Name of the domain: of those that count tags in the labels' vocabulary, the one without
      `last_events` or else with the most, then with the longest window, then with the most values;
      None: there is no such domain.
    """

    def reach(domain: Domain) -> tuple[float, float, int]:
        days = np.inf if domain.window_days is None else domain.window_days
        num_events = np.inf if domain.last_events is None else domain.last_events
        return num_events, days, domain.max_values

    found = [
        domain
        for domain in spec.domains
        if domain.attribute == "tags"
        and domain.events == events
        and domain.weighting == "count"
        and domain.vocabulary_name == TAG_VOCABULARY
    ]
    return max(found, key=reach).name if found else None


def columns_of_rows(domain: str | None) -> tuple[str, ...]:
    """Returns the names of the columns that `user_rows` reads, so that no others need be loaded."""
    names = (USER_ID, LABEL_TAGS, LABEL_TAG_WEIGHTS)
    return names if domain is None else (*names, domain, weights_name(domain))


def user_rows(
    train: Snapshots, num_tags: int, domain: str | None = None, max_users: int | None = None
) -> sparse.csr_matrix:
    """Counts how often each training user clicked each tag.

    Args:
      train: Training snapshots in canonical order, several of each user.
      num_tags: Number of tags.
      domain: Name of the domain of `counting_domain`; None: clicks before a user's earliest
        snapshot are not known (with six snapshots a user about a seventh of them).
      max_users: Largest number of users, as for `first_of_users`.

    Returns:
      float64 [num_users, num_tags], clicks; hash buckets and unknown tags are left out.
    """
    chosen = train.take(first_of_users(train, max_users))
    rows = _rows(chosen, LABEL_TAGS, LABEL_TAG_WEIGHTS, num_tags)
    if domain is not None:
        rows = (rows + _rows(chosen, domain, weights_name(domain), num_tags)).tocsr()
    return rows


def history_rows(snapshots: Snapshots, num_tags: int) -> sparse.csr_matrix:
    """Counts how often each held-out user had clicked each tag, without a cap.

    Args:
      snapshots: Held-out snapshots.
      num_tags: Number of tags.

    Returns:
      float64 [num_snapshots, num_tags], clicks.
    """
    return _rows(snapshots, HISTORY_TAGS, HISTORY_TAG_COUNTS, num_tags)


def domain_rows(snapshots: Snapshots, domain: str, num_tags: int) -> sparse.csr_matrix:
    """Returns the weights of a domain of tags, float64 [num_snapshots, num_tags]."""
    return _rows(snapshots, domain, weights_name(domain), num_tags)


def first_of_users(train: Snapshots, max_users: int | None = None) -> np.ndarray:
    """Returns the rows of the earliest snapshot of each user.

    Args:
      train: Training snapshots in canonical order, several of each user.
      max_users: Largest number of users; of more users, this many are taken at even distances in
        the order of their ids. None: no limit.

    Returns:
      int64 [num_users], rows.
    """
    users = train.scalars[USER_ID]
    first = np.flatnonzero(np.r_[True, users[1:] != users[:-1]]) if len(users) else np.arange(0)
    if max_users is not None and len(first) > max_users:
        first = first[np.linspace(0, len(first) - 1, max_users).astype(np.int64)]
    return first


def is_dense(rows: sparse.csr_matrix) -> bool:
    """Returns whether products of dense blocks of the rows are faster than sparse ones."""
    return rows.nnz >= _DENSE_SHARE * rows.shape[0] * rows.shape[1]


def log_counts(rows: sparse.csr_matrix) -> sparse.csr_matrix:
    """Computes log(1 + count) of every entry: a hundredth click says less than the first."""
    return rows.log1p().tocsr()


def _rows(snapshots: Snapshots, name: str, weights: str, num_tags: int) -> sparse.csr_matrix:
    tags, counts = snapshots.lists[name], snapshots.lists[weights].values
    shape = (snapshots.num_examples, num_tags)
    entries = (counts[tags.is_known(num_tags)].astype(np.float64), tags.known_pairs(num_tags))
    return sparse.coo_matrix(entries, shape).tocsr()
