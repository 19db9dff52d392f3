"""`preprocessing_fn`: raw features to ids, in training and in the served graph alike.

Values become positions in vocabularies ordered by frequency; weights pass through untouched. A
vocabulary is shared by every domain that names it, and `tags` also by the labels, so that a
position in it is a candidate of the tag tower. Values that training never saw go to hashed buckets
behind the vocabulary, but labels do not: a label out of vocabulary is -1, part of the truth and
unknown to the model. A number becomes the bucket between quantiles that it falls into.
"""

import json
from collections.abc import Mapping
from typing import Any

import tensorflow as tf
import tensorflow_transform as tft

from trainer.contract import features as f
from trainer.contract.config_loader import from_saved

OUT_OF_VOCABULARY = -1
# Share of the examples by which a quantile may be off; of some ten thousands they are exact.
_QUANTILE_ERROR = 1e-4


def preprocessing_fn(inputs: Mapping[str, Any], custom_config: Mapping[str, Any]) -> dict[str, Any]:
    """Transforms a batch of raw examples.

    Args:
      inputs: By raw name: dense string or, of a number, float [batch, 1] for profile features,
        `tf.SparseTensor` [batch, None] for lists, those of a profile included.
      custom_config: `features`, the feature specification as JSON.

    Returns:
      By the same names: profile features int64 [batch] (0: unknown); lists and labels as sparse
      int64; weights, counts, identity as they came.
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
    # TFT leaves empty strings out of a vocabulary: the unknown gets 0, everything else moves up by
    # one.
    return tf.where(tf.equal(values, ""), tf.zeros_like(ids), ids + 1)


def _vocabulary_ids(values: Any, feature: f.ProfileFeature) -> Any:
    return tft.compute_and_apply_vocabulary(
        values,
        num_oov_buckets=feature.num_oov_buckets,
        vocab_filename=feature.vocabulary_name,
    )


def _bucket_ids(numbers: tf.Tensor, feature: f.ProfileFeature) -> tf.Tensor:
    """0 where a number is unknown, 1 + its bucket else; bucket i begins at the i-th bound.

    The bounds are the feature's vocabulary, so that a later training knows which numbers a row
    stood for. The first lies below all numbers. Of equal quantiles, as a constant column has them,
    one is kept.
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
        # Digits that tell every float32 from the next one.
        tf.strings.as_string(bounds, precision=8, scientific=True),
        vocab_filename=feature.vocabulary_name,
    )
    ids = tf.searchsorted(bounds, numbers, side="right", out_type=tf.int64)
    return tf.where(is_unknown, tf.zeros_like(ids), tf.maximum(ids, 1))


def _analyze_vocabularies(inputs: Mapping[str, Any], spec: f.FeatureSpec) -> dict[str, Any]:
    sources: dict[str, list[tf.Tensor]] = {
        # Skipped impressions too: a tag that nobody clicked in training still has a vector and a
        # score.
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
