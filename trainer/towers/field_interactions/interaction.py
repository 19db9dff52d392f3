"""What every interaction of fields is."""

import tensorflow as tf
import tf_keras


class Interaction(tf_keras.layers.Layer):
    """From a user's fields to the features that the tower's output layers see.

    A subclass defines `call(fields, mask, training) -> float [batch, n]`. An absent field
    contributes nothing: it is a vector of zeros and has no share of any softmax; a user without any
    field gets a finite vector.

    Every interaction normalises what it returns, each of its parts (first order, second order) by
    itself and by the layer that `ModelConfig.norm` names (`feature_cross.make_norm`): products of
    embeddings are some orders of magnitude smaller than the embeddings, and towers whose features
    differ in scale would be compared by how well one learning rate suits them.
    """

    def attention(self, fields: tf.Tensor, mask: tf.Tensor) -> dict[str, tf.Tensor]:
        """Attention weights, in inference, by name; empty where the interaction has none.

        Args:
          fields: float [batch, K, H, E].
          mask: bool [batch, K], which fields the user has.

        Returns:
          By name.
        """
        del fields, mask
        return {}


def field_vectors(fields: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """One vector a field: its heads one after the other, zeros where the user lacks it.

    Args:
      fields: float [batch, K, H, E].
      mask: bool [batch, K].

    Returns:
      float [batch, K, H E].
    """
    present = fields * tf.cast(mask, fields.dtype)[:, :, tf.newaxis, tf.newaxis]
    _, num_fields, heads, size = fields.shape
    return tf.reshape(present, [-1, num_fields, heads * size])


def concatenated(vectors: tf.Tensor) -> tf.Tensor:
    """Fields one after the other, float [batch, K, D] -> [batch, K D]."""
    return tf.reshape(vectors, [-1, vectors.shape[1] * vectors.shape[2]])
