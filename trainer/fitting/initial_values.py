"""Where a training begins: at what the examples say before anything is known of a user.

A fresh model answers every user alike: the multi-class head with the shares of the tags among the
training labels, which is popularity, and the click head with the plain click rate. Everything that
is trained afterwards tells users apart. It changes values of variables, never which there are.
"""

import numpy as np
from scipy import special

from trainer.contract import features as f
from trainer.data.snapshots import Snapshots
from trainer.model import InterestModel

# Labels that every tag is given beside its own, of the average weight: Jeffreys' prior.
_PRIOR_LABELS = 0.5


def set_initial_values(model: InterestModel, train: Snapshots) -> None:
    """Sets a fresh model to what is known before its first step.

        b_t = log(num_tags share_t),   u = 0,   offset = log(r / (1 - r)), r the plain click rate

    The softmax of b is the shares. They are taken relative to the average tag's, so that a tag
    without an id, which is hidden by id dropout or that training never saw, is an average one with
    its 0. A user vector of 0 is no dead point: the kernel that makes it has gradients by the tags'
    vectors.

    Args:
      model: Built, of no strategy.
      train: Training snapshots.
    """
    tower = model.tag_tower
    shares = label_shares(
        train, model.num_tags, model.training_config.user_weighting == "sqrt_clicks"
    )
    tower.bias.assign(np.log(model.num_tags * shares).astype(np.float32))
    tower.click_offset.assign(special.logit(click_rate(train)))
    kernel = model.user_tower.last.kernel
    kernel.assign(0.0 * kernel)


def label_shares(train: Snapshots, num_tags: int, by_sqrt_clicks: bool = False) -> np.ndarray:
    """The answer without a look at users that the multi-class loss likes best.

    It is the mean of the snapshots' label distributions, each weighted as the loss weights it.

    Args:
      train: Training snapshots.
      num_tags: Number of tags.
      by_sqrt_clicks: Whether a snapshot counts by the square root of its labels' weights.

    Returns:
      float64 [num_tags], positive, of sum 1: a tag without a label has its share of the prior.
    """
    labels = train.lists[f.LABEL_TAGS]
    known = (labels.values >= 0) & (labels.values < num_tags)
    weights = np.where(known, train.lists[f.LABEL_TAG_WEIGHTS].values.astype(np.float64), 0.0)
    rows = labels.row_ids
    totals = np.bincount(rows, weights, train.num_examples)
    importance = np.ones(train.num_examples)
    if by_sqrt_clicks:
        every = np.bincount(rows, train.lists[f.LABEL_TAG_WEIGHTS].values, train.num_examples)
        importance = np.sqrt(every)
    factors = np.divide(importance, totals, out=np.zeros_like(totals), where=totals > 0)
    counts = np.bincount(labels.values[known], (weights * factors[rows])[known], num_tags)
    num_labels, total = int(known.sum()), counts.sum()
    if not total:
        return np.full(num_tags, 1 / num_tags)
    counts += _PRIOR_LABELS * total / num_labels
    return counts / counts.sum()


def click_rate(train: Snapshots) -> float:
    """Clicks among the impressions of training snapshots, above 0 and below 1; without any 1/2."""
    if f.IMPRESSION_CLICKED not in train.lists:
        return 0.5
    weights = train.lists[f.IMPRESSION_WEIGHTS].values.astype(np.float64)
    num_shown = weights.sum()
    if not num_shown:
        return 0.5
    clicks = weights @ train.lists[f.IMPRESSION_CLICKED].values
    # Where all or none were clicked: as if there had been one more, half clicked.
    least = 0.5 / (num_shown + 1)
    return float(np.clip(clicks / num_shown, least, 1 - least))
