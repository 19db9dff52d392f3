"""Attention over an item's tags: which of them speak for the item in the `attention` objective."""

from typing import Any

import tensorflow as tf
import tf_keras

from trainer.contract.config_loader import require
from trainer.objectives.losses import ItemTags
from trainer.towers.domain_attention import segment_softmax


class ItemAttention(tf_keras.layers.Layer):
    """Weights of an item's tags that do not depend on the user.

        a = softmax over T_a of q . relu(W t + b)

    The form is that of the attention within a domain, the weights are its own.

    Args:
      attention_dim: A, size of the hidden layer and of q.
      seed: Of the initial values.
    """

    def __init__(self, attention_dim: int, seed: int = 0, **kwargs):
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

    def build(self, input_shape):
        """Builds both layers for vectors of the given last dimension."""
        self.hidden.build(input_shape)
        self.query.build([None, self.attention_dim])
        super().build(input_shape)

    def call(self, tag_embeddings: tf.Tensor, items: ItemTags) -> tf.Tensor:
        """Attention weights.

        Args:
          tag_embeddings: float [n, U].
          items: The items; their tags are rows of `tag_embeddings`.

        Returns:
          float [m] for the m entries of `items`, summing to 1 over the tags of an item.
        """
        # A score depends on the tag alone, and a batch names most tags more than once.
        scores = self.query(self.hidden(tag_embeddings))
        scores = tf.gather(scores, items.tags)
        return segment_softmax(scores, items.items, items.num_items)[:, 0]

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        own = {"attention_dim": self.attention_dim, "seed": self.seed}
        return {**super().get_config(), **own}
