"""Memory in the graph of a servable: what a request's own history adds to the scores of tags.

`trainer.contract.memory` says what it is and holds the same in numpy. The ops are TensorFlow's own,
and their number does not depend on how long a history is: pairs of user and tag are numbers, and
each is kept once by `tf.unique`, with the sum of what its values add.

Weights, and what comes of them, are float64, as in numpy: a weight may be any float32, so that sums
are beyond it, and what a heavy history leaves to the model is less than the least of them.
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
    """The values of all domains that are remembered, beside one another.

    Attributes:
      tags: string [batch, n], repeated ones as they come, "" where there is none.
      rows: int32 [batch, n], theirs among the served tags; -1: not served, or not allowed.
      shares: float64 [batch, n], what each value adds to its tag's share.
      rest: float64 [batch, 1], what is left to the model's share.
    """

    tags: tf.Tensor
    rows: tf.Tensor
    shares: tf.Tensor
    rest: tf.Tensor

    def take(self, users: tf.Tensor) -> "History":
        """That of some users, by their places int [n] in the batch."""
        return History(*(tf.gather(getattr(self, f.name), users) for f in dataclasses.fields(self)))

    def only(self, is_allowed: tf.Tensor) -> "History":
        """The same with some values, bool [batch, n], as tags that may be returned."""
        return dataclasses.replace(self, rows=tf.where(is_allowed, self.rows, -1))


@dataclasses.dataclass(frozen=True)
class United:
    """The candidates of the first stage in their places, and behind them what else is remembered.

    Attributes:
      rows: int32 [batch, M], of the tags that the history adds; 0 where there is none.
      is_found: bool [batch, M].
      candidate_shares: float64 [batch, N], what memory adds to the candidates.
      shares: float64 [batch, M], what it adds to the others.
    """

    rows: tf.Tensor
    is_found: tf.Tensor
    candidate_shares: tf.Tensor
    shares: tf.Tensor


class TagMemory:
    """What is remembered of which domains; it has nothing of its own that would be saved."""

    def __init__(self, domains: Sequence[DomainMemory]):
        """Initializes.

        Args:
          domains: In the order in which they are mixed in, at least one.
        """
        self.domains = tuple(domains)

    def read_examples(self, examples: tf.Tensor, tag_filter: TagFilter) -> History:
        """`read` of serialized `tf.Example`s [batch]; values without a weight count once."""
        columns = {}
        for part in self.domains:
            columns[part.domain] = tf.io.RaggedFeature(tf.string)
            columns[weights_name(part.domain)] = tf.io.RaggedFeature(tf.float32)
        parsed = tf.io.parse_example(examples, columns)
        features = {}
        for part in self.domains:
            name = weights_name(part.domain)
            features[part.domain] = parsed[part.domain].to_tensor(default_value="")
            features[name] = parsed[name].to_tensor(
                default_value=1.0, shape=tf.shape(features[part.domain])
            )
        return self.read(features, tag_filter)

    def read(self, features: Mapping[str, tf.Tensor], tag_filter: TagFilter) -> History:
        """The history of a request.

        Args:
          features: Raw, by name, with the domains string [batch, n] and their weights.
          tag_filter: The tags that are served.

        Returns:
          The values of all domains.
        """
        tags, shares = [], []
        rest = tf.ones([1, 1], tf.float64)
        # The last domain has its lambda, the one before it that share of what the last one leaves.
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
    """Weights of a domain's values as the towers take them, 0 for padding, float64 [batch, n]."""
    weights = tf.cast(tf.maximum(features[weights_name(domain)], MIN_WEIGHT), tf.float64)
    return tf.where(tf.not_equal(features[domain], ""), weights, tf.zeros([], tf.float64))


def mixed_in(part: DomainMemory, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """How a domain is mixed in.

    Args:
      part: The domain.
      total: float64, total weights of histories, of any shape.

    Returns:
      What a weight of 1 adds to the share of its tag, and what is left to all others, float64 of
      that shape: 1 - lambda, but not as a difference, which would be 0 for the heaviest histories.
    """
    size = total + part.half_weight
    left = tf.math.divide_no_nan(total * (1.0 - part.limit) + part.half_weight, size)
    by_weight = tf.math.divide_no_nan(tf.constant(part.limit, tf.float64), size)
    return by_weight, tf.where(total > 0, left, tf.ones([], tf.float64))


def unite(rows: tf.Tensor, is_found: tf.Tensor, history: History, num_tags: int) -> United:
    """Finds the history among the candidates, and what it adds to them.

    Args:
      rows: int32 [batch, N], of the candidates, distinct where they are found.
      is_found: bool [batch, N].
      history: What memory says of the same users.
      num_tags: That are served.

    Returns:
      Every tag that is remembered once, among the candidates or behind them.
    """
    batch, size = tf.shape(rows)[0], tf.shape(rows)[1]
    # A user's tags are numbers of their own; the last is that of what is not served.
    first = (tf.range(batch, dtype=tf.int64) * (num_tags + 1))[:, tf.newaxis]
    own = first + tf.cast(tf.where(history.rows >= 0, history.rows, num_tags), tf.int64)
    # Places that are not filled are nobody's, each another.
    nothing = tf.reshape(-1 - tf.range(batch * size, dtype=tf.int64), [batch, size])
    candidates = tf.where(is_found, first + tf.cast(rows, tf.int64), nothing)
    keys = tf.concat([tf.reshape(candidates, [-1]), tf.reshape(own, [-1])], axis=0)
    # In the order in which they come: the candidates, then user by user what they are not.
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
    """What memory adds to given tags, string [batch, m], of any name: float64 [batch, m]."""
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
    """Logarithm of the mixture.

    Args:
      log_shares: float32 [batch, m], the model's log p.
      rest: float64, that broadcasts with it, what is left to the model.
      shares: float64 as well, what memory adds.

    Returns:
      float32 [batch, m]; NaN where log p is -inf and nothing is remembered.
    """
    model = tf.cast(log_shares, tf.float64) + tf.math.log(rest)
    memory = tf.math.log(shares)
    # From the greater of both, so that nothing is beyond a float's reach.
    mixture = tf.maximum(model, memory) + tf.math.log1p(tf.exp(-tf.abs(model - memory)))
    return tf.cast(mixture, tf.float32)
