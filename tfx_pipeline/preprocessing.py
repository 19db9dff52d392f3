"""`preprocessing_fn`: converts raw features to ids, in training and in the served graph alike.

Values become positions in vocabularies ordered by frequency; weights are passed on unchanged. A
vocabulary is shared by all domains that name it, and `tags` also by the labels, so that a position
in it is a candidate of the tag tower. Values that training never saw get hashed buckets after the
vocabulary, except in labels: a label out of vocabulary is -1, part of the truth and unknown to the
model. A number becomes the id of its bucket between quantiles.
"""

import json
from collections.abc import Mapping
from typing import Any

import tensorflow as tf
import tensorflow_transform as tft

from trainer.contract import features as f
from trainer.contract.config_loader import from_saved

OUT_OF_VOCABULARY = -1
# Accepted error of a quantile, as a share of the examples; up to some ten thousand they are exact.
_QUANTILE_ERROR = 1e-4


def preprocessing_fn(inputs: Mapping[str, Any], custom_config: Mapping[str, Any]) -> dict[str, Any]:
    """Transforms a batch of raw examples.

    Args:
      inputs: Raw features by name: profile features as dense strings or, for numbers, float [batch,
        1]; lists, including those among profile features, as `tf.SparseTensor` [batch, None].
      custom_config: Mapping with `features`, the feature specification as JSON.

    Returns:
      Features by the same names: profile features int64 [batch] (0: unknown); lists and labels as
      sparse int64; weights, counts and identity unchanged.
    """
    spec = from_saved(f.FeatureSpec, json.loads(custom_config[f.FEATURES_KEY]), f.FEATURES_KEY)
    outputs: dict[str, Any] = {}
    for feature in spec.profile:
        column = inputs[feature.name]
        if feature.is_list:
            outputs[feature.name] = _vocabulary_ids(column, feature)
        elif feature.is_number:
            outputs[feature.name] = _bucket_ids(tf.squeeze(column, axis=1), feature)
        else:
            outputs[feature.name] = _profile_ids(tf.squeeze(column, axis=1), feature)

    files = _analyze_vocabularies(inputs, spec)
    for domain in spec.domains:
        name = domain.vocabulary_name
        num_oov_buckets = spec.vocabulary(name).num_oov_buckets
        outputs[domain.name] = tft.apply_vocabulary(
            inputs[domain.name], files[name], num_oov_buckets=num_oov_buckets
        )
        outputs[f.weights_name(domain.name)] = inputs[f.weights_name(domain.name)]
    for name in (f.LABEL_TAGS, f.IMPRESSION_TAGS, f.HISTORY_TAGS):
        outputs[name] = tft.apply_vocabulary(
            inputs[name], files[f.TAG_VOCABULARY], default_value=OUT_OF_VOCABULARY
        )
    for name in (
        f.LABEL_TAG_WEIGHTS,
        f.IMPRESSION_NUM_TAGS,
        f.IMPRESSION_CLICKED,
        f.IMPRESSION_WEIGHTS,
        f.HISTORY_TAG_COUNTS,
    ):
        outputs[name] = inputs[name]
    for name in (f.USER_ID, f.SNAPSHOT_TIME, f.HISTORY_NUM_EVENTS):
        outputs[name] = tf.squeeze(inputs[name], axis=1)
    return outputs


def _profile_ids(values: tf.Tensor, feature: f.ProfileFeature) -> tf.Tensor:
    ids = _vocabulary_ids(values, feature)
    # TFT leaves empty strings out of a vocabulary: unknown values get id 0, all others move up by
    # one.
    return tf.where(tf.equal(values, ""), tf.zeros_like(ids), ids + 1)


def _vocabulary_ids(values: Any, feature: f.ProfileFeature) -> Any:
    return tft.compute_and_apply_vocabulary(
        values,
        num_oov_buckets=feature.num_oov_buckets,
        vocab_filename=feature.vocabulary_name,
    )


def _bucket_ids(numbers: tf.Tensor, feature: f.ProfileFeature) -> tf.Tensor:
    """Returns 0 where a number is unknown, else 1 + its bucket; bucket i begins at the i-th bound.

    The bounds are the feature's vocabulary, so that a later training knows to which numbers a row
    belonged. The first bound is below all numbers. Of equal quantiles, as in a constant column, one
    is kept.
    """
    is_unknown = tf.math.is_nan(numbers)
    quantiles = tft.quantiles(
        tf.boolean_mask(numbers, ~is_unknown),
        num_buckets=feature.effective_num_buckets,
        epsilon=_QUANTILE_ERROR,
    )
    bounds = tf.concat([[tf.float32.min], tf.reshape(quantiles, [-1])], axis=0)
    bounds = tf.unique(bounds).y
    tft.vocabulary(
        # Enough digits to distinguish every float32 from the next one.
        tf.strings.as_string(bounds, precision=8, scientific=True),
        vocab_filename=feature.vocabulary_name,
    )
    ids = tf.searchsorted(bounds, numbers, side="right", out_type=tf.int64)
    return tf.where(is_unknown, tf.zeros_like(ids), tf.maximum(ids, 1))


def _analyze_vocabularies(inputs: Mapping[str, Any], spec: f.FeatureSpec) -> dict[str, Any]:
    sources: dict[str, list[tf.Tensor]] = {
        # Skipped impressions are included: a tag without clicks in training still has a vector and
        # a score.
        f.TAG_VOCABULARY: [inputs[f.LABEL_TAGS].values, inputs[f.IMPRESSION_TAGS].values]
    }
    for domain in spec.domains:
        sources.setdefault(domain.vocabulary_name, []).append(inputs[domain.name].values)
    files = {}
    for name, tensors in sources.items():
        limits = spec.vocabulary(name)
        files[name] = tft.vocabulary(
            tf.concat(tensors, axis=0),
            top_k=limits.max_size,
            frequency_threshold=limits.min_frequency if limits.min_frequency > 1 else None,
            vocab_filename=name,
        )
    return files
