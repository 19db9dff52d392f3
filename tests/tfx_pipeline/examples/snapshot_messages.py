"""Snapshots as `tf.Example`s, one at a time, by protobuf's library."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from trainer.contract import features as f

_FLOAT_NAMES = {
    f.LABEL_TAG_WEIGHTS,
    f.IMPRESSION_CLICKED,
    f.IMPRESSION_WEIGHTS,
    f.HISTORY_TAG_COUNTS,
}


def serialize_snapshot(values: Mapping[str, Any], spec: f.FeatureSpec) -> bytes:
    """Serializes the values of one snapshot with protobuf's own library, deterministically.

    It is the oracle of `serialize_columns`, which writes many at a time.

    Args:
      values: Values by name: a string, a number, or a list of strings, integers or floats.
      spec: Features; it says which are floats.

    Returns:
      A serialized `tf.Example`; equal values give equal bytes.
    """
    float_names = _FLOAT_NAMES | {f.weights_name(domain.name) for domain in spec.domains}
    float_names |= {profile.name for profile in spec.profile if profile.is_number}
    int_names = {f.SNAPSHOT_TIME, f.IMPRESSION_NUM_TAGS, f.HISTORY_NUM_EVENTS}
    example = tf.train.Example()
    for name in sorted(values):
        value = values[name]
        items = value if isinstance(value, list) else [value]
        feature = example.features.feature[name]
        if name in float_names:
            feature.float_list.value.extend(items)
        elif name in int_names:
            feature.int64_list.value.extend(items)
        else:
            feature.bytes_list.value.extend(item.encode() for item in items)
    return example.SerializeToString(deterministic=True)
