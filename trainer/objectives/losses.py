"""Losses as pure functions of tensors, in the notation of docs/model.md.

The id of a tag out of vocabulary is -1; these tags are ignored. A loss is 0 if a batch has nothing
to learn from. Every loss is a sum divided by a count of the whole step (`global_sum`), so that it
is the same on one worker and on several.
"""

import dataclasses
from typing import Protocol

import tensorflow as tf

# Number of tags up to which the scores of all tags are computed by one matrix product, which then
# costs less than gathering a vector for every tag of every impression.
DENSE_SCORES_MAX_TAGS = 20_000


def global_sum(value: tf.Tensor) -> tf.Tensor:
    """Sums a count over the replicas of a `tf.distribute` strategy.

    The optimizer adds up the replicas' gradients. If each replica divides its sum of losses by the
    count of all replicas, the sum is the gradient of one worker with all examples, however unevenly
    labels fall on replicas. A mean of the replicas' means would have another gradient.

    Args:
      value: Count of this replica, of any shape.

    Returns:
      The sum; `value` itself outside of a strategy or with one replica.
    """
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return value
    return context.all_reduce(tf.distribute.ReduceOp.SUM, value)


class Softmax(Protocol):
    """The candidates of the softmax p(t|u), and the logits of labels in it.

    Attributes:
      logits: float [batch, n], logits of the candidates, which all users of a batch share.
      is_full: Whether every tag is a candidate.
    """

    logits: tf.Tensor
    is_full: bool

    def label_logits(self, users: tf.Tensor, tags: tf.Tensor) -> tf.Tensor:
        """Returns the logits of pairs of a user and a tag, both int [m]; float [m]."""

    def columns(self, tags: tf.Tensor) -> tf.Tensor:
        """Returns the columns of tags, int [m], in `logits`; int [m], -1 for a tag without one."""


class FullSoftmax:
    """A softmax over all tags.

    Args:
      logits: float [batch, num_tags], logits u . t + bias.
    """

    is_full = True

    def __init__(self, logits: tf.Tensor):
        self.logits = logits

    def label_logits(self, users: tf.Tensor, tags: tf.Tensor) -> tf.Tensor:
        """Returns the logits of pairs of a user and a tag, both int [m]; float [m]."""
        return tf.gather_nd(self.logits, tf.stack([users, tags], axis=1))

    def columns(self, tags: tf.Tensor) -> tf.Tensor:
        """Returns the tags themselves, because every tag is a candidate."""
        return tags


@dataclasses.dataclass(frozen=True)
class ItemTags:
    """The known tags of items shown to the users of a batch, one entry for each tag of an item.

    Attributes:
      tags: int [n], tag of each entry.
      items: int [n], item of each entry, ascending.
      users: int [n], user to whom the entry's item was shown.
      num_items: int scalar, number of items, with those that have no known tag.
    """

    tags: tf.Tensor
    items: tf.Tensor
    users: tf.Tensor
    num_items: tf.Tensor

    @classmethod
    def from_lists(cls, item_tags: tf.RaggedTensor, item_num_tags: tf.RaggedTensor) -> "ItemTags":
        """Builds the entries from columns of examples.

        Args:
          item_tags: int [batch, None], the tags of a user's items one after the other; -1 is
            ignored.
          item_num_tags: int [batch, None], number of tags of each item.

        Returns:
          The entries, with items numbered user by user.
        """
        flat_tags = item_tags.flat_values
        num_items = tf.size(item_num_tags.flat_values)
        items = tf.repeat(tf.range(num_items), item_num_tags.flat_values)
        known = tf.where(flat_tags >= 0)[:, 0]
        return cls(
            tags=tf.gather(flat_tags, known),
            items=tf.gather(items, known),
            users=tf.gather(item_tags.value_rowids(), known),
            num_items=num_items,
        )

    def sum_by_item(self, values: tf.Tensor) -> tf.Tensor:
        """Sums values of tags, float [n], by item: float [num_items], 0 without a known tag."""
        return tf.math.unsorted_segment_sum(values, self.items, self.num_items)

    def mean_by_item(self, values: tf.Tensor) -> tf.Tensor:
        """Averages values of tags, float [n], by item: float [num_items], 0 without a known tag."""
        return tf.math.unsorted_segment_mean(values, self.items, self.num_items)


def multi_class_loss(
    softmax: Softmax,
    label_ids: tf.RaggedTensor,
    label_weights: tf.RaggedTensor | None = None,
    user_weights: tf.Tensor | None = None,
    mask_positives: bool = False,
) -> tf.Tensor:
    """Computes `- sum_t y_t log p(t|u)` with y the user's label distribution.

    With `mask_positives` the normaliser of p(t|u) leaves out the user's other labels, which are no
    mistakes: `- log p(t|u) = softplus(N - s_t)` with s_t the logit of t and N the log-sum-exp over
    all candidates that are no label of the user.

    Args:
      softmax: The softmax p, full or sampled (`trainer.objectives.sampled_softmax`).
      label_ids: int [batch, None], distinct tags of later clicks; -1 is ignored.
      label_weights: float [batch, None], number of clicks on each label; None: 1 each.
      user_weights: float [batch], weight of each user; None: 1 each.
      mask_positives: Whether a user's other labels are left out, so that labels do not compete.

    Returns:
      float scalar, the weighted mean over users who have a label.
    """
    users, tags, weights = _known(label_ids, label_weights)
    masked = (users, tags) if mask_positives else None
    losses = _log_losses(softmax, users, tags, masked)
    return _mean_over_users(losses, users, weights, label_ids.nrows(), user_weights)


def multi_class_joint_loss(
    softmax: Softmax,
    items: ItemTags,
    clicked: tf.Tensor,
    weights: tf.Tensor,
    num_users: tf.Tensor,
    user_weights: tf.Tensor | None = None,
    positives: tf.RaggedTensor | None = None,
) -> tf.Tensor:
    """Computes `- log sum_{t in T_a} p(t|u)` over clicked items a, whose click any tag may explain.

    Args:
      softmax: The softmax p, full or sampled.
      items: The tags of the impressions.
      clicked: float [num_items], 0 or 1.
      weights: float [num_items], weight of each item among its user's clicks.
      num_users: int scalar, size of the batch.
      user_weights: float [batch], weight of each user; None: 1 each.
      positives: int [batch, None], tags that users click later, -1 is ignored; the normaliser of
        p(t|u) then leaves out these and the tags of clicked items, except those of a itself. None:
        it leaves out nothing.

    Returns:
      float scalar, the weighted mean within a user, then over users with a click on a known tag.
    """
    entries = tf.where(tf.gather(clicked, items.items) > 0)[:, 0]
    users, tags = tf.gather(items.users, entries), tf.gather(items.tags, entries)
    # Clicked items get new numbers, without gaps.
    clicked_items, places = tf.unique(tf.gather(items.items, entries))
    num_clicked = tf.size(clicked_items)
    masked = None
    if positives is not None:
        label_users, label_tags, _ = _known(positives, None)
        masked = (tf.concat([users, label_users], axis=0), tf.concat([tags, label_tags], axis=0))
    losses = _log_losses(softmax, users, tags, masked, places, num_clicked)
    users = tf.math.unsorted_segment_max(users, places, num_clicked)
    weights = tf.gather(weights, clicked_items)
    return _mean_over_users(losses, users, weights, num_users, user_weights)


def tag_click_logits(
    query_embeddings: tf.Tensor,
    tag_embeddings: tf.Tensor,
    tag_bias: tf.Tensor,
    scale: tf.Tensor,
    items: ItemTags,
) -> tf.Tensor:
    """Computes `scale * u . t + b_t` for every tag of every item.

    An item's click logit pools these values with every objective; the head's offset is added after
    the pooling.

    Args:
      query_embeddings: float [batch, U], user vectors.
      tag_embeddings: float [n, U], tag vectors.
      tag_bias: float [n], b, click biases of the tags.
      scale: float scalar, scale of the click head.
      items: The tags of the items, as rows of `tag_embeddings`.

    Returns:
      float [m], logits of the m entries of `items`.
    """
    users, tags = items.users, items.tags
    if tag_embeddings.shape[0] is not None and tag_embeddings.shape[0] <= DENSE_SCORES_MAX_TAGS:
        scores = tf.matmul(query_embeddings, tag_embeddings, transpose_b=True) * scale + tag_bias
        return tf.gather_nd(scores, tf.stack([users, tags], axis=1))
    products = tf.gather(query_embeddings, users) * tf.gather(tag_embeddings, tags)
    return tf.reduce_sum(products, axis=1) * scale + tf.gather(tag_bias, tags)


def click_loss(logits: tf.Tensor, clicked: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Computes the binary cross-entropy of `sigmoid(logits)`, clicked = 1, shown and skipped = 0.

    Args:
      logits: float [n], logits of items or, for `split`, of tags of items.
      clicked: float [n], 0 or 1.
      weights: float [n], multiplicities.

    Returns:
      float scalar, the weighted mean.
    """
    losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=clicked, logits=logits)
    return tf.math.divide_no_nan(
        tf.reduce_sum(weights * losses), global_sum(tf.reduce_sum(weights))
    )


def _log_losses(
    softmax: Softmax,
    users: tf.Tensor,
    tags: tf.Tensor,
    masked: tuple[tf.Tensor, tf.Tensor] | None,
    sets: tf.Tensor | None = None,
    num_sets: tf.Tensor | None = None,
) -> tf.Tensor:
    """Computes `- log sum_{t in T} p(t|u)` for sets T of labels.

    p(t|u) is the softmax over the shared candidates and T. Its normaliser is the sum over the
    candidates that are not masked, plus the labels of T that are not among them: nothing is
    counted twice and nothing is subtracted.

    Args:
      softmax: The softmax with its candidates.
      users: int [m], user of each label.
      tags: int [m], tag of each label.
      masked: Users and tags, int [k], of pairs that are no candidates; the labels are among them.
        None: nothing is masked.
      sets: int [m], set of each label; None: each label is a set by itself.
      num_sets: int scalar, number of sets, each of which occurs in `sets`.

    Returns:
      float [num_sets], losses of the sets.
    """
    logits = softmax.label_logits(users, tags)
    candidates, others = softmax.logits, None
    if masked is not None:
        candidates = _mask(candidates, masked[0], softmax.columns(masked[1]))
        others = logits
    elif not softmax.is_full:
        others = tf.where(softmax.columns(tags) >= 0, logits.dtype.min, logits)
    if sets is not None:
        users = tf.math.unsorted_segment_max(users, sets, num_sets)
        logits = _segment_logsumexp(logits, sets, num_sets)
        others = None if others is None else _segment_logsumexp(others, sets, num_sets)
    losses = tf.gather(tf.reduce_logsumexp(candidates, axis=1), users) - logits
    if others is None:
        return losses
    return tf.reduce_logsumexp(tf.stack([losses, others - logits]), axis=0)


def _mask(logits: tf.Tensor, users: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """Sets `logits` [batch, n] to the lowest number at pairs of a user and a column."""
    inside = tf.where(columns >= 0)[:, 0]
    places = tf.stack([tf.gather(users, inside), tf.gather(columns, inside)], axis=1)
    lowest = tf.fill(tf.shape(inside), logits.dtype.min)
    return tf.tensor_scatter_nd_update(logits, places, lowest)


def _segment_logsumexp(values: tf.Tensor, segments: tf.Tensor, num: tf.Tensor) -> tf.Tensor:
    """Computes the log-sum-exp of float [m] by segment, float [num]; no segment is empty."""
    # Subtracting the maximum changes no result, so no gradient needs to pass through it.
    highest = tf.math.unsorted_segment_max(tf.stop_gradient(values), segments, num)
    exponentials = tf.exp(values - tf.gather(highest, segments))
    return tf.math.log(tf.math.unsorted_segment_sum(exponentials, segments, num)) + highest


def _mean_over_users(
    losses: tf.Tensor,
    users: tf.Tensor,
    weights: tf.Tensor,
    num_users: tf.Tensor,
    user_weights: tf.Tensor | None,
) -> tf.Tensor:
    """Averages losses [m] with weights within each user, then over the users who have any."""
    totals = tf.math.unsorted_segment_sum(weights, users, num_users)
    importance = tf.cast(totals > 0, losses.dtype)
    if user_weights is not None:
        importance *= user_weights
    factors = tf.gather(tf.math.divide_no_nan(importance, totals), users)
    summed = tf.reduce_sum(weights * factors * losses)
    return tf.math.divide_no_nan(summed, global_sum(tf.reduce_sum(importance)))


def _known(
    ids: tf.RaggedTensor, weights: tf.RaggedTensor | None
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns users, tags and weights of the labels within the vocabulary, each [m]."""
    flat_ids = tf.cast(ids.flat_values, tf.int64)
    flat_weights = tf.ones_like(flat_ids, tf.float32) if weights is None else weights.flat_values
    known = tf.where(flat_ids >= 0)[:, 0]
    rows = tf.gather(tf.cast(ids.value_rowids(), tf.int64), known)
    return rows, tf.gather(flat_ids, known), tf.gather(flat_weights, known)
