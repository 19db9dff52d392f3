"""`youtube_dnn`: the fields one after the other."""

from typing import Any

import tensorflow as tf

from trainer.towers.feature_cross import Norm, make_norm
from trainer.towers.field_interactions.interaction import Interaction, concatenated, field_vectors


class Concatenation(Interaction):
    """z = norm([e_1; ...; e_K]) (Covington et al., RecSys 2016, doi 10.1145/2959100.2959190).

    Args:
      norm: `batch` or `layer`.
    """

    def __init__(self, norm: Norm = "batch", **kwargs):
        super().__init__(**kwargs)
        self.norm = norm
        self._norm = make_norm(norm, "norm")

    def call(self, fields: tf.Tensor, mask: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Concatenates.

        Args:
          fields: float [batch, K, H, E].
          mask: bool [batch, K].
          training: Whether batch normalisation uses the batch's own moments.

        Returns:
          float [batch, K H E].
        """
        return self._norm(concatenated(field_vectors(fields, mask)), training=training)

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {**super().get_config(), "norm": self.norm}
