"""Raw features as tensors of a servable: their signature, parsing and checks.

`tfx_pipeline.preprocessing` transforms them, and `tagtower_client.feature_tensors` makes the
tensors from values.
"""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from trainer.contract.features import FeatureSpec, weights_name


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


def parse_examples(
    examples: tf.Tensor, signature: Mapping[str, tf.TensorSpec]
) -> dict[str, tf.Tensor]:
    """Reads serialized `tf.Example`s.

    Args:
      examples: string [batch], serialized examples.
      signature: Raw features, as `raw_signature` describes them.

    Returns:
      Raw features as `raw_signature` describes them; an absent feature is unknown or empty, and a
      value without a weight has the weight 1.
    """
    columns: dict[str, Any] = {}
    for name, spec in signature.items():
        if spec.shape.rank == 2:
            columns[name] = tf.io.RaggedFeature(spec.dtype)
        else:
            unknown = "" if spec.dtype == tf.string else float("nan")
            columns[name] = tf.io.FixedLenFeature([], spec.dtype, unknown)
    parsed = tf.io.parse_example(examples, columns)
    for name, spec in signature.items():
        if spec.shape.rank == 2 and spec.dtype == tf.string:
            parsed[name] = parsed[name].to_tensor(default_value="")
            own = signature.get(weights_name(name))
            if own is not None and own.dtype == tf.float32 and own.shape.rank == 2:
                weights = parsed[weights_name(name)]
                shape = tf.shape(parsed[name])
                parsed[weights_name(name)] = weights.to_tensor(default_value=1.0, shape=shape)
    return parsed


def checked_weights(raw: Mapping[str, tf.Tensor], name: str) -> tf.Tensor:
    """Refuses weights that are negative or not finite, in the graph, hence on any server."""
    weights = raw[name]
    # One operation checks for both and returns its input.
    weights = tf.where(weights < 0, tf.constant(float("nan")), weights)
    return tf.debugging.check_numerics(weights, f"`{name}` must hold finite numbers, 0 or more")


def checked_numbers(raw: Mapping[str, tf.Tensor], name: str) -> tf.Tensor:
    """Refuses infinite numbers of a profile feature; NaN is unknown."""
    numbers = raw[name]
    is_unknown = tf.math.is_nan(numbers)
    known = tf.debugging.check_numerics(
        tf.where(is_unknown, 0.0, numbers),
        f"`{name}` must hold finite numbers, or NaN where unknown",
    )
    return tf.where(is_unknown, numbers, known)
