"""Hierarchical attention over behaviour domains: first over a domain's values, then over domains.

Lists are ragged: no value is padding, so nothing has to be masked within a domain; an empty domain
is masked between domains. The caller holds the query vectors, because all domains and both levels
share them. The functions serve any pooling: an average is an attention that depends on the
multiplicities alone (`value_shares`).
"""

from typing import Any

import tensorflow as tf
import tf_keras

from trainer.contract.config_loader import require

# Number of rows of a table up to which the weighted sums of a batch are one matrix product over all
# rows, which then costs less than gathering a vector for every value.
DENSE_POOLING_MAX_ROWS = 4_096


def segment_softmax(logits: tf.Tensor, row_ids: tf.Tensor, num_rows: tf.Tensor) -> tf.Tensor:
    """Computes the softmax within rows of unequal length.

    Args:
      logits: float [n, H], logits of each value and head.
      row_ids: int [n], the row of each value.
      num_rows: Number of rows.

    Returns:
      float [n, H]; within every row and head the values sum to 1.
    """
    # Subtracting the row's maximum changes no result, so no gradient needs to pass through it.
    highest = tf.math.unsorted_segment_max(tf.stop_gradient(logits), row_ids, num_rows)
    exponentials = tf.exp(logits - tf.gather(highest, row_ids))
    totals = tf.math.unsorted_segment_sum(exponentials, row_ids, num_rows)
    return exponentials / tf.gather(totals, row_ids)


def masked_softmax(logits: tf.Tensor, mask: tf.Tensor, axis: int) -> tf.Tensor:
    """Computes the softmax over the present entries.

    Args:
      logits: float, logits of any shape.
      mask: bool, whether an entry is present, of a shape that broadcasts to that of `logits`.
      axis: Axis over which the softmax is normalised.

    Returns:
      float, of the shape of `logits`: sums to 1 over present entries and is 0 for absent ones;
      where all are absent it is 0.
    """
    logits = tf.where(mask, logits, logits.dtype.min)
    # If no entry is present, all logits are equal: the softmax is finite, and the mask makes it 0.
    return tf.nn.softmax(logits, axis=axis) * tf.cast(mask, logits.dtype)


def value_shares(values: tf.RaggedTensor, weights: tf.RaggedTensor | None) -> tf.Tensor:
    """Computes the share of each value in its list, w_i / sum_j w_j.

    Args:
      values: [batch, None], values of the lists.
      weights: float [batch, None], positive multiplicities; None: all 1.

    Returns:
      float [n, 1] for the n flat values: the attention weights of an average, with one head.
    """
    rows, num_rows = values.value_rowids(), values.nrows()
    flat = tf.ones_like(rows, tf.float32) if weights is None else weights.flat_values
    totals = tf.math.unsorted_segment_sum(flat, rows, num_rows)
    return (flat / tf.gather(totals, rows))[:, tf.newaxis]


def weighted_sum(table: tf.Tensor, values: tf.RaggedTensor, coefficients: tf.Tensor) -> tf.Tensor:
    """Adds up the vectors of every list, each times its coefficient.

    Args:
      table: float [V, E], embeddings of all values.
      values: int [batch, None], rows of `table`.
      coefficients: float [n, H], coefficients of the n flat values for each head.

    Returns:
      float [batch, H, E], weighted sums; zeros for an empty list.
    """
    rows, num_rows = values.value_rowids(), values.nrows()
    num_heads = coefficients.shape[1]
    if table.shape[0] is not None and table.shape[0] <= DENSE_POOLING_MAX_ROWS:
        places = tf.stack([rows, tf.cast(values.flat_values, rows.dtype)], axis=1)
        shape = tf.stack([num_rows, tf.constant(table.shape[0], num_rows.dtype)])
        heads = [
            tf.matmul(tf.scatter_nd(places, coefficients[:, h], shape), table)
            for h in range(num_heads)
        ]
        return tf.stack(heads, axis=1)
    embeddings = tf.gather(table, values.flat_values)
    heads = [
        tf.math.unsorted_segment_sum(coefficients[:, h, tf.newaxis] * embeddings, rows, num_rows)
        for h in range(num_heads)
    ]
    return tf.stack(heads, axis=1)


class _AttentionScores(tf_keras.layers.Layer):
    """Scores s_h = q_h . relu(W_h t + b), which both levels of attention use."""

    def __init__(self, num_heads: int, attention_dim: int, seed: int = 0, **kwargs: object):
        super().__init__(**kwargs)
        require(num_heads >= 1, "num_heads", "be a positive integer", num_heads)
        require(attention_dim >= 1, "attention_dim", "be a positive integer", attention_dim)
        self.num_heads = num_heads
        self.attention_dim = attention_dim
        self.seed = seed

    def _build_scores(self, size: int) -> None:
        heads, width = self.num_heads, self.attention_dim
        # The limit follows from the sizes of one head's matrix, not of the stack.
        limit = (6.0 / (size + width)) ** 0.5
        initializer = tf_keras.initializers.RandomUniform(-limit, limit, seed=self.seed)
        self.kernel = self.add_weight("kernel", [heads, size, width], initializer=initializer)
        # All heads share one bias.
        self.bias_vectors = self.add_weight("bias", [1, width], initializer="zeros")

    def _scores(self, vectors: tf.Tensor, queries: tf.Tensor, pattern: str) -> tf.Tensor:
        hidden = tf.nn.relu(tf.einsum(pattern, vectors, self.kernel) + self.bias_vectors)
        return tf.reduce_sum(hidden * queries, axis=-1)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        own = {
            "num_heads": self.num_heads,
            "attention_dim": self.attention_dim,
            "seed": self.seed,
        }
        return {**super().get_config(), **own}


class IntraDomainAttention(_AttentionScores):
    """Attention over the values of one domain (UTPM, doi 10.1145/3340531.3412719).

        s_i = q_h . relu(W_h t_i + b),  f_h = sum_i softmax(s + log w)_i t_i

    A weight w_i is a multiplicity: a value of weight 2 counts as the same value twice.

    Args:
      num_heads: H, number of heads.
      attention_dim: A, size of the hidden layer and of the query vectors.
      seed: Seed of the initial values.
    """

    def build(self, input_shape: tf.TensorShape) -> None:
        """Adds the weights for vectors of the given last dimension."""
        self._build_scores(int(input_shape[-1]))
        super().build(input_shape)

    def scores(self, vectors: tf.Tensor, queries: tf.Tensor) -> tf.Tensor:
        """Computes the scores s of values.

        Args:
          vectors: float [n, E], embeddings of the values.
          queries: float [H, A], query vectors.

        Returns:
          float [n, H], scores for each head.
        """
        return self._scores(vectors, queries, "ve,hea->vha")

    def attention(
        self,
        table: tf.Tensor,
        values: tf.RaggedTensor,
        weights: tf.RaggedTensor | None,
        queries: tf.Tensor,
    ) -> tf.Tensor:
        """Computes attention weights of every value.

        Args:
          table: float [V, E], embeddings of all values.
          values: int [batch, None], rows of `table`.
          weights: float [batch, None], positive multiplicities; None: all 1.
          queries: float [H, A], query vectors.

        Returns:
          float [n, H], attention weights of the n flat values.
        """
        ids = values.flat_values

        def score_table() -> tf.Tensor:
            return tf.gather(self.scores(table, queries), ids)

        def score_values() -> tf.Tensor:
            return self.scores(tf.gather(table, ids), queries)

        # A score depends on the value's embedding alone: if a batch has more values than the table
        # has rows, the rows are scored.
        logits = tf.cond(tf.size(ids) > tf.shape(table)[0], score_table, score_values)
        if weights is not None:
            logits += tf.math.log(weights.flat_values)[:, tf.newaxis]
        return segment_softmax(logits, values.value_rowids(), values.nrows())

    def call(
        self,
        table: tf.Tensor,
        values: tf.RaggedTensor,
        weights: tf.RaggedTensor | None = None,
        queries: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Pools the values of every list.

        Args:
          table: float [V, E], embeddings of all values.
          values: int [batch, None], rows of `table`.
          weights: float [batch, None], positive multiplicities; None: all 1.
          queries: float [H, A], query vectors.

        Returns:
          float [batch, H, E], a vector for each head; zeros for an empty list.
        """
        return weighted_sum(table, values, self.attention(table, values, weights, queries))


class InterDomainAttention(_AttentionScores):
    """Attention over the domain vectors of a user.

        x_h = sum_k softmax_k(q_h . relu(W_h f_kh + b)) f_kh

    Absent domains are masked out of the softmax; a user without any domain gets zeros.

    Args:
      num_heads: H, number of heads.
      attention_dim: A, size of the hidden layer and of the query vectors.
      seed: Seed of the initial values.
    """

    def build(self, input_shape: tf.TensorShape) -> None:
        """Adds the weights for vectors of the given last dimension."""
        self._build_scores(int(input_shape[-1]))
        super().build(input_shape)

    def attention(self, fields: tf.Tensor, mask: tf.Tensor, queries: tf.Tensor) -> tf.Tensor:
        """Computes attention weights of every domain.

        Args:
          fields: float [batch, K, H, E], a vector for each domain and head.
          mask: bool [batch, K], whether the user has the domain.
          queries: float [H, A], query vectors.

        Returns:
          float [batch, K, H], attention weights, which sum to 1 over the present domains and are 0
          for absent ones.
        """
        logits = self._scores(fields, queries, "bkhe,hea->bkha")
        return masked_softmax(logits, mask[:, :, tf.newaxis], axis=1)

    def call(self, fields: tf.Tensor, mask: tf.Tensor, queries: tf.Tensor) -> tf.Tensor:
        """Pools the domain vectors of a user.

        Args:
          fields: float [batch, K, H, E], a vector for each domain and head.
          mask: bool [batch, K], whether the user has the domain.
          queries: float [H, A], query vectors.

        Returns:
          float [batch, H E], vectors of the heads, one after the other.
        """
        attention = self.attention(fields, mask, queries)
        pooled = tf.reduce_sum(attention[..., tf.newaxis] * fields, axis=1)
        return tf.reshape(pooled, [-1, self.num_heads * fields.shape[-1]])
