"""Counts a model's trainable parameters, in its embedding tables and beside them."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from trainer.contract.features import IMPRESSION_NUM_TAGS, IMPRESSION_TAGS, weights_name
from trainer.model import InterestModel


class ParameterCount(NamedTuple):
    """Numbers of trainable parameters of a model.

    Attributes:
      without_embeddings: Number of parameters that every user's vector depends on; towers of equal
        budgets have equal numbers.
      embeddings: Number of parameters in tables, of which a user or tag uses its own rows alone:
        the user tower's tables (`UserTower.embedding_tables`; those of `bag`, one row a value and
        `hidden_dim` wide, are tables as well) and the whole tag tower, which is the same for all
        user towers.
    """

    without_embeddings: int
    embeddings: int


def count_parameters(model: InterestModel) -> ParameterCount:
    """Counts a model's trainable parameters, without the moving moments of a normalisation.

    Args:
      model: The model, whose variables are made here if they do not exist.

    Returns:
      The counts. A table that both towers share counts once.
    """
    _score_nobody(model)
    tables = {id(weight) for weight in model.tag_tower.trainable_weights}
    tables |= {id(table.variable) for table in model.user_tower.embedding_tables.values()}
    sizes = {True: 0, False: 0}
    for weight in model.trainable_weights:
        sizes[id(weight) in tables] += int(np.prod(weight.shape))
    return ParameterCount(without_embeddings=sizes[False], embeddings=sizes[True])


def _score_nobody(model: InterestModel) -> None:
    """Scores a user without features, because layers make their weights at their first call."""
    lists = {IMPRESSION_TAGS: tf.int64, IMPRESSION_NUM_TAGS: tf.int64}
    for listed in model.spec.lists:
        lists[listed.name] = tf.int64
        if listed.has_weights:
            lists[weights_name(listed.name)] = tf.float32
    features = {feature.name: tf.zeros([1], tf.int64) for feature in model.spec.singles}
    for name, dtype in lists.items():
        features[name] = tf.RaggedTensor.from_row_splits(tf.zeros([0], dtype), [0, 0])
    model.score_tags(features)
    if model.training_config.click_objective is not None:
        model.impression_logits(features)
