"""The interaction `nfm`: bi-interaction pooling of the fields."""

from typing import Any

import tensorflow as tf

from trainer.towers.feature_cross import Norm, make_norm
from trainer.towers.field_interactions.first_order import FirstOrder
from trainer.towers.field_interactions.interaction import Interaction, field_vectors


class NeuralFM(Interaction):
    """Sum of all pairs of fields beside a first-order part (NFM, arXiv 1708.05027).

        z = [norm(sum_k w_k * e_k); norm(sum_{i<j} e_i * e_j)]

    The pairs are computed as 1/2 ((sum e)^2 - sum e^2), in time linear in K. The layers that the
    paper stacks on the pooling are the tower's output layers.

    Args:
      norm: Normalisation, `batch` (as in the paper) or `layer`.
    """

    def __init__(self, norm: Norm = "batch", **kwargs: object):
        super().__init__(**kwargs)
        self.norm = norm
        self.first_order = FirstOrder(name="first_order")
        self._linear_norm = make_norm(norm, "linear_norm")
        self._pair_norm = make_norm(norm, "pair_norm")

    def call(self, fields: tf.Tensor, mask: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Adds up the pairs of fields.

        Args:
          fields: float [batch, K, H, E], vectors of the fields.
          mask: bool [batch, K], whether the user has the field.
          training: Whether batch normalisation uses the batch's own moments.

        Returns:
          float [batch, 2 H E], features.
        """
        vectors = field_vectors(fields, mask)
        linear = self._linear_norm(self.first_order(vectors), training=training)
        squared_sum = tf.square(tf.reduce_sum(vectors, axis=1))
        pairs = 0.5 * (squared_sum - tf.reduce_sum(tf.square(vectors), axis=1))
        return tf.concat([linear, self._pair_norm(pairs, training=training)], axis=1)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "norm": self.norm}
