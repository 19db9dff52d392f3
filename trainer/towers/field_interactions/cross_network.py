"""The interaction `dcn`: a cross network over the concatenated fields."""

from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras

from trainer.contract.config_loader import require
from trainer.towers.feature_cross import Norm, make_norm
from trainer.towers.field_interactions.interaction import Interaction, concatenated, field_vectors


class CrossNetwork(Interaction):
    """Full-rank cross layers (DCN v2, arXiv 2008.13535; `tfrs.layers.dcn.Cross`).

        x_0 = [e_1; ...; e_K],  x_{l+1} = x_0 * (W_l x_l + b_l) + x_l,  z = norm(x_L)

    The tower's output layers are the deep part, stacked on the cross network.

    Args:
      num_layers: L, number of layers.
      norm: Normalisation, `batch` or `layer`.
      seed: Seed of the initial values.
    """

    def __init__(self, num_layers: int = 2, norm: Norm = "batch", seed: int = 0, **kwargs: object):
        super().__init__(**kwargs)
        require(num_layers >= 1, "num_layers", "be a positive integer", num_layers)
        self.num_layers = num_layers
        self.norm = norm
        self.seed = seed
        self.cross_layers = [
            tfrs.layers.dcn.Cross(
                kernel_initializer=tf_keras.initializers.GlorotUniform(seed=int(layer_seed)),
                name=f"cross_{i}",
            )
            for i, layer_seed in enumerate(np.random.SeedSequence(seed).generate_state(num_layers))
        ]
        self._norm = make_norm(norm, "norm")

    def call(self, fields: tf.Tensor, mask: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Crosses the concatenated fields.

        Args:
          fields: float [batch, K, H, E], vectors of the fields.
          mask: bool [batch, K], whether the user has the field.
          training: Whether batch normalisation uses the batch's own moments.

        Returns:
          float [batch, K H E], features.
        """
        start = concatenated(field_vectors(fields, mask))
        x = start
        for layer in self.cross_layers:
            x = layer(start, x)
        return self._norm(x, training=training)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        own = {"num_layers": self.num_layers, "norm": self.norm, "seed": self.seed}
        return {**super().get_config(), **own}
