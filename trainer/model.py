"""The two-tower model: its towers, its losses, and its vectors for an index.

`trainer.task` reads data, trains the model and saves it.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras

from trainer.config import ModelConfig, TrainingConfig
from trainer.contract.config_loader import require
from trainer.contract.features import (
    IMPRESSION_CLICKED,
    IMPRESSION_NUM_TAGS,
    IMPRESSION_TAGS,
    IMPRESSION_WEIGHTS,
    LABEL_TAG_WEIGHTS,
    LABEL_TAGS,
    FeatureSpec,
)
from trainer.objectives import losses as objectives
from trainer.objectives.losses import ItemTags
from trainer.objectives.sampled_softmax import SampledSoftmax, TagSampler, renumber
from trainer.towers.click_head import ClickHead
from trainer.towers.tag_tower import TagTower, TagVectors
from trainer.towers.tag_views import TagAttributes
from trainer.towers.user_tower import UserTower

_MULTI_CLASS_LOSSES = ("multi_class", "multi_class_joint")
_LOSSES = (*_MULTI_CLASS_LOSSES, "joint", "split", "attention")

# Uses of the tags that a batch names.
_LABELS, _ITEMS, _SAMPLE = "labels", "items", "sample"


class InterestModel(tfrs.models.Model):
    """A user and a tag tower, trained by a weighted sum of the losses that the configuration names.

    The click losses are a `tfrs.tasks.Ranking` of impressions. The multi-class losses are not a
    `tfrs.tasks.Retrieval`: that task contrasts the candidates of a batch, one positive a query,
    while here a user has many positive tags and the softmax runs over the whole vocabulary, or over
    a sample of a large one.

    Args:
      spec: The feature specification.
      vocabulary_sizes: Numbers of ids by vocabulary name, with the buckets for unknown values.
      num_tags: Number of candidates, the tags of the label vocabulary.
      model_config: Configuration of the towers.
      training_config: Configuration of the objective.
      seed: Seed of initial values, dropout and the sampled softmax.
      tag_frequencies: float [num_tags], positive counts of the tags; needed for a sampled softmax.
      tag_attributes: Attributes of the candidates in order of their ids; needed for
        `model_config.tag_views`.

    Raises:
      ValueError: A softmax is to be sampled and `tag_frequencies` are missing or of other tags.
    """

    def __init__(
        self,
        spec: FeatureSpec,
        vocabulary_sizes: Mapping[str, int],
        num_tags: int,
        model_config: ModelConfig,
        training_config: TrainingConfig,
        seed: int = 0,
        tag_frequencies: np.ndarray | None = None,
        tag_attributes: TagAttributes | None = None,
    ):
        super().__init__()
        self.spec = spec
        self.num_tags = num_tags
        self.vocabulary_sizes = dict(vocabulary_sizes)
        self.model_config = model_config
        self.training_config = training_config
        self.seed = seed
        weights = {name: getattr(training_config, f"{name}_weight") for name in _LOSSES}
        self._loss_weights = {name: weight for name, weight in weights.items() if weight}
        self._has_multi_class = any(name in self._loss_weights for name in _MULTI_CLASS_LOSSES)
        self._has_impressions = set(self._loss_weights) != {"multi_class"}
        self.tag_tower = TagTower(
            num_tags, model_config, seed=2 * seed + 1, attributes=tag_attributes
        )
        self.user_tower = UserTower(
            spec, vocabulary_sizes, model_config, seed=seed, tag_tower=self.tag_tower
        )
        self.click_head = ClickHead(
            self.tag_tower,
            model_config,
            has_attention="attention" in self._loss_weights,
            seed=2 * seed,
            name="click_head",
        )
        self.click_task = tfrs.tasks.Ranking(
            loss=lambda y_true, y_pred, sample_weight: objectives.click_loss(
                y_pred, y_true, sample_weight
            )
        )
        self.history_path: tf_keras.layers.Layer | None = None
        self._sampler: TagSampler | None = None
        if self._has_multi_class and num_tags > training_config.full_softmax_max_tags:
            self._sampler = _make_sampler(training_config, tag_frequencies, num_tags)
            self._sampling_step = self.add_weight(
                "sampling_step",
                [],
                tf.int64,
                initializer="zeros",
                trainable=False,
                aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
            )
        self._loss_metrics = {
            name: tf_keras.metrics.Mean(name=f"{name}_loss") for name in self._loss_weights
        }

    @property
    def training_names(self) -> tuple[str, ...]:
        """Names of the columns that training reads: features and labels."""
        names = self.spec.raw_names
        if self._has_multi_class:
            names += (LABEL_TAGS, LABEL_TAG_WEIGHTS)
        if self._has_impressions:
            names += (IMPRESSION_TAGS, IMPRESSION_NUM_TAGS, IMPRESSION_CLICKED, IMPRESSION_WEIGHTS)
        return names

    def call(self, features: Mapping[str, Any], training: bool | None = None) -> tf.Tensor:
        """Computes user vectors, float [batch, U]."""
        return self.user_tower(features, training=training)

    def add_path(self, history_path: tf_keras.layers.Layer, tag_vectors: np.ndarray) -> None:
        """Adds the linear path to a trained model (`trainer.evaluation.linear_path` fits it).

        Args:
          history_path: Layer that embeds histories: features -> float [batch, R].
          tag_vectors: float [num_tags, R], the path's vectors of the tags.
        """
        self.history_path = history_path
        self.tag_tower.add_path(tag_vectors)

    @property
    def query_dim(self) -> int:
        """The size of queries and candidates: U, R of the linear path, and 1."""
        path = self.tag_tower.path
        return self.model_config.output_dim + (0 if path is None else path.shape[1]) + 1

    def query_embeddings(self, features: Mapping[str, Any]) -> tf.Tensor:
        """Computes queries for an index of `candidate_embeddings`, float [batch, U + R + 1].

        The first U components are the user's vector, the next R the linear path's, where there is
        one; the last component is 1.
        """
        users = self.user_tower(features, training=False)
        parts = [users, tf.ones_like(users[:, :1])]
        if self.history_path is not None:
            parts.insert(1, self.history_path(features))
        return tf.concat(parts, axis=1)

    def candidate_embeddings(self) -> tf.Tensor:
        """Returns the vectors of all tags, float [num_tags, U + R + 1]; the bias is the last."""
        return self.tag_tower.candidate_embeddings()

    def click_candidate_embeddings(self, tags: TagVectors | None = None) -> tf.Tensor:
        """Returns vectors of the click head for items with one tag alone.

        Args:
          tags: Vectors of n tags; None: of all candidates.

        Returns:
          float [n, U + R + 1]; inner products with `query_embeddings` are the click logits.
        """
        return self.click_head.candidate_embeddings(tags or self.tag_tower.vectors())

    def score_tags(self, features: Mapping[str, Any]) -> tf.Tensor:
        """Computes the multi-class logits of all tags, float [batch, num_tags]."""
        return tf.matmul(
            self.query_embeddings(features), self.candidate_embeddings(), transpose_b=True
        )

    def click_logits(
        self,
        query_embeddings: tf.Tensor,
        item_tags: tf.RaggedTensor,
        item_num_tags: tf.RaggedTensor,
        tag_vectors: TagVectors | None = None,
    ) -> tf.Tensor:
        """Computes click logits of items, pooling their tags' logits as `click_objective` does.

        Args:
          query_embeddings: float [batch, U], user vectors, or queries [batch, U + R + 1].
          item_tags: int [batch, None], tags of each user's items one after the other; -1 is
            ignored.
          item_num_tags: int [batch, None], number of tags of each item.
          tag_vectors: Vectors whose rows `item_tags` names; None: those of all candidates.

        Returns:
          float [num_items], click logits, users one after the other.
        """
        items = ItemTags.from_lists(item_tags, item_num_tags)
        if tag_vectors is None:
            tags = self._tags_of({_ITEMS: items.tags})
        else:
            tags = _BatchTags(None, tag_vectors, {_ITEMS: items.tags})
        items = dataclasses.replace(items, tags=tags.rows[_ITEMS])
        users = query_embeddings[:, : self.model_config.output_dim]
        tag_logits = self.click_head.tag_logits(users, tags.vectors, items)
        # Without a click loss the head is untrained and pools by `joint`.
        objective = self.training_config.click_objective or "joint"
        return self.click_head.item_logits(objective, tag_logits, tags.vectors, items)

    def impression_logits(self, features: Mapping[str, Any]) -> tf.Tensor:
        """Computes click logits of the impressions of a batch, float [num_impressions]."""
        users = self.user_tower(features, training=False)
        return self.click_logits(users, features[IMPRESSION_TAGS], features[IMPRESSION_NUM_TAGS])

    # AutoGraph has no control flow to convert here, and converting takes longer than an epoch.
    @tf.autograph.experimental.do_not_convert
    def compute_loss(self, inputs: Mapping[str, Any], training: bool = False) -> tf.Tensor:
        """Computes the weighted sum of the losses, float scalar.

        On several replicas it is this replica's part: the sum of the parts is the step's loss.
        """
        users = self.user_tower(inputs, training=training)
        ids: dict[str, tf.Tensor] = {}
        items: ItemTags | None = None
        if self._has_multi_class:
            ids[_LABELS] = inputs[LABEL_TAGS].flat_values
        if self._has_impressions:
            items = ItemTags.from_lists(inputs[IMPRESSION_TAGS], inputs[IMPRESSION_NUM_TAGS])
            ids[_ITEMS] = items.tags
        if self._sampler is not None:
            ids[_SAMPLE] = self._draw_sample(self._sampler, training)
        # Computed once for all losses, so that id dropout gives a tag one vector in a step.
        tags = self._tags_of(ids, training)
        if items is not None:
            items = dataclasses.replace(items, tags=tags.rows[_ITEMS])
        losses: dict[str, tf.Tensor] = {}
        if self._has_multi_class:
            losses |= self._multi_class_losses(users, tags, items, inputs)
        if items is not None and self.training_config.click_objective is not None:
            losses |= self._click_losses(users, tags.vectors, items, inputs)
        num_replicas = tf.distribute.get_strategy().num_replicas_in_sync
        total = tf.zeros([])
        for name, weight in self._loss_weights.items():
            # Metrics are averaged over replicas, losses are added up.
            self._loss_metrics[name].update_state(losses[name] * num_replicas)
            total += weight * losses[name]
        return total

    def _draw_sample(self, sampler: TagSampler, training: bool) -> tf.Tensor:
        """Draws the tags of this step, int64 [m], the same on every replica and in every run."""
        step = self._sampling_step.value()
        if training:
            self._sampling_step.assign_add(1)
        return sampler.sample(tf.stack([tf.constant(self.seed, tf.int64), step]))

    def _tags_of(self, ids: Mapping[str, tf.Tensor], training: bool = False) -> "_BatchTags":
        """Returns the vectors of the tags that a batch names.

        Args:
          ids: int64 [m] by use, ids of the tags that the batch names; -1: unknown.
          training: Whether dropout is on.

        Returns:
          Vectors of all tags where there are few; else only of those named, so that neither the
          step nor its gradients have tensors of the size of the vocabulary.
        """
        if self.num_tags <= self.training_config.full_softmax_max_tags:
            return _BatchTags(None, self.tag_tower.vectors(training=training), ids)
        distinct, rows = renumber(ids)
        return _BatchTags(distinct, self.tag_tower.vectors(distinct, training=training), rows)

    def _multi_class_losses(
        self,
        users: tf.Tensor,
        tags: "_BatchTags",
        items: ItemTags | None,
        inputs: Mapping[str, Any],
    ) -> dict[str, tf.Tensor]:
        embeddings, bias = tags.vectors.embeddings, tags.vectors.bias
        softmax: objectives.Softmax
        if self._sampler is None:
            logits = tf.matmul(users, embeddings, transpose_b=True) + bias
            softmax = objectives.FullSoftmax(logits)
        else:
            log_inclusion = self._sampler.log_inclusion(tags.ids)
            softmax = SampledSoftmax(users, embeddings, bias, log_inclusion, tags.rows[_SAMPLE])
        config = self.training_config
        labels = inputs[LABEL_TAGS].with_flat_values(tags.rows[_LABELS])
        user_weights = None
        if config.user_weighting == "sqrt_clicks":
            user_weights = tf.sqrt(tf.reduce_sum(inputs[LABEL_TAG_WEIGHTS], axis=1))
        losses = {}
        if config.multi_class_weight:
            losses["multi_class"] = objectives.multi_class_loss(
                softmax, labels, inputs[LABEL_TAG_WEIGHTS], user_weights, config.mask_positives
            )
        if config.multi_class_joint_weight and items is not None:
            losses["multi_class_joint"] = objectives.multi_class_joint_loss(
                softmax,
                items,
                inputs[IMPRESSION_CLICKED].flat_values,
                inputs[IMPRESSION_WEIGHTS].flat_values,
                labels.nrows(),
                user_weights,
                labels if config.mask_positives else None,
            )
        return losses

    def _click_losses(
        self, users: tf.Tensor, tags: TagVectors, items: ItemTags, inputs: Mapping[str, Any]
    ) -> dict[str, tf.Tensor]:
        config = self.training_config
        tag_logits = self.click_head.tag_logits(users, tags, items)
        clicked = inputs[IMPRESSION_CLICKED].flat_values
        weights = inputs[IMPRESSION_WEIGHTS].flat_values
        losses = {}
        if config.joint_weight:
            logits = self.click_head.item_logits("joint", tag_logits, tags, items)
            losses["joint"] = self.click_task(clicked, logits, sample_weight=weights)
        if config.split_weight:
            losses["split"] = self.click_task(
                tf.gather(clicked, items.items),
                self.click_head.single_tag_logits(tag_logits),
                sample_weight=tf.gather(weights, items.items),
            )
        if config.attention_weight:
            logits = self.click_head.item_logits("attention", tag_logits, tags, items)
            losses["attention"] = self.click_task(clicked, logits, sample_weight=weights)
        return losses


@dataclasses.dataclass(frozen=True)
class _BatchTags:
    """Vectors of the tags that a batch names.

    Attributes:
      ids: int64 [n], ids of the tags; None: all tags in order.
      vectors: Vectors of these n tags.
      rows: int64 [m] by use, places in `vectors` of the tags that the batch names; -1: unknown.
    """

    ids: tf.Tensor | None
    vectors: TagVectors
    rows: Mapping[str, tf.Tensor]


def _make_sampler(
    config: TrainingConfig, frequencies: np.ndarray | None, num_tags: int
) -> TagSampler:
    values = np.asarray(() if frequencies is None else frequencies)
    require(
        len(values) == num_tags,
        "tag_frequencies",
        f"be those of all {num_tags} tags where there are more than `full_softmax_max_tags` "
        f"({config.full_softmax_max_tags})",
        f"{len(values)} values",
    )
    return TagSampler(values, config.num_sampled_tags, config.sampling_power)
