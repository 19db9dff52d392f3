"""Why a user's score of a tag is what it is: attention, and what is left of it without each value.

A contribution is a difference of two scores, that of the user and that of the same user with one
thing left out, both computed by the tower that serves. It is exact for every tower, whatever its
pooling and interaction, and needs no gradient; contributions do not add up to the score, for a
tower is not linear. Which tags a user gets is not explained here, nor what training learned a
weight from.
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

# History values that the ranked outputs name.
NUM_TOP = 10
# Of users with something left out, those embedded at once, and the values of all their histories
# together: memory is bounded however long a history is.
_MAX_ROWS = 512
_MAX_VALUES = 2**17


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """Users, each with one thing left out.

    Attributes:
      users: int64 [n], places in the batch.
      features: int64 [n], the feature that lacks something, as a place in `feature_names`; -1:
        none does.
      places: int64 [n], which value of that list is left out; -1: the whole feature, as if
        nothing were known of it.
    """

    users: tf.Tensor
    features: tf.Tensor
    places: tf.Tensor


@dataclasses.dataclass(frozen=True)
class Explanation:
    """Of one tag for each user; F features, in the order of `feature_names`.

    Attributes:
      score: float [batch].
      feature_attention: float [batch, F], sums to 1.
      feature_contributions: float [batch, F], the score less that without the feature.
      attention: By list float [batch, None] beside its values, sums to 1 over them.
      contributions: By list float [batch, None], the score less that without the value.
    """

    score: tf.Tensor
    feature_attention: tf.Tensor
    feature_contributions: tf.Tensor
    attention: dict[str, tf.RaggedTensor]
    contributions: dict[str, tf.RaggedTensor]


def feature_names(spec: FeatureSpec) -> tuple[str, ...]:
    """Profile features, those that are lists last, then domains."""
    return tuple(feature.name for feature in (*spec.singles, *spec.lists))


def explain(
    model: InterestModel,
    features: Mapping[str, Any],
    score: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
) -> Explanation:
    """Explains one score of each user.

    Args:
      model: The model, called before.
      features: Of batch + 1 users, as ids: the last is one of whom nothing is known.
      score: Query embeddings float [n, U + 1] and places in the batch int64 [n], whose they are ->
        scores float [n].

    Returns:
      Of the batch.
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
    """Everything that can be left out of a batch.

    Args:
      spec: The features.
      features: Of the batch, as ids.

    Returns:
      Every user as he is; then, feature by feature, every user without it; then, list by list,
      every value left out of its user's list.
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
    """Makes the features of users who lack something.

    Args:
      spec: The features.
      features: Of batch + 1 users, as ids: the last is one of whom nothing is known.
      left_out: Of n users.

    Returns:
      Of n users.
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
    """Embeds users who lack something, some at a time.

    Args:
      model: The model.
      features: Of batch + 1 users, as ids: the last is one of whom nothing is known.
      left_out: Of n users.

    Returns:
      Query embeddings, float [n, U + 1].
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
        # Once for nobody, too, whose embeddings have a shape.
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
    """Attention by value: the mean over heads, and over the fields that pool the list.

    Args:
      tower: The tower.
      attention: What `tower.attention` gives.

    Returns:
      By list float [batch, None] beside its values; sums to 1 over them.
    """
    found = {}
    for domain in tower.spec.lists:
        fields = [
            field
            for field, feature in zip(tower.field_names, tower.field_features, strict=True)
            if feature == domain.name and field in attention
        ]
        # The bag has no fields: its shares go by the name of the domain.
        pooled = [attention[name] for name in fields or [domain.name]]
        means = [tf.reduce_mean(values.flat_values, axis=1) for values in pooled]
        found[domain.name] = pooled[0].with_flat_values(tf.add_n(means) / len(means))
    return found


def feature_attention(
    tower: UserTower, features: Mapping[str, Any], attention: Mapping[str, Any]
) -> tf.Tensor:
    """Attention by feature: the sum over its fields of what the interaction gives to each.

    `utpm`: the attention between fields, mean over heads. `afm`: half of a pair's attention goes to
    each of its fields. `autoint`: what present fields take from the field, mean over them, over
    heads and layers. Other interactions have no such attention, nor has afm of a user with one
    field: all features that the user has are equal.

    Args:
      tower: The tower.
      features: Of the batch, as ids.
      attention: What `tower.attention` gives.

    Returns:
      float [batch, F], sums to 1; 0 for an empty list. A user of whom there is nothing, not even
      a profile, has zeros.
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
    """By field, [batch, K]: sums to 1 or, of one field alone, to 0; None: the tower has none."""
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
    """An explanation as a signature gives it, beside the caller's own strings.

    Args:
      explanation: Of a batch.
      raw: Its raw features, lists string [batch, n] padded with "".
      spec: The features.

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
    # Places that are there however short the histories are.
    domains, values = [tf.fill([batch, NUM_TOP], "")], [tf.fill([batch, NUM_TOP], "")]
    contributions = [tf.zeros([batch, NUM_TOP])]
    for domain in spec.lists:
        shape = tf.shape(raw[domain.name])
        # A list may have gaps: what is said of a value stands in its own place.
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
    """The `NUM_TOP` with the largest contribution, up or down; of equal ones the first."""
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
    """The place of each flat value in its row, int64 [n]."""
    rows = values.value_rowids()
    return tf.range(tf.size(rows, tf.int64)) - tf.gather(values.row_starts(), rows)
