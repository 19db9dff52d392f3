"""Explains a user's score of a tag: attention, and contributions of features and values.

A contribution is the difference of two scores, that of the user and that of the same user with one
feature or value left out, both computed by the tower that serves. It is exact for every tower,
whatever its pooling and interaction, and needs no gradient; contributions do not add up to the
score, because a tower is not linear. The module does not explain which tags a user gets, nor from
which data training learned a weight.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from trainer.contract import signatures as s
from trainer.contract.features import FeatureSpec, weights_name
from trainer.model import InterestModel
from trainer.towers.user_fields import num_users, profile_ids, with_row_ids
from trainer.towers.user_tower import UserTower

# Number of values in the ranked outputs.
NUM_TOP = 10
# Users with something left out that are embedded at once, and the values in all their histories:
# these limits bound memory, however long a history is.
_MAX_ROWS = 512
_MAX_VALUES = 2**17


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """Users, each with one feature or value left out.

    Attributes:
      users: int64 [n], users' places in the batch.
      features: int64 [n], place in `feature_names` of the feature that is left out, or that lacks a
        value; -1: nothing is left out.
      places: int64 [n], place in its list of the value that is left out; -1: the whole feature is
        left out, as if it were unknown.
    """

    users: tf.Tensor
    features: tf.Tensor
    places: tf.Tensor


@dataclasses.dataclass(frozen=True)
class Explanation:
    """Explanations of the scores of one tag for each user, with F features as in `feature_names`.

    Attributes:
      score: float [batch], scores.
      feature_attention: float [batch, F], attention by feature, sums to 1.
      feature_contributions: float [batch, F], score minus the score without the feature.
      attention: float [batch, None] by list, attention to its values, sums to 1 over them.
      contributions: float [batch, None] by list, score minus the score without the value.
    """

    score: tf.Tensor
    feature_attention: tf.Tensor
    feature_contributions: tf.Tensor
    attention: dict[str, tf.RaggedTensor]
    contributions: dict[str, tf.RaggedTensor]


def feature_names(spec: FeatureSpec) -> tuple[str, ...]:
    """Returns the names of profile features, those that are lists last, then of domains."""
    return tuple(feature.name for feature in (*spec.singles, *spec.lists))


def explain(
    model: InterestModel,
    features: Mapping[str, Any],
    score: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
) -> Explanation:
    """Explains one score of each user.

    Args:
      model: The model, called before.
      features: Features of batch + 1 users, as ids; of the last user nothing is known.
      score: Function from query embeddings float [n, U + 1] and their users' places in the batch
        int64 [n] to scores float [n].

    Returns:
      The explanations of the batch.
    """
    spec = model.spec
    users = {
        name: with_row_ids(column[:-1]) if isinstance(column, tf.RaggedTensor) else column[:-1]
        for name, column in features.items()
    }
    left_out = each_left_out(spec, users)
    scores = score(embed_without(model, features, left_out), left_out.users)
    batch, num_features = num_users(users, spec), len(feature_names(spec))
    lengths = [users[domain.name].flat_values for domain in spec.lists]
    sizes = [batch, batch * num_features, *(tf.size(values, tf.int64) for values in lengths)]
    full, without_features, *without_values = tf.split(scores, tf.stack(sizes), num=len(sizes))
    without_features = tf.transpose(tf.reshape(without_features, [num_features, batch]))
    contributions = {}
    for domain, without in zip(spec.lists, without_values, strict=True):
        values = users[domain.name]
        differences = tf.gather(full, values.value_rowids()) - without
        contributions[domain.name] = values.with_flat_values(differences)
    attention = model.user_tower.attention(users)
    return Explanation(
        full,
        feature_attention(model.user_tower, users, attention),
        full[:, tf.newaxis] - without_features,
        value_attention(model.user_tower, attention),
        contributions,
    )


def each_left_out(spec: FeatureSpec, features: Mapping[str, Any]) -> LeftOut:
    """Lists all features and values that can be left out of a batch.

    Args:
      spec: The feature specification.
      features: Features of the batch, as ids.

    Returns:
      Every user with nothing left out; then, feature by feature, every user without it; then, list
      by list, each value left out of its user's list.
    """
    batch = num_users(features, spec)
    names = feature_names(spec)
    everybody, nothing = tf.range(batch), tf.fill([batch], tf.constant(-1, tf.int64))
    users, lacking, places = [everybody], [nothing], [nothing]
    for index in range(len(names)):
        users.append(everybody)
        lacking.append(tf.zeros_like(everybody) + index)
        places.append(nothing)
    for domain in spec.lists:
        rows = features[domain.name].value_rowids()
        users.append(rows)
        lacking.append(tf.zeros_like(rows) + names.index(domain.name))
        places.append(_places(features[domain.name]))
    return LeftOut(tf.concat(users, 0), tf.concat(lacking, 0), tf.concat(places, 0))


def without(spec: FeatureSpec, features: Mapping[str, Any], left_out: LeftOut) -> dict[str, Any]:
    """Makes the features of users with something left out.

    Args:
      spec: The feature specification.
      features: Features of batch + 1 users, as ids; of the last user nothing is known.
      left_out: The feature or value that is left out of each of n users.

    Returns:
      Features of the n users, as ids.
    """
    nobody = num_users(features, spec) - 1
    found: dict[str, Any] = {}
    for index, name in enumerate(feature_names(spec)):
        is_here = left_out.features == index
        rows = tf.where(is_here & (left_out.places < 0), nobody, left_out.users)
        if index < len(spec.singles):
            found[name] = tf.gather(profile_ids(features, name), rows)
            continue
        values = with_row_ids(tf.gather(features[name], rows))
        lacking = tf.where(is_here, left_out.places, -1)
        keep = _places(values) != tf.gather(lacking, values.value_rowids())
        kept_rows = tf.boolean_mask(values.value_rowids(), keep)
        columns = {name: values}
        if weights_name(name) in features:
            columns[weights_name(name)] = tf.gather(features[weights_name(name)], rows)
        for column, ragged in columns.items():
            found[column] = tf.RaggedTensor.from_value_rowids(
                tf.boolean_mask(ragged.flat_values, keep), kept_rows, values.nrows(), validate=False
            )
    return found


def embed_without(
    model: InterestModel, features: Mapping[str, Any], left_out: LeftOut
) -> tf.Tensor:
    """Embeds users with something left out, some at a time.

    Args:
      model: The model.
      features: Features of batch + 1 users, as ids; of the last user nothing is known.
      left_out: The feature or value that is left out of each of n users.

    Returns:
      float [n, U + 1], query embeddings.
    """
    spec = model.spec
    lengths = [features[domain.name].row_lengths() for domain in spec.lists]
    longest = tf.reduce_max(tf.add_n(lengths)) if lengths else tf.constant(0, tf.int64)
    num_rows = tf.clip_by_value(_MAX_VALUES // tf.maximum(longest, 1), 1, _MAX_ROWS)
    num_left_out = tf.size(left_out.users, tf.int64)

    def embed_some(chunk: tf.Tensor, embedded: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
        some = slice(chunk * num_rows, (chunk + 1) * num_rows)
        part = LeftOut(left_out.users[some], left_out.features[some], left_out.places[some])
        queries = model.query_embeddings(without(spec, features, part))
        return chunk + 1, embedded.write(tf.cast(chunk, tf.int32), queries)

    size = model.query_dim
    _, embedded = tf.while_loop(
        # The first iteration runs also without users, so that the embeddings have a shape.
        lambda chunk, _: (chunk == 0) | (chunk * num_rows < num_left_out),
        embed_some,
        (
            tf.constant(0, tf.int64),
            tf.TensorArray(
                tf.float32, 0, dynamic_size=True, infer_shape=False, element_shape=[None, size]
            ),
        ),
        parallel_iterations=1,
    )
    return embedded.concat()


def value_attention(tower: UserTower, attention: Mapping[str, Any]) -> dict[str, tf.RaggedTensor]:
    """Computes attention by value: the mean over heads, and over the fields that pool the list.

    Args:
      tower: The user tower.
      attention: Attention weights that `tower.attention` returns.

    Returns:
      float [batch, None] by list, attention to its values; sums to 1 over them.
    """
    found = {}
    for domain in tower.spec.lists:
        fields = [
            field
            for field, feature in zip(tower.field_names, tower.field_features, strict=True)
            if feature == domain.name and field in attention
        ]
        # The bag has no fields: its shares have the name of the domain.
        pooled = [attention[name] for name in fields or [domain.name]]
        means = [tf.reduce_mean(values.flat_values, axis=1) for values in pooled]
        found[domain.name] = pooled[0].with_flat_values(tf.add_n(means) / len(means))
    return found


def feature_attention(
    tower: UserTower, features: Mapping[str, Any], attention: Mapping[str, Any]
) -> tf.Tensor:
    """Computes attention by feature: the sum over its fields of the interaction's attention.

    `utpm`: the attention between fields, mean over heads. `afm`: half of a pair's attention goes to
    each of its fields. `autoint`: the attention of present fields to the field, mean over them,
    over heads and layers. Other interactions have no attention, nor has `afm` for a user with one
    field: all features that the user has then get equal shares.

    Args:
      tower: The user tower.
      features: Features of the batch, as ids.
      attention: Attention weights that `tower.attention` returns.

    Returns:
      float [batch, F], sums to 1; 0 for an empty list. A user without any feature, not even a
      profile feature, has zeros.
    """
    spec = tower.spec
    is_profile = tf.ones([num_users(features, spec), len(spec.singles)])
    lengths = [features[domain.name].row_lengths()[:, tf.newaxis] for domain in spec.lists]
    present = tf.concat([is_profile, *(tf.cast(n > 0, tf.float32) for n in lengths)], axis=1)
    equal = tf.math.divide_no_nan(present, tf.reduce_sum(present, axis=1, keepdims=True))
    by_field = _field_attention(tower, attention)
    if by_field is None:
        return equal
    names = feature_names(spec)
    places = [names.index(feature) for feature in tower.field_features]
    shares = tf.matmul(by_field, np.eye(len(names), dtype=np.float32)[places])
    return tf.where(tf.reduce_sum(shares, axis=1, keepdims=True) > 0, shares, equal)


def _field_attention(tower: UserTower, attention: Mapping[str, Any]) -> tf.Tensor | None:
    """Returns attention by field [batch, K], sum 1, or 0 for one field alone; None without any."""
    if tower.bag is not None:
        return None
    if "fields" in attention:
        return tf.reduce_mean(attention["fields"], axis=2)
    names = tower.field_names
    if "field_pairs" in attention:
        halves = np.zeros([len(tower.field_pairs), len(names)], np.float32)
        for row, pair in enumerate(tower.field_pairs):
            halves[row, [names.index(name) for name in pair]] = 0.5
        return tf.matmul(attention["field_pairs"], halves)
    if "field_self_attention" in attention:
        weights = attention["field_self_attention"]
        taken = tf.reduce_mean(tf.reduce_sum(weights, axis=3), axis=[1, 2])
        return tf.math.divide_no_nan(taken, tf.reduce_sum(taken, axis=1, keepdims=True))
    return None


def padded_outputs(
    explanation: Explanation, raw: Mapping[str, tf.Tensor], spec: FeatureSpec
) -> dict[str, tf.Tensor]:
    """Converts explanations to the outputs of a signature, aligned with the caller's strings.

    Args:
      explanation: Explanations of a batch.
      raw: Raw features of the batch, lists string [batch, n] padded with "".
      spec: The feature specification.

    Returns:
      The outputs that `trainer.contract.signatures.EXPLAIN` lists.
    """
    batch = tf.shape(explanation.score)[0]
    names = tf.constant(feature_names(spec), tf.string)
    outputs = {
        s.SCORE: explanation.score,
        s.FEATURES: tf.repeat(names[tf.newaxis], batch, axis=0),
        s.ATTENTION_BY_FEATURE: explanation.feature_attention,
        s.CONTRIBUTIONS_BY_FEATURE: explanation.feature_contributions,
    }
    # Padding, so that there are enough places however short the histories are.
    domains, values = [tf.fill([batch, NUM_TOP], "")], [tf.fill([batch, NUM_TOP], "")]
    contributions = [tf.zeros([batch, NUM_TOP])]
    for domain in spec.lists:
        shape = tf.shape(raw[domain.name])
        # A list may have gaps; the outputs for a value are in the value's own place.
        own_places = tf.where(tf.not_equal(raw[domain.name], ""))
        for name, ragged in (
            (s.attention_of(domain.name), explanation.attention[domain.name]),
            (s.contributions_of(domain.name), explanation.contributions[domain.name]),
        ):
            outputs[name] = tf.scatter_nd(
                own_places, ragged.flat_values, tf.cast(shape, own_places.dtype)
            )
        domains.append(tf.fill(shape, domain.name))
        values.append(raw[domain.name])
        contributions.append(outputs[s.contributions_of(domain.name)])
    columns = {
        s.TOP_DOMAINS: tf.concat(domains, 1),
        s.TOP_VALUES: tf.concat(values, 1),
        s.TOP_CONTRIBUTIONS: tf.concat(contributions, 1),
    }
    return outputs | _top(columns)


def _top(columns: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Returns the `NUM_TOP` values with the largest contributions, up or down; ties in order."""
    sizes = tf.abs(columns[s.TOP_CONTRIBUTIONS])
    is_there = (columns[s.TOP_VALUES] != "") & ~tf.math.is_nan(sizes)
    sizes, order = tf.math.top_k(tf.where(is_there, sizes, -1.0), k=NUM_TOP)
    return {
        name: tf.where(
            sizes >= 0, tf.gather(column, order, batch_dims=1), tf.zeros([], column.dtype)
        )
        for name, column in columns.items()
    }


def _places(values: tf.RaggedTensor) -> tf.Tensor:
    """Returns the place of each flat value in its row, int64 [n]."""
    rows = values.value_rowids()
    return tf.range(tf.size(rows, tf.int64)) - tf.gather(values.row_starts(), rows)
