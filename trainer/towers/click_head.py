"""The click head, which scores items for a user by the vectors of their tags.

`trainer.model` applies the losses that train it.
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
    """Layer that pools the click logits of an item's tags into the item's logit.

        s_t = scale * u' . t + b_t with u' = u P
        joint: sum_t s_t + offset;  split: mean_t s_t + offset;  attention: sum_t a_t s_t + offset

    `attention` is `scale * u' . sum_t a_t t` plus the biases with the same weights. An item with
    one tag has the same logit with all objectives; an item without a known tag has the offset.

    Args:
      tag_tower: Tag tower that has the head's scale and offset.
      config: Configuration of the model.
      has_attention: Whether the head has an attention over an item's tags.
      seed: Seed of the attention's initial values.
    """

    def __init__(
        self,
        tag_tower: TagTower,
        config: ModelConfig,
        has_attention: bool = False,
        seed: int = 0,
        **kwargs: object,
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
        # Built now, because weights are restored and tags are scored before the first item.
        for layer in (self.projection, self.attention):
            if layer is not None:
                with tf.name_scope(layer.name):
                    layer.build(tf.TensorShape([None, config.output_dim]))

    def tag_logits(self, users: tf.Tensor, tags: TagVectors, items: ItemTags) -> tf.Tensor:
        """Computes s_t of every tag of every item.

        Args:
          users: float [batch, U], user vectors.
          tags: Vectors of n tags.
          items: The tags of the items, as rows of `tags`.

        Returns:
          float [m], s_t of the m entries of `items`.
        """
        if self.projection is not None:
            users = self.projection(users)
        scale = self._tag_tower.click_scale
        return objectives.tag_click_logits(users, tags.embeddings, tags.click_bias, scale, items)

    def single_tag_logits(self, tag_logits: tf.Tensor) -> tf.Tensor:
        """Computes the logits of items with one tag alone from s_t, float [m]."""
        return tag_logits + self._tag_tower.click_offset

    def item_logits(
        self, objective: ClickObjective, tag_logits: tf.Tensor, tags: TagVectors, items: ItemTags
    ) -> tf.Tensor:
        """Pools the logits of tags.

        Args:
          objective: Click objective, which names the pooling.
          tag_logits: float [m], s_t of the entries of `items`.
          tags: Vectors of n tags.
          items: The tags of the items, as rows of `tags`.

        Returns:
          float [num_items], logits of the items.
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
        """Returns vectors whose inner products with queries are logits of items with one tag.

        The scale and the linear map of the user's vector are moved to the tags' side.

        Args:
          tags: Vectors of n tags.

        Returns:
          float [n, U + R + 1], vectors of the tags.
        """
        vectors = self._tag_tower.click_scale * tags.embeddings
        if self.projection is not None:
            vectors = tf.matmul(vectors, self.projection.kernel, transpose_b=True)
        parts = [vectors, self.single_tag_logits(tags.click_bias)[:, tf.newaxis]]
        if tags.path is not None:  # the click head does not use the linear path
            parts.insert(1, tf.zeros_like(tags.path))
        return tf.concat(parts, axis=1)
