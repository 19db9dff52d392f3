"""Raw features as tensors of a servable: their signature, parsing and checks.

`tfx_pipeline.preprocessing` transforms them, and `serving.wire.feature_tensors` makes the tensors
from values.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from trainer.contract.features import FeatureSpec, weights_name
from trainer.contract.history import MIN_WEIGHT


def raw_signature(spec: FeatureSpec) -> dict[str, tf.TensorSpec]:
    """Returns the inputs of a signature that takes users.

    Args:
      spec: The feature specification.

    Returns:
      Tensor specifications by name: for a text string [batch], "" where unknown; for a number
      float32 [batch], NaN where unknown; for a list string [batch, n], padded with ""; for the
      weights of a domain float32 [batch, n].
    """
    specs = {
        single.name: tf.TensorSpec(
            [None], tf.float32 if single.is_number else tf.string, single.name
        )
        for single in spec.singles
    }
    for listed in spec.lists:
        specs[listed.name] = tf.TensorSpec([None, None], tf.string, listed.name)
        if listed.has_weights:
            name = weights_name(listed.name)
            specs[name] = tf.TensorSpec([None, None], tf.float32, name)
    return specs


def unknown(shape: Sequence[int | tf.Tensor], dtype: tf.DType) -> tf.Tensor:
    """Returns an input for users of whom nothing is known.

    Args:
      shape: Shape of the input, [batch] or [batch, n].
      dtype: Type of the input.

    Returns:
      A tensor of empty strings, of NaN for a profile feature `number`, or of 0 for weights.
    """
    if dtype == tf.float32 and len(shape) == 1:
        return tf.fill(shape, float("nan"))
    return tf.zeros(shape, dtype)


def parse_examples(examples: tf.Tensor, spec: FeatureSpec) -> dict[str, tf.Tensor]:
    """Reads serialized `tf.Example`s.

    Args:
      examples: string [batch], serialized examples.
      spec: The feature specification.

    Returns:
      Raw features as `raw_signature` describes them; an absent feature is unknown or empty, and a
      value without a weight has the weight 1.
    """
    columns: dict[str, Any] = {
        single.name: tf.io.FixedLenFeature([], tf.float32, float("nan"))
        if single.is_number
        else tf.io.FixedLenFeature([], tf.string, "")
        for single in spec.singles
    }
    for listed in spec.lists:
        columns[listed.name] = tf.io.RaggedFeature(tf.string)
        if listed.has_weights:
            columns[weights_name(listed.name)] = tf.io.RaggedFeature(tf.float32)
    parsed = tf.io.parse_example(examples, columns)
    for listed in spec.lists:
        values = parsed[listed.name].to_tensor(default_value="")
        parsed[listed.name] = values
        if listed.has_weights:
            name = weights_name(listed.name)
            parsed[name] = parsed[name].to_tensor(default_value=1.0, shape=tf.shape(values))
    return parsed


def transform_inputs(raw: Mapping[str, tf.Tensor], spec: FeatureSpec) -> dict[str, Any]:
    """Checks raw features and converts them to the inputs of the transform.

    Args:
      raw: Raw features as `raw_signature` describes them.
      spec: The feature specification.

    Returns:
      Inputs by name: single values [batch, 1], lists as `tf.SparseTensor` [batch, n] without gaps.
    """
    inputs: dict[str, Any] = {}
    for single in spec.singles:
        values = _checked_numbers(raw, single.name) if single.is_number else raw[single.name]
        inputs[single.name] = values[:, tf.newaxis]
    for listed in spec.lists:
        is_value = tf.not_equal(raw[listed.name], "")
        columns = {listed.name: raw[listed.name]}
        if listed.has_weights:
            name = weights_name(listed.name)
            columns[name] = tf.maximum(_checked_weights(raw, name), MIN_WEIGHT)
        # Values move up where a caller's list has gaps: a sparse row must not have any.
        for name, column in columns.items():
            inputs[name] = tf.ragged.boolean_mask(column, is_value).to_sparse()
    return inputs


def _checked_weights(raw: Mapping[str, tf.Tensor], name: str) -> tf.Tensor:
    """Refuses weights that are negative or not finite, in the graph, hence on any server."""
    weights = raw[name]
    # One operation checks for both and returns its input.
    weights = tf.where(weights < 0, tf.constant(float("nan")), weights)
    return tf.debugging.check_numerics(weights, f"`{name}` must hold finite numbers, 0 or more")


def _checked_numbers(raw: Mapping[str, tf.Tensor], name: str) -> tf.Tensor:
    """Refuses infinite numbers of a profile feature; NaN is unknown."""
    numbers = raw[name]
    is_unknown = tf.math.is_nan(numbers)
    known = tf.debugging.check_numerics(
        tf.where(is_unknown, 0.0, numbers),
        f"`{name}` must hold finite numbers, or NaN where unknown",
    )
    return tf.where(is_unknown, numbers, known)
