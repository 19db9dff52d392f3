"""The interaction `afm`: pairs of fields, weighted by attention."""

from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from trainer.contract.config_loader import require
from trainer.towers.domain_attention import masked_softmax
from trainer.towers.feature_cross import Norm, make_norm
from trainer.towers.field_interactions.first_order import FirstOrder
from trainer.towers.field_interactions.interaction import Interaction, field_vectors


class AttentionalFM(Interaction):
    """Attention over pairs of fields beside a first-order part (AFM, arXiv 1708.04617).

        e_ij = e_i * e_j,  i < j
        a_ij = softmax_ij(h . relu(W e_ij + b))
        z = [norm(sum_k w_k * e_k); norm(sum_{i<j} a_ij e_ij)]

    A pair is in the softmax if both of its fields are present. The tower's output layers replace
    the paper's last step, an inner product with the pooled vector.

    Args:
      attention_dim: A, size of the attention's hidden layer.
      norm: Normalisation, `batch` or `layer`.
      seed: Seed of the initial values.
    """

    def __init__(self, attention_dim: int, norm: Norm = "batch", seed: int = 0, **kwargs: object):
        super().__init__(**kwargs)
        require(attention_dim >= 1, "attention_dim", "be a positive integer", attention_dim)
        self.attention_dim = attention_dim
        self.norm = norm
        self.seed = seed
        self.first_order = FirstOrder(name="first_order")
        self._linear_norm = make_norm(norm, "linear_norm")
        self._pair_norm = make_norm(norm, "pair_norm")

    def build(self, input_shape: tf.TensorShape) -> None:
        """Adds the weights of the attention over pairs."""
        _, num_fields, heads, size = input_shape
        kernel_seed, query_seed = (
            int(s) for s in np.random.SeedSequence(self.seed).generate_state(2)
        )
        self.kernel = self.add_weight(
            "kernel",
            [heads * size, self.attention_dim],
            initializer=tf_keras.initializers.GlorotUniform(seed=kernel_seed),
        )
        self.bias = self.add_weight("bias", [self.attention_dim], initializer="zeros")
        self.query = self.add_weight(
            "query",
            [self.attention_dim],
            initializer=tf_keras.initializers.RandomNormal(
                stddev=self.attention_dim**-0.5, seed=query_seed
            ),
        )
        self._rows, self._columns = np.triu_indices(num_fields, k=1)
        super().build(input_shape)

    def call(self, fields: tf.Tensor, mask: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Pools the pairs of fields by attention.

        Args:
          fields: float [batch, K, H, E], vectors of the fields.
          mask: bool [batch, K], whether the user has the field.
          training: Whether batch normalisation uses the batch's own moments.

        Returns:
          float [batch, 2 H E], features.
        """
        vectors = field_vectors(fields, mask)
        linear = self._linear_norm(self.first_order(vectors), training=training)
        products = self._products(vectors)
        pooled = tf.einsum("bp,bpd->bd", self._pair_attention(products, mask), products)
        return tf.concat([linear, self._pair_norm(pooled, training=training)], axis=1)

    def attention(self, fields: tf.Tensor, mask: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns `field_pairs`: float [batch, K (K - 1) / 2], a_ij for i < j, rows first."""
        products = self._products(field_vectors(fields, mask))
        return {"field_pairs": self._pair_attention(products, mask)}

    def _products(self, vectors: tf.Tensor) -> tf.Tensor:
        left = tf.gather(vectors, self._rows, axis=1)
        return left * tf.gather(vectors, self._columns, axis=1)

    def _pair_attention(self, products: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        hidden = tf.nn.relu(tf.einsum("bpd,da->bpa", products, self.kernel) + self.bias)
        logits = tf.einsum("bpa,a->bp", hidden, self.query)
        present = tf.gather(mask, self._rows, axis=1) & tf.gather(mask, self._columns, axis=1)
        return masked_softmax(logits, present, axis=1)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        own = {"attention_dim": self.attention_dim, "norm": self.norm, "seed": self.seed}
        return {**super().get_config(), **own}
