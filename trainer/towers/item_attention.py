"""Attention over an item's tags, which weights them in the `attention` objective."""

from typing import Any

import tensorflow as tf
import tf_keras

from trainer.contract.config_loader import require
from trainer.objectives.losses import ItemTags
from trainer.towers.domain_attention import segment_softmax


class ItemAttention(tf_keras.layers.Layer):
    """Attention weights of an item's tags, which do not depend on the user.

        a = softmax over T_a of q . relu(W t + b)

    The form is that of the attention within a domain, the trained weights are separate.

    Args:
      attention_dim: A, size of the hidden layer and of q.
      seed: Seed of the initial values.
    """

    def __init__(self, attention_dim: int, seed: int = 0, **kwargs: object):
        super().__init__(**kwargs)
        require(attention_dim >= 1, "attention_dim", "be a positive integer", attention_dim)
        self.attention_dim = attention_dim
        self.seed = seed
        self.hidden = tf_keras.layers.Dense(
            attention_dim,
            activation="relu",
            kernel_initializer=tf_keras.initializers.GlorotUniform(seed=seed),
            name="hidden",
        )
        self.query = tf_keras.layers.Dense(
            1,
            use_bias=False,
            kernel_initializer=tf_keras.initializers.RandomNormal(
                stddev=attention_dim**-0.5, seed=seed + 1
            ),
            name="query",
        )

    def build(self, input_shape: tf.TensorShape) -> None:
        """Builds both layers for vectors of the given last dimension."""
        self.hidden.build(input_shape)
        self.query.build([None, self.attention_dim])
        super().build(input_shape)

    def call(self, tag_embeddings: tf.Tensor, items: ItemTags) -> tf.Tensor:
        """Computes the attention weights of items' tags.

        Args:
          tag_embeddings: float [n, U], tag vectors.
          items: The tags of the items, as rows of `tag_embeddings`.

        Returns:
          float [m], weights of the m entries of `items`, which sum to 1 over the tags of an item.
        """
        # A score depends on the tag alone, and a batch names most tags more than once.
        scores = self.query(self.hidden(tag_embeddings))
        scores = tf.gather(scores, items.tags)
        return segment_softmax(scores, items.items, items.num_items)[:, 0]

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        own = {"attention_dim": self.attention_dim, "seed": self.seed}
        return {**super().get_config(), **own}
