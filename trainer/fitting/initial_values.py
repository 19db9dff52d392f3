"""Sets the initial values of a model, so that its first answer is the best one for all users.

A fresh model gives every user the same scores: the multi-class head the shares of the tags among
the training labels, which is popularity, and the click head the plain click rate. Training then
only has to learn how users differ. The module sets values of variables and adds none.
"""

import numpy as np
from scipy import special

from trainer.contract import features as f
from trainer.data.snapshots import Snapshots
from trainer.model import InterestModel

# Number of labels of average weight that every tag gets beside its own: Jeffreys' prior.
_PRIOR_LABELS = 0.5


def set_initial_values(model: InterestModel, train: Snapshots) -> None:
    """Sets the initial values of a fresh model from the training labels.

        b_t = log(num_tags share_t),   u = 0,   offset = log(r / (1 - r)), r the plain click rate

    The softmax of b gives the shares. b is relative to the average tag, so that a tag without an id
    (hidden by id dropout, or never seen in training), whose b is 0, counts as an average one. A
    user vector of 0 does not stop training: the kernel that makes it has gradients by the tags'
    vectors.

    Args:
      model: Model whose variables exist, outside of a strategy.
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
    """Computes the shares of tags among labels, the same for all users, with the least loss.

    They are the mean of the snapshots' label distributions, each weighted as the multi-class loss
    weights it.

    Args:
      train: Training snapshots.
      num_tags: Number of tags.
      by_sqrt_clicks: Whether a snapshot has the square root of its labels' weights as its weight.

    Returns:
      float64 [num_tags], positive shares with the sum 1: a tag without a label has its share of the
      prior.
    """
    labels = train.lists[f.LABEL_TAGS]
    known = labels.is_known(num_tags)
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
    """Computes the click rate of the impressions, above 0 and below 1; 1/2 without impressions."""
    if f.IMPRESSION_CLICKED not in train.lists:
        return 0.5
    weights = train.lists[f.IMPRESSION_WEIGHTS].values.astype(np.float64)
    num_shown = weights.sum()
    if not num_shown:
        return 0.5
    clicks = weights @ train.lists[f.IMPRESSION_CLICKED].values
    # Where all or none were clicked, one more impression is added that is half clicked.
    least = 0.5 / (num_shown + 1)
    return float(np.clip(clicks / num_shown, least, 1 - least))
