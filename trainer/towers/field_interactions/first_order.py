"""The first-order part of the factorization machines."""

import tensorflow as tf
import tf_keras


class FirstOrder(tf_keras.layers.Layer):
    """Layer that adds up the fields, each coordinate with a weight: sum_k w_k * e_k.

    In AFM and NFM the first-order part is sum_i w_i x_i, a scalar for a scalar prediction. Here a
    user is a vector, and so is this part: the values' weights are their embeddings, and w_k scales
    them for each field, as w scales x in the linear part of UTPM's crossing.
    """

    def build(self, input_shape: tf.TensorShape) -> None:
        """Adds the weights for the given number and size of fields."""
        _, num_fields, size = input_shape
        self.kernel = self.add_weight("kernel", [num_fields, size], initializer="ones")
        super().build(input_shape)

    def call(self, vectors: tf.Tensor) -> tf.Tensor:
        """Adds up the fields, float [batch, K, D], zeros where absent -> [batch, D]."""
        return tf.reduce_sum(vectors * self.kernel, axis=1)
