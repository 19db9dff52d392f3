"""Raw features to ids in the served graph: one look-up for each vocabulary.

The ids are those of `tfx_pipeline.preprocessing`, which made the training examples. TensorFlow
Transform's own graph has a table, and a chain of operations on sparse tensors, for every domain;
this one reads the same vocabulary files and handles all lists of a vocabulary together.
"""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from trainer.contract.features import (
    TAG_VOCABULARY,
    FeatureSpec,
    ListFeature,
    ProfileFeature,
    weights_name,
)
from trainer.contract.file_system import open_file
from trainer.contract.history import MIN_WEIGHT
from trainer.contract.raw_features import checked_numbers, checked_weights
from trainer.saved.user_values import UserValues, segment_of


class FeatureIds(tf.Module):
    """The vocabularies of a model, and the ids of raw features.

    Args:
      spec: The feature specification.
      vocabulary_files: Path of the file of each vocabulary, one value a line in the order of the
        ids. The vocabulary of a feature `number` holds the lower bounds of its buckets.
    """

    def __init__(self, spec: FeatureSpec, vocabulary_files: Mapping[str, str]):
        super().__init__(name="feature_ids")
        self._spec = spec
        self._sizes = {}
        self._tables = {}
        self._bounds = {}
        numbers = {feature.vocabulary_name for feature in spec.singles if feature.is_number}
        for name in vocabulary_names(spec):
            if name in numbers:
                self._bounds[name] = _read_bounds(vocabulary_files[name])
            else:
                self._tables[name] = _table(vocabulary_files[name])
                self._sizes[name] = _num_lines(vocabulary_files[name])

    def tag_ids(self, tags: tf.Tensor) -> tf.Tensor:
        """Returns the ids of tags, int64 of the shape of `tags`; -1: not in the vocabulary."""
        return self._tables[TAG_VOCABULARY].lookup(tags)

    def __call__(self, raw: Mapping[str, tf.Tensor]) -> UserValues:
        """Looks up the ids of raw features.

        Args:
          raw: Raw features as `trainer.contract.raw_features.raw_signature` describes them.

        Returns:
          The ids of all users. Values are in order of their vocabulary, user and list.

        Raises:
          tf.errors.InvalidArgumentError: In the graph: a weight is negative or not finite, a number
            is infinite, weights have another shape than their values, or features are of different
            numbers of users.
        """
        singles = [self._single_ids(feature, raw) for feature in self._spec.singles]
        parts = [self._list_values(name, lists, raw) for name, lists in self._by_vocabulary()]
        columns = [tf.concat(column, axis=0) for column in zip(*parts, strict=True)] or [
            *(tf.zeros([0], tf.int64) for _ in range(3)),
            tf.zeros([0]),
        ]
        # Columns of no width, which refuse features of different numbers of users.
        widths = [self._no_columns(lists, raw) for _, lists in self._by_vocabulary()]
        stacked = [tf.stack(singles, axis=1)] if singles else []
        return UserValues(tf.concat([*stacked, *widths], axis=1), *columns)

    def columns(self, raw: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Returns where the callers wrote the values.

        Args:
          raw: Raw features, as for a call.

        Returns:
          int64 [n], for each value of `UserValues` its column in the raw lists, side by side in the
          order of `FeatureSpec.lists`.
        """
        widths = [tf.shape(raw[listed.name], tf.int64)[1] for listed in self._spec.lists]
        found = []
        for _, lists in self._by_vocabulary():
            at = [self._spec.lists.index(listed) for listed in lists]
            columns = [
                tf.range(widths[i]) + tf.add_n([tf.constant(0, tf.int64), *widths[:i]]) for i in at
            ]
            places = tf.where(tf.not_equal(_texts(lists, raw), ""))
            found.append(tf.gather(tf.concat(columns, axis=0), places[:, 1]))
        return tf.concat(found, axis=0) if found else tf.zeros([0], tf.int64)

    def _no_columns(self, lists: list[ListFeature], raw: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Returns int64 [batch, 0]."""
        return tf.zeros(tf.stack([tf.shape(raw[lists[0].name])[0], 0]), tf.int64)

    def _by_vocabulary(self) -> list[tuple[str, list[ListFeature]]]:
        groups: dict[str, list[ListFeature]] = {}
        for listed in self._spec.lists:
            groups.setdefault(listed.vocabulary_name, []).append(listed)
        return list(groups.items())

    def _list_values(
        self, vocabulary: str, lists: list[ListFeature], raw: Mapping[str, tf.Tensor]
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns user, list, id and weight of each value of the lists of one vocabulary."""
        places_of_lists = [self._spec.lists.index(listed) for listed in lists]
        texts = _texts(lists, raw)
        widths = tf.stack([tf.shape(raw[listed.name], tf.int64)[1] for listed in lists])
        places = tf.where(tf.not_equal(texts, ""))
        ids = self._ids(vocabulary, tf.gather_nd(texts, places), _num_oov(self._spec, lists[0]))
        weights = tf.concat([_weights(listed, raw) for listed in lists], axis=1)
        return (
            places[:, 0],
            tf.gather(
                tf.constant(places_of_lists, tf.int64),
                segment_of(tf.cumsum(widths), places[:, 1]),
            ),
            ids,
            tf.gather_nd(weights, places),
        )

    def _single_ids(self, feature: ProfileFeature, raw: Mapping[str, tf.Tensor]) -> tf.Tensor:
        name, column = feature.vocabulary_name, raw[feature.name]
        if not feature.is_number:
            ids = self._ids(name, column, feature.num_oov_buckets)
            return tf.where(tf.equal(column, ""), tf.zeros_like(ids), ids + 1)
        numbers = checked_numbers(raw, feature.name)
        ids = segment_of(tf.constant(self._bounds[name]), numbers)
        return tf.where(tf.math.is_nan(numbers), tf.zeros_like(ids), tf.maximum(ids, 1))

    def _ids(self, vocabulary: str, texts: tf.Tensor, num_oov_buckets: int) -> tf.Tensor:
        """Returns ids in a vocabulary; a value that it lacks gets a hash bucket after it."""
        ids = self._tables[vocabulary].lookup(texts)
        buckets = tf.strings.to_hash_bucket_fast(texts, num_oov_buckets) + self._sizes[vocabulary]
        return tf.where(ids < 0, buckets, ids)


def vocabulary_names(spec: FeatureSpec) -> list[str]:
    """Returns the names of the vocabularies of all features, that of the tags first."""
    names = [feature.vocabulary_name for feature in (*spec.singles, *spec.lists)]
    return list(dict.fromkeys([TAG_VOCABULARY, *names]))


def _num_oov(spec: FeatureSpec, listed: ListFeature) -> int:
    if isinstance(listed, ProfileFeature):
        return listed.num_oov_buckets
    return spec.vocabulary(listed.vocabulary_name).num_oov_buckets


def _texts(lists: list[ListFeature], raw: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """Returns the raw values of some lists side by side, string [batch, n]."""
    return tf.concat([raw[listed.name] for listed in lists], axis=1)


def _weights(listed: ListFeature, raw: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """Returns the weights of a list, float32 [batch, n]; any number where there is padding."""
    values = raw[listed.name]
    if not listed.has_weights:
        return tf.ones_like(values, tf.float32)
    weights = tf.maximum(checked_weights(raw, weights_name(listed.name)), MIN_WEIGHT)
    # This operation, unlike `tf.where`, refuses weights of another shape than the values.
    return tf.raw_ops.Select(condition=tf.not_equal(values, ""), x=weights, y=weights)


def _table(path: str) -> tf.lookup.StaticHashTable:
    initializer = tf.lookup.TextFileInitializer(
        path,
        key_dtype=tf.string,
        key_index=tf.lookup.TextFileIndex.WHOLE_LINE,
        value_dtype=tf.int64,
        value_index=tf.lookup.TextFileIndex.LINE_NUMBER,
    )
    return tf.lookup.StaticHashTable(initializer, default_value=-1)


def _num_lines(path: str) -> int:
    with open_file(path, "rb") as file:
        return sum(1 for _ in file)


def _read_bounds(path: str) -> np.ndarray:
    """Returns the lower bounds of buckets, float32 [n], ascending."""
    with open_file(path) as file:
        return np.sort(np.array([np.float32(line) for line in file], np.float32))
