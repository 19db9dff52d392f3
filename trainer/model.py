"""The two-tower model: which towers, which losses, and how their outputs fit an index.

Reading data, fitting and saving are `trainer.task`'s work.
"""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras

from trainer import objectives
from trainer.config import ModelConfig, TrainingConfig
from trainer.features import (
    IMPRESSION_CLICKED,
    IMPRESSION_NUM_TAGS,
    IMPRESSION_TAGS,
    IMPRESSION_WEIGHTS,
    LABEL_TAG_WEIGHTS,
    LABEL_TAGS,
    FeatureSpec,
)
from trainer.tag_tower import TagTower
from trainer.user_tower import UserTower


class InterestModel(tfrs.models.Model):
    """`multi_class_weight * multi_class + joint_weight * joint` over a user and a tag tower.

    The click loss is a `tfrs.tasks.Ranking` of impressions. The multi-class loss is not a
    `tfrs.tasks.Retrieval`: that one contrasts the candidates of a batch, one positive a query,
    while here a user has many positive tags and the softmax runs over the whole, small vocabulary.

    Args:
      spec: The features.
      vocabulary_sizes: By vocabulary name, ids including the buckets for unknown values.
      num_tags: Candidates: tags of the label vocabulary.
      model_config: Of the towers.
      training_config: Of the objective.
      seed: Of initial values and dropout.
    """

    def __init__(
        self,
        spec: FeatureSpec,
        vocabulary_sizes: Mapping[str, int],
        num_tags: int,
        model_config: ModelConfig,
        training_config: TrainingConfig,
        seed: int = 0,
    ):
        super().__init__()
        self.spec = spec
        self.num_tags = num_tags
        self.model_config = model_config
        self.training_config = training_config
        self.tag_tower = TagTower(num_tags, model_config, seed=2 * seed + 1)
        self.user_tower = UserTower(
            spec, vocabulary_sizes, model_config, seed=seed, tag_tower=self.tag_tower
        )
        self.click_projection: tf_keras.layers.Layer | None = None
        if model_config.click_projection:
            self.click_projection = tf_keras.layers.Dense(
                model_config.output_dim,
                use_bias=False,
                kernel_initializer=tf_keras.initializers.Identity(),
                name="click_projection",
            )
        self.click_task = tfrs.tasks.Ranking(
            loss=tf_keras.losses.BinaryCrossentropy(
                from_logits=True, reduction=tf_keras.losses.Reduction.SUM
            )
        )
        self._loss_metrics = {
            name: tf_keras.metrics.Mean(name=name) for name in ("multi_class_loss", "joint_loss")
        }

    @property
    def training_names(self) -> tuple[str, ...]:
        """Columns that training needs: features and labels, not what evaluation alone looks at."""
        names = self.spec.raw_names
        if self.training_config.multi_class_weight:
            names += (LABEL_TAGS, LABEL_TAG_WEIGHTS)
        if self.training_config.joint_weight:
            names += (IMPRESSION_TAGS, IMPRESSION_NUM_TAGS, IMPRESSION_CLICKED, IMPRESSION_WEIGHTS)
        return names

    def call(self, features: Mapping[str, Any], training: bool | None = None) -> tf.Tensor:
        """User vectors, float [batch, U]."""
        return self.user_tower(features, training=training)

    def query_embeddings(self, features: Mapping[str, Any]) -> tf.Tensor:
        """Queries for an index of `candidate_embeddings`, float [batch, U + 1]; the last is 1."""
        users = self.user_tower(features, training=False)
        return tf.concat([users, tf.ones_like(users[:, :1])], axis=1)

    def candidate_embeddings(self) -> tf.Tensor:
        """All tags, float [num_tags, U + 1]; the multi-class bias is the last dimension."""
        return self.tag_tower.candidate_embeddings()

    def click_candidate_embeddings(self) -> tf.Tensor:
        """What the click head says of an item with one tag alone, as vectors.

        Their inner products with `query_embeddings` are its logits: the head's scale and its linear
        map of the user's vector are moved to the tags' side.

        Returns:
          float [num_tags, U + 1].
        """
        tags = self.tag_tower.vectors()
        vectors = self.tag_tower.click_scale * tags.embeddings
        if self.click_projection is not None:
            vectors = tf.matmul(vectors, self.click_projection.kernel, transpose_b=True)
        constant = tags.click_bias + self.tag_tower.click_offset
        return tf.concat([vectors, constant[:, tf.newaxis]], axis=1)

    def score_tags(self, features: Mapping[str, Any]) -> tf.Tensor:
        """Multi-class logits of all tags, float [batch, num_tags]."""
        return tf.matmul(
            self.query_embeddings(features), self.candidate_embeddings(), transpose_b=True
        )

    def click_logits(
        self,
        query_embeddings: tf.Tensor,
        item_tags: tf.RaggedTensor,
        item_num_tags: tf.RaggedTensor,
    ) -> tf.Tensor:
        """Click head.

        Args:
          query_embeddings: float [batch, U] or, as for the index, [batch, U + 1].
          item_tags: int [batch, None], tags of each user's items one after the other; -1 is
            ignored.
          item_num_tags: int [batch, None], how many of them belong to each item.

        Returns:
          float [num_items], users one after the other.
        """
        users = query_embeddings[:, : self.model_config.output_dim]
        if self.click_projection is not None:
            users = self.click_projection(users)
        return objectives.joint_click_logits(
            users,
            tf.convert_to_tensor(self.tag_tower.embeddings),
            self.tag_tower.click_bias,
            self.tag_tower.click_scale,
            self.tag_tower.click_offset,
            item_tags,
            item_num_tags,
        )

    def impression_logits(self, features: Mapping[str, Any]) -> tf.Tensor:
        """Click logits of the impressions of a batch of examples, float [num_impressions]."""
        users = self.user_tower(features, training=False)
        return self.click_logits(users, features[IMPRESSION_TAGS], features[IMPRESSION_NUM_TAGS])

    # There is no control flow to convert, and converting the layers takes longer than an epoch.
    @tf.autograph.experimental.do_not_convert
    def compute_loss(self, inputs: Mapping[str, Any], training: bool = False) -> tf.Tensor:
        """The weighted sum of the losses, float scalar."""
        users = self.user_tower(inputs, training=training)
        total = tf.zeros([])
        if self.training_config.multi_class_weight:
            logits = (
                tf.matmul(users, self.tag_tower.embeddings, transpose_b=True) + self.tag_tower.bias
            )
            loss = objectives.multi_class_loss(
                logits, inputs[LABEL_TAGS], inputs[LABEL_TAG_WEIGHTS]
            )
            self._loss_metrics["multi_class_loss"].update_state(loss)
            total += self.training_config.multi_class_weight * loss
        if self.training_config.joint_weight:
            click_logits = self.click_logits(
                users, inputs[IMPRESSION_TAGS], inputs[IMPRESSION_NUM_TAGS]
            )
            weights = inputs[IMPRESSION_WEIGHTS].flat_values
            summed = self.click_task(
                labels=inputs[IMPRESSION_CLICKED].flat_values[:, tf.newaxis],
                predictions=click_logits[:, tf.newaxis],
                sample_weight=weights,
            )
            loss = tf.math.divide_no_nan(summed, tf.reduce_sum(weights))
            self._loss_metrics["joint_loss"].update_state(loss)
            total += self.training_config.joint_weight * loss
        return total


def make_optimizer(
    config: TrainingConfig, steps_per_epoch: int | None = None
) -> tf_keras.optimizers.Optimizer:
    """The optimizer that `config` names.

    Args:
      config: Names the optimizer and its learning rate.
      steps_per_epoch: Batches an epoch, which the `cosine` schedule needs; without it the learning
        rate is constant.

    Returns:
      A fresh optimizer.
    """
    rate: Any = config.learning_rate
    if config.learning_rate_schedule == "cosine" and steps_per_epoch is not None:
        num_steps = config.max_epochs * steps_per_epoch
        rate = tf_keras.optimizers.schedules.CosineDecay(rate, num_steps)
    if config.optimizer == "adagrad":
        return tf_keras.optimizers.Adagrad(rate)
    return tf_keras.optimizers.Adam(rate)
