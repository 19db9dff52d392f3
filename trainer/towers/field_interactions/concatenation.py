"""The interaction `youtube_dnn`: the fields one after the other."""

from typing import Any

import tensorflow as tf

from trainer.towers.feature_cross import Norm, make_norm
from trainer.towers.field_interactions.interaction import Interaction, concatenated, field_vectors


class Concatenation(Interaction):
    """Concatenates the fields (Covington et al., RecSys 2016, doi 10.1145/2959100.2959190).

        z = norm([e_1; ...; e_K])

    Args:
      norm: Normalisation, `batch` or `layer`.
    """

    def __init__(self, norm: Norm = "batch", **kwargs: object):
        super().__init__(**kwargs)
        self.norm = norm
        self._norm = make_norm(norm, "norm")

    def call(self, fields: tf.Tensor, mask: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Concatenates and normalises the fields.

        Args:
          fields: float [batch, K, H, E], vectors of the fields.
          mask: bool [batch, K], whether the user has the field.
          training: Whether batch normalisation uses the batch's own moments.

        Returns:
          float [batch, K H E], features.
        """
        return self._norm(concatenated(field_vectors(fields, mask)), training=training)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "norm": self.norm}
