"""The interaction `autoint`: multi-head self-attention between fields."""

from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from trainer.contract.config_loader import require
from trainer.towers.domain_attention import masked_softmax
from trainer.towers.feature_cross import Norm, make_norm
from trainer.towers.field_interactions.interaction import Interaction, concatenated, field_vectors


class SelfAttention(Interaction):
    """Layers of self-attention with residual connections (AutoInt, arXiv 1810.11921).

        a_mk = softmax_k(<Q e_m, K e_k> / sqrt(A))        for each head
        e'_m = relu([sum_k a_mk V e_k of every head] + R e_m)

    L times, then z = norm([e_1; ...; e_M]). The scale 1 / sqrt(A) is in the authors' code and not
    in the paper; their code's relu on each projection, and its normalisation after each layer, are
    not in the paper and not here.

    Args:
      num_layers: L, number of layers.
      num_heads: Number of heads of each layer.
      attention_dim: A, size of the queries, keys and values of one head (d' in the paper).
      norm: Normalisation, `batch` or `layer`.
      seed: Seed of the initial values.
    """

    def __init__(
        self,
        num_layers: int,
        num_heads: int,
        attention_dim: int,
        norm: Norm = "batch",
        seed: int = 0,
        **kwargs: object,
    ):
        super().__init__(**kwargs)
        require(num_layers >= 1, "num_layers", "be a positive integer", num_layers)
        require(num_heads >= 1, "num_heads", "be a positive integer", num_heads)
        require(attention_dim >= 1, "attention_dim", "be a positive integer", attention_dim)
        self.num_layers = num_layers
        self.num_heads = num_heads
        self.attention_dim = attention_dim
        self.norm = norm
        self.seed = seed
        seeds = np.random.SeedSequence(seed).generate_state(4 * num_layers)
        self.projections = [
            {
                kind: tf_keras.layers.Dense(
                    num_heads * attention_dim,
                    use_bias=False,
                    kernel_initializer=tf_keras.initializers.GlorotUniform(
                        seed=int(seeds[4 * layer + i])
                    ),
                    name=f"{kind}_{layer}",
                )
                for i, kind in enumerate(("query", "key", "value", "residual"))
            }
            for layer in range(num_layers)
        ]
        self._norm = make_norm(norm, "norm")

    def call(self, fields: tf.Tensor, mask: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Applies the layers of self-attention to the fields.

        Args:
          fields: float [batch, K, H, E], vectors of the fields.
          mask: bool [batch, K], whether the user has the field.
          training: Whether batch normalisation uses the batch's own moments.

        Returns:
          float [batch, K * num_heads * A], features.
        """
        vectors, _ = self._attend(fields, mask)
        return self._norm(concatenated(vectors), training=training)

    def attention(self, fields: tf.Tensor, mask: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns `field_self_attention`: float [batch, layers, heads, K, K].

        It is the attention of each field (last but one axis) to each field (last axis); 0 where
        either is absent.
        """
        return {"field_self_attention": self._attend(fields, mask)[1]}

    def _attend(self, fields: tf.Tensor, mask: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        vectors = field_vectors(fields, mask)
        is_pair = mask[:, tf.newaxis, :, tf.newaxis] & mask[:, tf.newaxis, tf.newaxis, :]
        weights = []
        for projections in self.projections:
            query, key, value = (
                self._split(projections[kind](vectors)) for kind in ("query", "key", "value")
            )
            residual = projections["residual"](vectors)
            logits = tf.einsum("bmha,bkha->bhmk", query, key) * self.attention_dim**-0.5
            weights.append(masked_softmax(logits, is_pair, axis=-1))
            attended = tf.einsum("bhmk,bkha->bmha", weights[-1], value)
            # Absent fields stay zero, because their residual and their attention are zero.
            vectors = tf.nn.relu(tf.reshape(attended, tf.shape(residual)) + residual)
        return vectors, tf.stack(weights, axis=1)

    def _split(self, projected: tf.Tensor) -> tf.Tensor:
        shape = [-1, projected.shape[1], self.num_heads, self.attention_dim]
        return tf.reshape(projected, shape)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        own = {
            "num_layers": self.num_layers,
            "num_heads": self.num_heads,
            "attention_dim": self.attention_dim,
            "norm": self.norm,
            "seed": self.seed,
        }
        return {**super().get_config(), **own}
