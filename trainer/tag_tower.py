"""The candidate tower: a vector and the biases of every tag."""

import dataclasses

import tensorflow as tf
import tf_keras

from trainer.config import ModelConfig
from trainer.config_loader import require


@dataclasses.dataclass(frozen=True)
class TagVectors:
    """What both heads know of some tags.

    Attributes:
      embeddings: float [n, U].
      bias: float [n], of the multi-class head.
      click_bias: float [n], of the click head.
    """

    embeddings: tf.Tensor
    bias: tf.Tensor
    click_bias: tf.Tensor


class TagTower(tf_keras.layers.Layer):
    """A table of tag vectors with a bias for each head (candidate tower).

    Args:
      num_tags: Number of tags.
      config: Of the model.
      seed: Of the initial values.
    """

    def __init__(self, num_tags: int, config: ModelConfig, seed: int = 0, **kwargs):
        super().__init__(**kwargs)
        require(num_tags >= 1, "num_tags", "be a positive integer", num_tags)
        self.num_tags = num_tags
        self.config = config
        self.seed = seed
        # Made here, not in `build`: the user tower may share the table.
        initializer = tf_keras.initializers.RandomNormal(stddev=config.output_dim**-0.5, seed=seed)
        self.embeddings = self.add_weight(
            "embeddings", [num_tags, config.output_dim], initializer=initializer
        )
        self.bias = self.add_weight("bias", [num_tags], initializer="zeros")
        self.click_bias = self.add_weight("click_bias", [num_tags], initializer="zeros")
        self.click_scale = self.add_weight("click_scale", [], initializer="ones")
        self.click_offset = self.add_weight("click_offset", [], initializer="zeros")

    def vectors(self, ids: tf.Tensor | None = None, training: bool | None = None) -> TagVectors:
        """Vectors and biases of tags.

        Args:
          ids: int [n], below the number of tags; None: all tags in order.
          training: Whether dropout is on.

        Returns:
          Of n tags. No row but those asked for is touched.
        """
        del training
        tables = (self.embeddings, self.bias, self.click_bias)
        if ids is None:
            return TagVectors(*(tf.convert_to_tensor(table) for table in tables))
        return TagVectors(*(tf.gather(table, ids) for table in tables))

    def call(self, ids: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Vectors of tags.

        Args:
          ids: int [n], below the number of tags.
          training: Whether dropout is on.

        Returns:
          float [n, U].
        """
        return self.vectors(ids, training=training).embeddings

    def candidate_embeddings(self) -> tf.Tensor:
        """All tags, float [num_tags, U + 1]; the last dimension is the multi-class bias."""
        tags = self.vectors()
        return tf.concat([tags.embeddings, tags.bias[:, tf.newaxis]], axis=1)
