"""Losses as pure functions of arrays, in the notation of docs/model.md.

Ids of labels are -1 where a tag is out of vocabulary; such tags are ignored. Where a batch holds
nothing to learn from, a loss is 0.
"""

import tensorflow as tf

# Up to this many tags the scores of all of them are one cheap matrix product, which costs less than
# gathering a vector for every tag of every impression.
DENSE_SCORES_MAX_TAGS = 20_000


def multi_class_loss(
    logits: tf.Tensor, label_ids: tf.RaggedTensor, label_weights: tf.RaggedTensor | None = None
) -> tf.Tensor:
    """`- sum_t y_t log p(t|u)` with p the full softmax and y the user's label distribution.

    Args:
      logits: float [batch, n], u . t + bias for every tag.
      label_ids: int [batch, None], distinct tags of later clicks; -1 is ignored.
      label_weights: float [batch, None], how often each was clicked; None: once.

    Returns:
      float scalar, the mean over users who have a label.
    """
    rows, ids, weights = _known(label_ids, label_weights)
    num_users = tf.shape(logits)[0]
    totals = tf.math.unsorted_segment_sum(weights, rows, num_users)
    labels = tf.math.divide_no_nan(weights, tf.gather(totals, rows))
    has_label = tf.cast(totals > 0, logits.dtype)
    # sum_t y_t = 1, so that the normaliser enters once a user.
    expected = tf.reduce_sum(labels * tf.gather_nd(logits, tf.stack([rows, ids], axis=1)))
    normalizers = tf.reduce_sum(has_label * tf.reduce_logsumexp(logits, axis=1))
    return tf.math.divide_no_nan(normalizers - expected, tf.reduce_sum(has_label))


def joint_click_logits(
    query_embeddings: tf.Tensor,
    tag_embeddings: tf.Tensor,
    tag_bias: tf.Tensor,
    scale: tf.Tensor,
    offset: tf.Tensor,
    item_tags: tf.RaggedTensor,
    item_num_tags: tf.RaggedTensor,
) -> tf.Tensor:
    """`scale * sum_{t in T_a} u . t + sum_{t in T_a} b_t + offset` for every impression.

    Args:
      query_embeddings: float [batch, U].
      tag_embeddings: float [n, U].
      tag_bias: float [n], b.
      scale: float scalar.
      offset: float scalar.
      item_tags: int [batch, None], the tags of a user's impressions one after the other; -1 is
        ignored.
      item_num_tags: int [batch, None], how many of them belong to each impression.

    Returns:
      float [num_impressions], users one after the other.
    """
    flat_tags = item_tags.flat_values
    num_impressions = tf.size(item_num_tags.flat_values)
    impressions = tf.repeat(tf.range(num_impressions), item_num_tags.flat_values)
    known = tf.where(flat_tags >= 0)[:, 0]
    tags = tf.gather(flat_tags, known)
    users = tf.gather(item_tags.value_rowids(), known)
    if tag_embeddings.shape[0] is not None and tag_embeddings.shape[0] <= DENSE_SCORES_MAX_TAGS:
        scores = tf.matmul(query_embeddings, tag_embeddings, transpose_b=True) * scale + tag_bias
        contributions = tf.gather_nd(scores, tf.stack([users, tags], axis=1))
    else:
        products = tf.gather(query_embeddings, users) * tf.gather(tag_embeddings, tags)
        contributions = tf.reduce_sum(products, axis=1) * scale + tf.gather(tag_bias, tags)
    sums = tf.math.unsorted_segment_sum(
        contributions, tf.gather(impressions, known), num_impressions
    )
    return sums + offset


def joint_loss(logits: tf.Tensor, clicked: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Binary cross-entropy of `sigmoid(logits)`, clicked = 1, shown and skipped = 0.

    Args:
      logits: float [num_impressions].
      clicked: float [num_impressions], 0 or 1.
      weights: float [num_impressions].

    Returns:
      float scalar, the weighted mean.
    """
    losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=clicked, logits=logits)
    return tf.math.divide_no_nan(tf.reduce_sum(weights * losses), tf.reduce_sum(weights))


def _known(
    ids: tf.RaggedTensor, weights: tf.RaggedTensor | None
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    flat_ids = tf.cast(ids.flat_values, tf.int64)
    flat_weights = tf.ones_like(flat_ids, tf.float32) if weights is None else weights.flat_values
    known = tf.where(flat_ids >= 0)[:, 0]
    rows = tf.gather(tf.cast(ids.value_rowids(), tf.int64), known)
    return rows, tf.gather(flat_ids, known), tf.gather(flat_weights, known)
