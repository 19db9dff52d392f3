"""Metrics of the protocol in docs/model.md, in numpy: a value for each user or all impressions.

A metric that is undefined for a user is nan here and left out of means.
`trainer.evaluation.figures` averages and names the metrics.
"""

import numpy as np


def top_k(scores: np.ndarray, k: int) -> np.ndarray:
    """Returns the k best columns of every row, best first; equal scores in order of the column.

    Args:
      scores: float [batch, n], scores.
      k: Number of columns wanted.

    Returns:
      int [batch, min(k, n)], columns.
    """
    num_rows, num_columns = scores.shape
    k = min(k, num_columns)
    # All columns above the k-th score are selected; of those equal to it, the first that fit.
    threshold = np.partition(scores, num_columns - k, axis=1)[:, num_columns - k, np.newaxis]
    selected = scores >= threshold
    # Few rows of a large vocabulary have ties there; `cumsum` takes 8 bytes a score, so it runs for
    # these rows alone.
    for row in np.flatnonzero(np.count_nonzero(selected, axis=1) > k):
        above, equal = scores[row] > threshold[row], scores[row] == threshold[row]
        selected[row] = above | (equal & (np.cumsum(equal) <= k - np.count_nonzero(above)))
    columns = np.nonzero(selected)[1].reshape(num_rows, k)
    order = np.argsort(-np.take_along_axis(scores, columns, axis=1), axis=1, kind="stable")
    return np.take_along_axis(columns, order, axis=1)


def precision_at(hits: np.ndarray, k: int) -> np.ndarray:
    """Computes the precision at k; a list shorter than k counts as k.

    Args:
      hits: bool [batch, m], whether the candidate at each rank is relevant.
      k: The cut.

    Returns:
      float [batch], shares of the first k candidates that are relevant.
    """
    return hits[:, :k].sum(axis=1) / k


def recall_at(hits: np.ndarray, num_relevant: np.ndarray, k: int) -> np.ndarray:
    """Computes the recall at k.

    Args:
      hits: bool [batch, m], whether the candidate at each rank is relevant.
      num_relevant: int [batch], size of each truth.
      k: The cut.

    Returns:
      float [batch], shares of the truth that are among the first k candidates; nan without a truth.
    """
    return _divide(hits[:, :k].sum(axis=1), num_relevant)


def ndcg_at(hits: np.ndarray, num_relevant: np.ndarray, k: int) -> np.ndarray:
    """Computes NDCG at k: the discounted gain 1 / log2(rank + 1) over that of an ideal list.

    Args:
      hits: bool [batch, m], whether the candidate at each rank is relevant.
      num_relevant: int [batch], size of each truth.
      k: The cut.

    Returns:
      float [batch]; nan without a truth.
    """
    discounts = 1 / np.log2(np.arange(k) + 2)
    gains = hits[:, :k] @ discounts[: min(k, hits.shape[1])]
    ideals = np.concatenate([[0.0], np.cumsum(discounts)])[np.minimum(num_relevant, k)]
    return _divide(gains, ideals)


def auc_by_group(
    scores: np.ndarray,
    clicked: np.ndarray,
    weights: np.ndarray,
    groups: np.ndarray,
    num_groups: int,
) -> np.ndarray:
    """Computes the AUC of clicks within each group; ties count one half.

    It is the probability that a clicked impression scores above a skipped one.

    Args:
      scores: float [n], scores of the impressions.
      clicked: int or float [n], 0 or 1.
      weights: float [n], multiplicities.
      groups: int [n], group of each impression, below `num_groups`.
      num_groups: Number of groups.

    Returns:
      float [num_groups]; nan for a group with one class.
    """
    order = np.lexsort((scores, groups))
    scores, groups = scores[order], groups[order]
    positive = (weights * clicked)[order].astype(np.float64)
    negative = (weights * (1 - clicked))[order].astype(np.float64)
    if not len(order):
        return np.full(num_groups, np.nan)
    # Impressions with the same group and score are ties and share one rank.
    starts = np.flatnonzero(np.r_[True, (np.diff(groups) != 0) | (np.diff(scores) != 0)])
    positive, negative = np.add.reduceat(positive, starts), np.add.reduceat(negative, starts)
    run_groups = groups[starts]
    num_positive = np.bincount(run_groups, positive, num_groups)
    num_negative = np.bincount(run_groups, negative, num_groups)
    before_group = np.concatenate([[0.0], np.cumsum(num_negative)])[:-1]
    below = np.cumsum(negative) - negative - before_group[run_groups]
    pairs = np.bincount(run_groups, positive * (below + negative / 2), num_groups)
    return _divide(pairs, num_positive * num_negative)


def gauc(
    scores: np.ndarray, clicked: np.ndarray, weights: np.ndarray, users: np.ndarray, num_users: int
) -> float:
    """Computes the AUC within each user, averaged with the weight of a user's impressions.

    Users with one class only are left out.

    Args:
      scores: float [n], scores of the impressions.
      clicked: int or float [n], 0 or 1.
      weights: float [n], multiplicities.
      users: int [n], user of each impression, below `num_users`.
      num_users: Number of users.

    Returns:
      The average; nan if no user has both classes.
    """
    by_user = auc_by_group(scores, clicked, weights, users, num_users)
    impressions = np.bincount(users, weights, num_users)
    defined = ~np.isnan(by_user)
    total = impressions[defined].sum()
    return float((by_user[defined] * impressions[defined]).sum() / total) if total else float("nan")


def expected_calibration_error(
    probabilities: np.ndarray,
    outcomes: np.ndarray,
    weights: np.ndarray | None = None,
    num_bins: int = 15,
) -> float:
    """Computes how far mean probability and share of positive outcomes differ, bin by bin.

    `sum_b W_b / W * |mean outcome in b - mean probability in b|` (Guo et al., arXiv 1706.04599),
    over bins of equal mass (Nixon et al., arXiv 1904.01685): where most probabilities are small,
    bins of equal width would put nearly all of them into one. Equal probabilities share a bin, so
    the order of the rows does not matter.

    Args:
      probabilities: float [n], predicted probabilities.
      outcomes: int or bool [n], 0 or 1.
      weights: float [n], multiplicities; None: 1 each.
      num_bins: Number of bins.

    Returns:
      The error, between 0 and 1; nan without a row.
    """
    weights = np.ones(len(probabilities)) if weights is None else weights.astype(np.float64)
    total = weights.sum()
    if not total:
        return float("nan")
    order = np.argsort(probabilities, kind="stable")
    probabilities, outcomes, weights = probabilities[order], outcomes[order], weights[order]
    starts = np.flatnonzero(np.r_[True, np.diff(probabilities) != 0])
    masses = np.add.reduceat(weights, starts)
    gaps = np.add.reduceat(weights * (outcomes - probabilities), starts)
    middles = np.cumsum(masses) - masses / 2
    bins = np.minimum(middles * num_bins / total, num_bins - 1).astype(np.int64)
    return float(np.abs(np.bincount(bins, gaps)).sum() / total)


def log_loss(
    probabilities: np.ndarray,
    outcomes: np.ndarray,
    weights: np.ndarray | None = None,
    epsilon: float = 1e-7,
) -> float:
    """Computes the weighted mean of `- log(probability of the outcome)`, in nats.

    Args:
      probabilities: float [n], predicted probabilities.
      outcomes: int or bool [n], 0 or 1.
      weights: float [n], multiplicities; None: 1 each.
      epsilon: Smallest distance of probabilities from 0 and 1: one that was rounded to 0 in 32 bits
        is not certain.

    Returns:
      The loss; nan without a row.
    """
    clipped = np.clip(np.asarray(probabilities, np.float64), epsilon, 1 - epsilon)
    return _mean(-np.log(np.where(outcomes > 0, clipped, 1 - clipped)), weights)


def brier_score(
    probabilities: np.ndarray, outcomes: np.ndarray, weights: np.ndarray | None = None
) -> float:
    """Computes the weighted mean of `(probability - outcome) ** 2` (Brier, 1950).

    Args:
      probabilities: float [n], predicted probabilities.
      outcomes: int or bool [n], 0 or 1.
      weights: float [n], multiplicities; None: 1 each.

    Returns:
      The score; nan without a row.
    """
    return _mean((np.asarray(probabilities, np.float64) - outcomes) ** 2, weights)


def mean_defined(values: np.ndarray) -> float:
    """Computes the mean of the values that are not nan; nan if there is none."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")


def _mean(values: np.ndarray, weights: np.ndarray | None) -> float:
    """Computes the weighted mean; nan without a row."""
    weights = np.ones(len(values)) if weights is None else np.asarray(weights, np.float64)
    total = weights.sum()
    return float(values @ weights / total) if total else float("nan")


def _divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Computes the quotient; nan where the denominator is 0."""
    denominator = np.asarray(denominator, np.float64)
    empty = np.full(len(denominator), np.nan)
    return np.divide(numerator, denominator, out=empty, where=denominator > 0)
