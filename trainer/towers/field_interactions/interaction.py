"""The base class of all interactions of fields."""

import tensorflow as tf
import tf_keras


class Interaction(tf_keras.layers.Layer):
    """Layer that computes the features of the tower's output layers from a user's fields.

    A subclass defines `call(fields, mask, training) -> float [batch, n]`. An absent field
    contributes nothing: it is a vector of zeros and has no share of any softmax; a user without any
    field gets a finite vector.

    Every interaction normalises its features, each part (first order, second order) by itself and
    by the layer that `ModelConfig.norm` names (`feature_cross.make_norm`): products of embeddings
    are some orders of magnitude smaller than the embeddings, and a comparison of towers whose
    features differ in scale would depend on how well one learning rate suits them.
    """

    def attention(self, fields: tf.Tensor, mask: tf.Tensor) -> dict[str, tf.Tensor]:
        """Computes attention weights in inference.

        Args:
          fields: float [batch, K, H, E], vectors of the fields.
          mask: bool [batch, K], whether the user has the field.

        Returns:
          Attention weights by name; empty where the interaction has none.
        """
        del fields, mask
        return {}


def field_vectors(fields: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Makes one vector of each field: its heads one after the other, zeros if it is absent.

    Args:
      fields: float [batch, K, H, E], vectors of the fields.
      mask: bool [batch, K], whether the user has the field.

    Returns:
      float [batch, K, H E], one vector for each field.
    """
    present = fields * tf.cast(mask, fields.dtype)[:, :, tf.newaxis, tf.newaxis]
    _, num_fields, heads, size = fields.shape
    return tf.reshape(present, [-1, num_fields, heads * size])


def concatenated(vectors: tf.Tensor) -> tf.Tensor:
    """Concatenates fields, float [batch, K, D] -> [batch, K D]."""
    return tf.reshape(vectors, [-1, vectors.shape[1] * vectors.shape[2]])
