"""Memory in the graph of a servable: how a request's own history changes the scores of tags.

`trainer.contract.memory` defines the memory and has the same computation in numpy. The ops are
TensorFlow's own, and their number does not depend on the length of a history: each pair of user and
tag is a number, and `tf.unique` keeps every pair once, with the sum of its values' shares.

Weights, and numbers computed from them, are float64, as in numpy: a weight may be any float32, so
that a sum may exceed float32, and the share that a heavy history leaves to the model may be smaller
than the smallest float32.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import tensorflow as tf

from serving.servable.tag_filter import TagFilter
from trainer.contract.features import weights_name
from trainer.contract.history import MIN_WEIGHT
from trainer.contract.memory import DomainMemory


@dataclasses.dataclass(frozen=True)
class History:
    """The values of all remembered domains, concatenated.

    Attributes:
      tags: string [batch, n], tags of the values, possibly repeated; "" is padding.
      rows: int32 [batch, n], rows of the tags among the served tags; -1: not served or not allowed.
      shares: float64 [batch, n], share that each value adds to its tag.
      rest: float64 [batch, 1], factor of the model's share in the mixture.
    """

    tags: tf.Tensor
    rows: tf.Tensor
    shares: tf.Tensor
    rest: tf.Tensor

    def take(self, users: tf.Tensor) -> "History":
        """Returns the history of some users, given by their places int [n] in the batch."""
        return History(*(tf.gather(getattr(self, f.name), users) for f in dataclasses.fields(self)))

    def only(self, is_allowed: tf.Tensor) -> "History":
        """Returns the history in which only the values bool [batch, n] are tags to return."""
        return dataclasses.replace(self, rows=tf.where(is_allowed, self.rows, -1))


@dataclasses.dataclass(frozen=True)
class United:
    """The tags that the history adds to the candidates of the first stage, and memory's shares.

    Attributes:
      rows: int32 [batch, M], rows of the tags that the history adds; 0 for padding.
      is_found: bool [batch, M], whether a place holds a tag and not padding.
      candidate_shares: float64 [batch, N], shares that memory adds to the candidates.
      shares: float64 [batch, M], shares that memory adds to the tags of `rows`.
    """

    rows: tf.Tensor
    is_found: tf.Tensor
    candidate_shares: tf.Tensor
    shares: tf.Tensor


class TagMemory:
    """The memory of a servable: the domains that are remembered; it has no variables to save."""

    def __init__(self, domains: Sequence[DomainMemory]):
        """Initializes the memory.

        Args:
          domains: Domains in the order in which they are mixed in, at least one.
        """
        self.domains = tuple(domains)

    def read(self, features: Mapping[str, tf.Tensor], tag_filter: TagFilter) -> History:
        """Reads the history of a request.

        Args:
          features: Raw features by name, with the domains string [batch, n] and their weights.
          tag_filter: Lookup tables of the served tags.

        Returns:
          The values of all domains.
        """
        tags, shares = [], []
        rest = tf.ones([1, 1], tf.float64)
        # The last domain gets its lambda as share; the one before it gets its own lambda of what
        # the last one leaves.
        for part in reversed(self.domains):
            weights = value_weights(features, part.domain)
            total = tf.reduce_sum(weights, axis=1, keepdims=True)
            by_weight, left = mixed_in(part, total)
            tags.append(features[part.domain])
            shares.append(weights * (rest * by_weight))
            rest = rest * left
        joined = tf.concat(tags, axis=1)
        return History(joined, tag_filter.rows(joined), tf.concat(shares, axis=1), rest)


def value_weights(features: Mapping[str, tf.Tensor], domain: str) -> tf.Tensor:
    """Returns a domain's weights as the towers take them, 0 for padding, float64 [batch, n]."""
    weights = tf.cast(tf.maximum(features[weights_name(domain)], MIN_WEIGHT), tf.float64)
    return tf.where(tf.not_equal(features[domain], ""), weights, tf.zeros([], tf.float64))


def mixed_in(part: DomainMemory, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Computes how a domain is mixed in.

    Args:
      part: Domain and its parameters.
      total: float64 of any shape, total weights of histories.

    Returns:
      The share that a weight of 1 adds to its tag, and the factor 1 - lambda of all other shares,
      both float64 of the shape of `total`. The factor is not computed as a difference, which would
      be 0 for the heaviest histories.
    """
    size = total + part.half_weight
    left = tf.math.divide_no_nan(total * (1.0 - part.limit) + part.half_weight, size)
    by_weight = tf.math.divide_no_nan(tf.constant(part.limit, tf.float64), size)
    return by_weight, tf.where(total > 0, left, tf.ones([], tf.float64))


def unite(rows: tf.Tensor, is_found: tf.Tensor, history: History, num_tags: int) -> United:
    """Adds the tags of the history to the candidates, with the shares that memory gives them.

    Args:
      rows: int32 [batch, N], rows of the candidates; found ones are distinct.
      is_found: bool [batch, N], whether a place holds a candidate.
      history: History of the same users.
      num_tags: Number of served tags.

    Returns:
      The shares of the candidates, and the other tags of the history, every tag once.
    """
    batch, size = tf.shape(rows)[0], tf.shape(rows)[1]
    # Every pair of user and tag has its own number; a user's last one is for tags not served.
    first = (tf.range(batch, dtype=tf.int64) * (num_tags + 1))[:, tf.newaxis]
    own = first + tf.cast(tf.where(history.rows >= 0, history.rows, num_tags), tf.int64)
    # Places that are not filled get negative numbers, all distinct.
    nothing = tf.reshape(-1 - tf.range(batch * size, dtype=tf.int64), [batch, size])
    candidates = tf.where(is_found, first + tf.cast(rows, tf.int64), nothing)
    keys = tf.concat([tf.reshape(candidates, [-1]), tf.reshape(own, [-1])], axis=0)
    # `tf.unique` keeps the order: first all candidates, then the other tags, user by user.
    distinct, places = tf.unique(keys)
    num_candidates = batch * size
    sums = tf.math.unsorted_segment_sum(
        tf.reshape(history.shares, [-1]), places[num_candidates:], tf.size(distinct)
    )
    others = distinct[num_candidates:]
    users = others // (num_tags + 1)

    def by_user(values: tf.Tensor, default: float) -> tf.Tensor:
        ragged = tf.RaggedTensor.from_value_rowids(
            values, users, nrows=tf.cast(batch, tf.int64), validate=False
        )
        return ragged.to_tensor(default)

    other_rows = tf.cast(by_user(others, -1) % (num_tags + 1), tf.int32)
    is_tag = other_rows < num_tags
    return United(
        tf.where(is_tag, other_rows, 0),
        is_tag,
        tf.reshape(sums[:num_candidates], [batch, size]),
        by_user(sums[num_candidates:], 0.0),
    )


def shares_of(tags: tf.Tensor, history: History) -> tf.Tensor:
    """Returns the shares that memory adds to any tags string [batch, m], float64 [batch, m]."""
    batch, num_asked = tf.shape(tags)[0], tf.shape(tags)[1]
    joined = tf.concat([tags, history.tags], axis=1)
    _, names = tf.unique(tf.reshape(joined, [-1]), out_idx=tf.int64)
    first = tf.range(batch, dtype=tf.int64)[:, tf.newaxis] * tf.size(joined, tf.int64)
    keys = first + tf.reshape(names, tf.shape(joined))
    distinct, places = tf.unique(tf.reshape(keys, [-1]))
    places = tf.reshape(places, tf.shape(joined))
    sums = tf.math.unsorted_segment_sum(
        tf.reshape(history.shares, [-1]),
        tf.reshape(places[:, num_asked:], [-1]),
        tf.size(distinct),
    )
    return tf.gather(sums, places[:, :num_asked])


def log_mixture(log_shares: tf.Tensor, rest: tf.Tensor, shares: tf.Tensor) -> tf.Tensor:
    """Computes the logarithm of the mixture of the model's and the memory's shares.

    Args:
      log_shares: float32 [batch, m], log p of the model.
      rest: float64, broadcasts with `log_shares`, factor of the model's share.
      shares: float64, broadcasts with `log_shares`, shares that memory adds.

    Returns:
      float32 [batch, m]; NaN where log p is -inf and nothing is remembered.
    """
    model = tf.cast(log_shares, tf.float64) + tf.math.log(rest)
    memory = tf.math.log(shares)
    # Computed from the greater of both, so that nothing overflows or underflows.
    mixture = tf.maximum(model, memory) + tf.math.log1p(tf.exp(-tf.abs(model - memory)))
    return tf.cast(mixture, tf.float32)
