"""Feature crossing of the user tower ("improved FM"): products of pairs of features.

Unlike a factorization machine it does not sum the products: the next layers see each of them.
"""

from typing import Any, Literal

import numpy as np
import tensorflow as tf
import tf_keras

from trainer.contract.config_loader import require

Norm = Literal["batch", "layer"]


def make_norm(norm: Norm, name: str) -> tf_keras.layers.Layer:
    """Makes the normalisation layer that a configuration names."""
    if norm == "batch":
        # An average over 10 steps follows a training of a few hundred steps; 100 would lag behind.
        # `synchronized` takes moments of the whole batch, also if replicas share it.
        return tf_keras.layers.BatchNormalization(
            momentum=0.9, epsilon=1e-6, synchronized=tf.distribute.has_strategy(), name=name
        )
    return tf_keras.layers.LayerNormalization(epsilon=1e-6, name=name)


class FeatureCross(tf_keras.layers.Layer):
    """Second-order crossing of scalars and a linear part (UTPM, doi 10.1145/3340531.3412719).

    Each scalar x_i has a latent vector v_i in R^C and a weight w_i:

        c_ij = <v_i, v_j> x_i x_j  for all i < j
        z = [norm(w * x); norm(c)]

    computed as Y = x[:, None] * V, G = Y Y^T, upper triangle.

    Args:
      cross_dim: C, size of the latent vectors.
      norm: Normalisation: `batch` subtracts what all users have in common, `layer` normalises each
        user's vector by itself.
      seed: Seed of the initial values.
    """

    def __init__(
        self,
        cross_dim: int,
        norm: Norm = "batch",
        seed: int = 0,
        **kwargs: object,
    ):
        super().__init__(**kwargs)
        require(cross_dim >= 1, "cross_dim", "be a positive integer", cross_dim)
        require(norm in ("batch", "layer"), "norm", "be batch or layer", norm)
        self.cross_dim = cross_dim
        self.norm = norm
        self.seed = seed

    def build(self, input_shape: tf.TensorShape) -> None:
        """Adds the weights for the given number of scalars."""
        size = int(input_shape[-1])
        # <v_i, v_j> then has variance 1 / C: a product of two features neither vanishes nor
        # explodes.
        initializer = tf_keras.initializers.RandomNormal(
            stddev=self.cross_dim**-0.5, seed=self.seed
        )
        self.latent = self.add_weight("latent", [size, self.cross_dim], initializer=initializer)
        self.linear = self.add_weight("linear", [size], initializer="ones")
        rows, columns = np.triu_indices(size, k=1)
        self._pairs = (rows * size + columns).astype(np.int32)
        self._linear_norm = make_norm(self.norm, "linear_norm")
        self._cross_norm = make_norm(self.norm, "cross_norm")
        super().build(input_shape)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Crosses the features.

        Args:
          inputs: float [batch, n], scalars of the users.
          training: Whether batch normalisation uses the batch's own moments.

        Returns:
          float [batch, n + n (n - 1) / 2]: the linear part, then c_ij with i < j, rows first.
        """
        linear = self.linear * inputs
        latent = inputs[:, :, tf.newaxis] * self.latent
        products = tf.matmul(latent, latent, transpose_b=True)
        size = self.linear.shape[0]
        crossed = tf.gather(tf.reshape(products, [-1, size * size]), self._pairs, axis=1)
        linear = self._linear_norm(linear, training=training)
        crossed = self._cross_norm(crossed, training=training)
        return tf.concat([linear, crossed], axis=1)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        own = {
            "cross_dim": self.cross_dim,
            "norm": self.norm,
            "seed": self.seed,
        }
        return {**super().get_config(), **own}
