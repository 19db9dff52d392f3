"""Ids as TensorFlow Transform's own graph makes them, the oracle of `trainer.saved.feature_ids`."""

import tensorflow as tf

from trainer.contract.features import weights_name
from trainer.contract.history import MIN_WEIGHT


def transform_inputs(raw, spec):
    """Raw features as inputs of the transform: single values [batch, 1], lists without gaps."""
    inputs = {single.name: raw[single.name][:, tf.newaxis] for single in spec.singles}
    for listed in spec.lists:
        is_value = tf.not_equal(raw[listed.name], "")
        columns = {listed.name: raw[listed.name]}
        if listed.has_weights:
            name = weights_name(listed.name)
            columns[name] = tf.maximum(raw[name], MIN_WEIGHT)
        for name, column in columns.items():
            inputs[name] = tf.ragged.boolean_mask(column, is_value).to_sparse()
    return inputs


def model_features(transform_output, raw, spec):
    """Features of the model, as the Trainer reads them."""
    inputs = transform_inputs(raw, spec)
    transformed = transform_output.transform_features_layer()(inputs)
    return {
        name: tf.RaggedTensor.from_sparse(value) if isinstance(value, tf.SparseTensor) else value
        for name, value in transformed.items()
        if name in inputs
    }


def user_values(features, spec):
    """Features of the model in the form of `UserValues`: the lists in order, user by user."""
    from trainer.saved.user_values import UserValues

    singles = [tf.reshape(tf.cast(features[x.name], tf.int64), [-1]) for x in spec.singles]
    lists = [features[listed.name] for listed in spec.lists]
    num_users = len(singles[0]) if singles else lists[0].nrows()
    users, places, ids, weights = [], [], [], []
    for place, (listed, values) in enumerate(zip(spec.lists, lists, strict=True)):
        rows = values.value_rowids()
        users.append(rows)
        places.append(tf.zeros_like(rows) + place)
        ids.append(tf.cast(values.flat_values, tf.int64))
        own = tf.ones(tf.shape(rows))
        if listed.has_weights:
            own = features[weights_name(listed.name)].flat_values
        weights.append(own)
    columns = [tf.concat(column, axis=0) for column in (users, places, ids)] if lists else []
    columns = columns or [tf.zeros([0], tf.int64)] * 3
    stacked = tf.stack(singles, axis=1) if singles else tf.zeros([num_users, 0], tf.int64)
    return UserValues(stacked, *columns, tf.concat([*weights, tf.zeros([0])], axis=0))
