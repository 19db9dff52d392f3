"""Explains a user's score of a tag: attention, and contributions of features and values.

A contribution is the difference of two scores, that of the user and that of the same user with one
feature or value left out, both computed by the tower that serves. It is exact for every tower,
whatever its pooling and interaction, and needs no gradient; contributions do not add up to the
score, because a tower is not linear. The module does not explain which tags a user gets, nor from
which data training learned a weight.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import NamedTuple

import tensorflow as tf

from trainer.contract import signatures as s
from trainer.contract.features import FeatureSpec
from trainer.saved.served_tower import ServedTower
from trainer.saved.user_values import UserValues, segment_of

# Number of values in the ranked outputs.
NUM_TOP = 10
# Users with something left out that are embedded at once, and the values in all their histories:
# these limits bound memory, however long a history is.
_MAX_ROWS = 512
_MAX_VALUES = 2**17


class LeftOut(NamedTuple):
    """Users, each with one feature or value left out.

    Attributes:
      users: int64 [n], users' places in the batch.
      features: int64 [n], place in `feature_names` of the feature that is left out; -1: none.
      values: int64 [n], place in `UserValues` of the value that is left out; -1: none.
    """

    users: tf.Tensor
    features: tf.Tensor
    values: tf.Tensor


@dataclasses.dataclass(frozen=True)
class Explanation:
    """Explanations of the scores of one tag for each user, with F features as in `feature_names`.

    Attributes:
      score: float [batch], scores.
      feature_attention: float [batch, F], attention by feature, sums to 1.
      feature_contributions: float [batch, F], score minus the score without the feature.
      value_attention: float [n], attention to each value, sums to 1 over the values of a list.
      value_contributions: float [n], score minus the score without the value.
    """

    score: tf.Tensor
    feature_attention: tf.Tensor
    feature_contributions: tf.Tensor
    value_attention: tf.Tensor
    value_contributions: tf.Tensor


def feature_names(spec: FeatureSpec) -> tuple[str, ...]:
    """Returns the names of profile features, those that are lists last, then of domains."""
    return tuple(feature.name for feature in (*spec.singles, *spec.lists))


def explain(
    tower: ServedTower,
    values: UserValues,
    score: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    embed: Callable[..., tf.Tensor] | None = None,
) -> Explanation:
    """Explains one score of each user.

    Args:
      tower: The user tower.
      values: Ids of the features of a batch of users.
      score: Function from query embeddings float [n, U + R + 1] and their users' places in the
        batch int64 [n] to scores float [n].
      embed: Function from the columns of `UserValues` to query embeddings; None: that of the tower.

    Returns:
      The explanations of the batch.
    """
    left_out = each_left_out(tower.spec, values)
    queries = embed_without(tower, values, left_out, embed)
    scores = score(queries, left_out.users)
    batch, num_features = values.num_users, len(feature_names(tower.spec))
    sizes = tf.stack([batch, batch * num_features, tf.size(values.ids, tf.int64)])
    full, without_features, without_values = tf.split(scores, sizes, num=3)
    without_features = tf.transpose(tf.reshape(without_features, [num_features, batch]))
    value_attention, feature_attention = tower.attention(values)
    return Explanation(
        full,
        feature_attention,
        full[:, tf.newaxis] - without_features,
        value_attention,
        tf.gather(full, values.users) - without_values,
    )


def each_left_out(spec: FeatureSpec, values: UserValues) -> LeftOut:
    """Lists all features and values that can be left out of a batch.

    Args:
      spec: The feature specification.
      values: Ids of the features of the batch.

    Returns:
      Every user with nothing left out; then, feature by feature, every user without it; then each
      value left out of its user's list.
    """
    batch, num_values = values.num_users, tf.size(values.ids, tf.int64)
    num_features = len(feature_names(spec))
    everybody = tf.range(batch)
    nothing = tf.constant(-1, tf.int64)
    return LeftOut(
        tf.concat([tf.tile(everybody, [num_features + 1]), values.users], axis=0),
        tf.concat(
            [
                tf.range((num_features + 1) * batch) // tf.maximum(batch, 1) - 1,
                tf.fill([num_values], nothing),
            ],
            axis=0,
        ),
        tf.concat([tf.fill([(num_features + 1) * batch], nothing), tf.range(num_values)], axis=0),
    )


def without(
    spec: FeatureSpec, values: UserValues, order: tf.Tensor, starts: tf.Tensor, left_out: LeftOut
) -> UserValues:
    """Makes the features of users with something left out.

    Args:
      spec: The feature specification.
      values: Ids of the features of the batch.
      order: int64 [n], places of the values, user by user.
      starts: int64 [batch + 1], place in `order` where the values of each user begin.
      left_out: The feature or value that is left out of each of m users.

    Returns:
      Ids of the features of the m users.
    """
    first = tf.gather(starts, left_out.users)
    lengths = tf.gather(starts, left_out.users + 1) - first
    ends = tf.cumsum(lengths)
    every = tf.range(tf.reduce_sum(lengths))
    rows = segment_of(ends, every)
    # The place within the user's values: 0, 1, 2, ...
    within = every - tf.gather(ends - lengths, rows)
    places = tf.gather(order, tf.gather(first, rows) + within)
    lists = tf.gather(values.lists, places)
    is_kept = (lists + len(spec.singles) != tf.gather(left_out.features, rows)) & (
        places != tf.gather(left_out.values, rows)
    )
    kept = tf.where(is_kept)[:, 0]
    places = tf.gather(places, kept)
    singles = tf.gather(values.singles, left_out.users)
    is_unknown = left_out.features[:, tf.newaxis] == tf.range(len(spec.singles), dtype=tf.int64)
    return UserValues(
        tf.where(is_unknown, tf.zeros_like(singles), singles),
        tf.gather(rows, kept),
        tf.gather(lists, kept),
        tf.gather(values.ids, places),
        tf.gather(values.weights, places),
    )


def embed_without(
    tower: ServedTower,
    values: UserValues,
    left_out: LeftOut,
    embed: Callable[..., tf.Tensor] | None = None,
) -> tf.Tensor:
    """Embeds users with something left out, some at a time.

    Args:
      tower: The user tower.
      values: Ids of the features of the batch.
      left_out: The feature or value that is left out of each of m users.
      embed: Function from the columns of `UserValues` to query embeddings; None: that of the tower.

    Returns:
      float [m, U + R + 1], query embeddings.
    """
    spec = tower.spec
    order = tf.cast(tf.argsort(values.users, stable=True), tf.int64)
    lengths = tf.math.bincount(
        tf.cast(values.users, tf.int32), minlength=tf.shape(values.singles)[0], dtype=tf.int64
    )
    starts = tf.pad(tf.cumsum(lengths), [[1, 0]])
    longest = tf.reduce_max(tf.concat([lengths, [1]], axis=0))
    num_rows = tf.clip_by_value(_MAX_VALUES // longest, 1, _MAX_ROWS)
    num_left_out = tf.size(left_out.users, tf.int64)

    def embed_some(chunk: tf.Tensor, embedded: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
        some = slice(chunk * num_rows, (chunk + 1) * num_rows)
        part = without(spec, values, order, starts, LeftOut(*(column[some] for column in left_out)))
        queries = tower.query_embeddings(part) if embed is None else embed(*part)
        return chunk + 1, embedded.write(tf.cast(chunk, tf.int32), queries)

    _, embedded = tf.while_loop(
        # The first iteration runs also without users, so that the embeddings have a shape.
        lambda chunk, _: (chunk == 0) | (chunk * num_rows < num_left_out),
        embed_some,
        (
            tf.constant(0, tf.int64),
            tf.TensorArray(
                tf.float32,
                0,
                dynamic_size=True,
                infer_shape=False,
                element_shape=[None, tower.query_dim],
            ),
        ),
        parallel_iterations=1,
    )
    return embedded.concat()


def padded_outputs(
    explanation: Explanation,
    values: UserValues,
    columns: tf.Tensor,
    raw: Mapping[str, tf.Tensor],
    spec: FeatureSpec,
) -> dict[str, tf.Tensor]:
    """Converts explanations to the outputs of a signature, aligned with the caller's strings.

    Args:
      explanation: Explanations of a batch.
      values: Ids of the features of the batch.
      columns: int64 [n], column of each value in the raw lists, see `FeatureIds.columns`.
      raw: Raw features of the batch, lists string [batch, n] padded with "".
      spec: The feature specification.

    Returns:
      The outputs that `trainer.contract.signatures.EXPLAIN` lists.
    """
    batch = tf.shape(explanation.score)[0]
    names = tf.constant(feature_names(spec), tf.string)
    outputs = {
        s.SCORE: explanation.score,
        s.FEATURES: tf.tile(names[tf.newaxis], [batch, 1]),
        s.ATTENTION_BY_FEATURE: explanation.feature_attention,
        s.CONTRIBUTIONS_BY_FEATURE: explanation.feature_contributions,
    }
    # Padding, so that there are enough places however short the histories are.
    nothing = tf.fill([batch, NUM_TOP], "")
    texts = tf.concat([*(raw[listed.name] for listed in spec.lists), nothing], axis=1)
    widths = [tf.shape(raw[listed.name])[1] for listed in spec.lists] + [NUM_TOP]
    # A list may have gaps; the outputs for a value are in the value's own place.
    by_value = tf.scatter_nd(
        tf.stack([values.users, columns], axis=1),
        tf.stack([explanation.value_attention, explanation.value_contributions], axis=1),
        tf.concat([tf.shape(texts, tf.int64), [2]], axis=0),
    )
    by_list = tf.split(by_value, tf.stack(widths), axis=1, num=len(widths))
    for listed, own in zip(spec.lists, by_list, strict=False):
        outputs[s.attention_of(listed.name)] = own[:, :, 0]
        outputs[s.contributions_of(listed.name)] = own[:, :, 1]
    ends = tf.cumsum(tf.stack(widths))
    lists = tf.gather(
        tf.constant([*(listed.name for listed in spec.lists), ""]),
        segment_of(ends, tf.range(ends[-1])),
    )
    top = {
        s.TOP_DOMAINS: tf.tile(lists[tf.newaxis], [batch, 1]),
        s.TOP_VALUES: texts,
        s.TOP_CONTRIBUTIONS: by_value[:, :, 1],
    }
    return outputs | _top(top)


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
