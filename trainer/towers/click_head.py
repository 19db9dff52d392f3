"""The click head: how much an item interests a user, from the vectors of its tags.

Which losses train it is `trainer.model`'s work.
"""

from typing import Any, Literal

import tensorflow as tf
import tf_keras

from trainer.config import ModelConfig
from trainer.objectives import losses as objectives
from trainer.objectives.losses import ItemTags
from trainer.towers.item_attention import ItemAttention
from trainer.towers.tag_tower import TagTower, TagVectors

ClickObjective = Literal["joint", "split", "attention"]


class ClickHead(tf_keras.layers.Layer):
    """An item's logit: those of its tags, pooled.

        s_t = scale * u' . t + b_t with u' = u P
        joint: sum_t s_t + offset;  split: mean_t s_t + offset;  attention: sum_t a_t s_t + offset

    The last is `scale * u' . sum_t a_t t` with the biases attended to as the vectors are. An item
    with one tag has the same logit under all of them, one without any known tag the offset.

    Args:
      tag_tower: Whose scale and offset it has.
      config: Of the model.
      has_attention: Whether it has an attention over an item's tags.
      seed: Of the attention's initial values.
    """

    def __init__(
        self,
        tag_tower: TagTower,
        config: ModelConfig,
        has_attention: bool = False,
        seed: int = 0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self._tag_tower = tag_tower
        self.projection: tf_keras.layers.Layer | None = None
        if config.click_projection:
            self.projection = tf_keras.layers.Dense(
                config.output_dim,
                use_bias=False,
                kernel_initializer=tf_keras.initializers.Identity(),
                name="click_projection",
            )
        self.attention: ItemAttention | None = None
        if has_attention:
            self.attention = ItemAttention(config.attention_dim, seed=seed, name="item_attention")
        # Built now and not by the first item: weights are restored, and tags scored, before it.
        for layer in (self.projection, self.attention):
            if layer is not None:
                with tf.name_scope(layer.name):
                    layer.build(tf.TensorShape([None, config.output_dim]))

    def tag_logits(self, users: tf.Tensor, tags: TagVectors, items: ItemTags) -> tf.Tensor:
        """s_t of every tag of every item.

        Args:
          users: float [batch, U].
          tags: Of n tags.
          items: The items; their tags are rows of `tags`.

        Returns:
          float [m] for the m entries of `items`.
        """
        if self.projection is not None:
            users = self.projection(users)
        scale = self._tag_tower.click_scale
        return objectives.tag_click_logits(users, tags.embeddings, tags.click_bias, scale, items)

    def single_tag_logits(self, tag_logits: tf.Tensor) -> tf.Tensor:
        """Logits of items with one tag alone, each of logit s_t, float [m]."""
        return tag_logits + self._tag_tower.click_offset

    def item_logits(
        self, objective: ClickObjective, tag_logits: tf.Tensor, tags: TagVectors, items: ItemTags
    ) -> tf.Tensor:
        """Pools the logits of tags.

        Args:
          objective: How.
          tag_logits: float [m], s_t.
          tags: Of n tags.
          items: The items; their tags are rows of `tags`.

        Returns:
          float [num_items].
        """
        if objective == "attention":
            # u' . sum_t a_t t = sum_t a_t (u' . t).
            attention: Any = self.attention
            pooled = items.sum_by_item(attention(tags.embeddings, items) * tag_logits)
        elif objective == "split":
            pooled = items.mean_by_item(tag_logits)
        else:
            pooled = items.sum_by_item(tag_logits)
        return pooled + self._tag_tower.click_offset

    def candidate_embeddings(self, tags: TagVectors) -> tf.Tensor:
        """Vectors whose inner products with queries are the logits of items with one tag alone.

        The scale and the linear map of the user's vector are moved to the tags' side.

        Args:
          tags: Of n tags.

        Returns:
          float [n, U + R + 1].
        """
        vectors = self._tag_tower.click_scale * tags.embeddings
        if self.projection is not None:
            vectors = tf.matmul(vectors, self.projection.kernel, transpose_b=True)
        parts = [vectors, self.single_tag_logits(tags.click_bias)[:, tf.newaxis]]
        if tags.path is not None:  # of which the click head knows nothing
            parts.insert(1, tf.zeros_like(tags.path))
        return tf.concat(parts, axis=1)
