"""The fields of a user: vectors of profile features and behaviour domains, and which are present.

All towers make fields in this way; an interaction combines them.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from trainer.config import ModelConfig
from trainer.contract.config_loader import require
from trainer.contract.features import (
    TAG_VOCABULARY,
    Domain,
    FeatureSpec,
    ListFeature,
    profile_vocabulary_name,
    weights_name,
)
from trainer.towers import domain_attention
from trainer.towers.domain_attention import IntraDomainAttention, value_shares, weighted_sum
from trainer.towers.embedding_tables import EmbeddingTable
from trainer.towers.field_interactions.registry import ATTENTION_NAMES
from trainer.towers.tag_tower import TagTower


def num_rows(vocabulary_sizes: Mapping[str, int], vocabulary: str) -> int:
    """Returns the number of ids of a vocabulary.

    Args:
      vocabulary_sizes: Numbers of ids by vocabulary name, with hash buckets.
      vocabulary: Name of the vocabulary.

    Returns:
      The number of ids, with hash buckets.

    Raises:
      ValueError: The vocabulary has no size.
    """
    require(
        vocabulary in vocabulary_sizes, "vocabulary_sizes", f"contain `{vocabulary}`", "nothing"
    )
    return vocabulary_sizes[vocabulary]


def profile_ids(features: Mapping[str, Any], name: str) -> tf.Tensor:
    """Returns the ids of a profile feature with one value, int [batch]."""
    return tf.reshape(features[name], [-1])


def domain_values(
    features: Mapping[str, Any], domain: ListFeature, use_weights: bool
) -> tuple[tf.RaggedTensor, tf.RaggedTensor | None]:
    """Returns a list's ids and, if it has weights and they are used, these, both [batch, None]."""
    values = with_row_ids(features[domain.name])
    if not (use_weights and domain.has_weights):
        return values, None
    weights = features[weights_name(domain.name)]
    is_sparse = isinstance(weights, tf.SparseTensor)
    return values, values.with_flat_values(weights.values if is_sparse else weights.flat_values)


def with_row_ids(column: tf.RaggedTensor | tf.SparseTensor) -> tf.RaggedTensor:
    """Returns the same lists in a form that stores the row of each value.

    For other forms TensorFlow computes the rows each time that they are used, by some seventy
    operations and a mask of rows times the longest list.
    """
    ragged = tf.RaggedTensor.from_sparse(column) if isinstance(column, tf.SparseTensor) else column
    return tf.RaggedTensor.from_value_rowids(
        ragged.flat_values, ragged.value_rowids(), ragged.nrows(), validate=False
    )


def total_input(values: tf.RaggedTensor, weights: tf.RaggedTensor | None) -> tf.Tensor:
    """Computes the length of a history as log(1 + total weight) / 5, float [batch]; 0 if empty.

    The divisor 5 makes it of order 1 for usual histories of some hundred events. Without weights it
    tells only whether there is a history.
    """
    is_there = tf.cast(values.row_lengths() > 0, tf.float32)
    total = is_there
    if weights is not None:
        rows, num_rows = weights.value_rowids(), weights.nrows()
        total = tf.math.unsorted_segment_sum(weights.flat_values, rows, num_rows)
    return tf.math.log1p(total) / 5.0


def num_users(features: Mapping[str, Any], spec: FeatureSpec) -> tf.Tensor:
    """Returns the number of users of a batch, int scalar."""
    if spec.singles:
        return tf.size(features[spec.singles[0].name], out_type=tf.int64)
    column = features[spec.lists[0].name]
    return column.dense_shape[0] if isinstance(column, tf.SparseTensor) else column.nrows(tf.int64)


class UserFields(tf_keras.layers.Layer):
    """Layer that makes the fields of a user, the same for every interaction.

    The fields (UTPM, doi 10.1145/3340531.3412719) are: a profile feature with one value; a profile
    feature that is a list, its values pooled by an attention of its own or by their average; a
    domain, pooled in the same way, each value with the multiplicity w_i; with `log_count_fields`
    the domain once more with the multiplicity log(1 + w_i); with `use_domain_totals` the length of
    its history, as log(1 + sum_i w_i) / 5 times a vector. With attention a field has a vector for
    each head; single values and totals repeat one vector.

    Args:
      spec: The feature specification.
      vocabulary_sizes: Numbers of ids by vocabulary name (`profile_vocabulary_name` for profile
        features), with the hash buckets for unknown values.
      config: Configuration of the model.
      seeds: Seeds of the initial values.
      tag_tower: Tag tower whose table domains of tags use; None: they have tables of their own.

    Raises:
      ValueError: A vocabulary has no size, or two fields would have one name.
    """

    def __init__(
        self,
        spec: FeatureSpec,
        vocabulary_sizes: Mapping[str, int],
        config: ModelConfig,
        seeds: Iterator[int],
        tag_tower: TagTower | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.spec = spec
        self.config = config
        names = (*self.field_names, *ATTENTION_NAMES)
        repeated = sorted({name for name in names if names.count(name) > 1})
        require(not repeated, "domains", "have fields of other names", ", ".join(repeated))
        self._shared = tag_tower
        self._tables: dict[str, tf.Variable] = {}
        self._totals: dict[str, tf.Variable] = {}
        self._add_tables(vocabulary_sizes, seeds)
        self.queries: tf.Variable | None = None
        self.intra_attention: dict[str, IntraDomainAttention] = {}
        if config.effective_pooling == "attention":
            self._add_attention(seeds)

    def _add_tables(self, vocabulary_sizes: Mapping[str, int], seeds: Iterator[int]) -> None:
        size = self.config.embedding_dim

        def add(name: str, rows: int) -> tf.Variable:
            initializer = tf_keras.initializers.RandomNormal(stddev=size**-0.5, seed=next(seeds))
            return self.add_weight(name, [rows, size], initializer=initializer)

        for feature in self.spec.singles:
            rows = num_rows(vocabulary_sizes, profile_vocabulary_name(feature.name))
            self._tables[feature.name] = add(feature.name, rows)
        for domain in self.spec.lists:
            rows = num_rows(vocabulary_sizes, domain.vocabulary_name) - self._first_id(domain)
            # With a shared table these rows are the buckets for unknown values alone.
            require(rows >= 1, "vocabulary_sizes", "have room for unknown tags", rows)
            self._tables[domain.name] = add(domain.name, rows)
            if self.config.use_domain_totals and isinstance(domain, Domain):
                self._totals[domain.name] = add(total_name(domain), 1)

    def _add_attention(self, seeds: Iterator[int]) -> None:
        config = self.config
        self.queries = self.add_weight(
            "queries",
            [config.num_heads, config.attention_dim],
            initializer=tf_keras.initializers.RandomNormal(
                stddev=config.attention_dim**-0.5, seed=next(seeds)
            ),
        )
        names = [feature.name for feature in self.spec.lists]
        if config.log_count_fields:
            names += [log_name(domain) for domain in self.spec.domains]
        for name in names:
            self.intra_attention[name] = IntraDomainAttention(
                config.num_heads,
                config.attention_dim,
                seed=next(seeds),
                name=f"intra_{name}",
            )

    def _first_id(self, domain: ListFeature) -> int:
        if self._shared is not None and domain.vocabulary_name == TAG_VOCABULARY:
            return self._shared.num_tags
        return 0

    def _table(
        self, domain: ListFeature, values: tf.RaggedTensor
    ) -> tuple[tf.Tensor, tf.RaggedTensor]:
        """Returns embeddings for a list's values, and the values as rows of these.

        Of a large table only the rows that the batch names are returned, so that neither a step nor
        its gradients have tensors of the size of the vocabulary.
        """
        own, first = self._tables[domain.name], self._first_id(domain)
        if first + own.shape[0] <= domain_attention.DENSE_POOLING_MAX_ROWS:
            table = tf.convert_to_tensor(own)
            if self._shared is not None and first:
                table = tf.concat([self._shared.embeddings, table], axis=0)
            return table, values
        distinct, rows = tf.unique(values.flat_values, out_idx=tf.int64)
        if self._shared is not None and first:
            is_shared = (distinct < first)[:, tf.newaxis]
            table = tf.where(
                is_shared,
                tf.gather(self._shared.embeddings, tf.minimum(distinct, first - 1)),
                tf.gather(own, tf.maximum(distinct - first, 0)),
            )
        else:
            table = tf.gather(own, distinct)
        return table, values.with_flat_values(rows)

    @property
    def embedding_tables(self) -> dict[str, EmbeddingTable]:
        """Tables by the name of their feature, and `<domain>_total` of a history's length."""
        tables = {}
        for feature in self.spec.singles:
            vocabulary = profile_vocabulary_name(feature.name)
            tables[feature.name] = EmbeddingTable(self._tables[feature.name], vocabulary)
        for domain in self.spec.lists:
            tables[domain.name] = EmbeddingTable(
                self._tables[domain.name], domain.vocabulary_name, self._first_id(domain)
            )
            if self.config.use_domain_totals and isinstance(domain, Domain):
                tables[total_name(domain)] = EmbeddingTable(self._totals[domain.name], None)
        return tables

    def all_rows(self, name: str) -> np.ndarray:
        """Returns the embeddings of a feature's ids, or of a total, with shared rows.

        Args:
          name: Name of the profile feature, of the domain, or of its total (`total_name`).

        Returns:
          float32 [V, E], embeddings in the order of the ids.
        """
        table = self.embedding_tables[name]
        own: np.ndarray = table.variable.numpy()
        if self._shared is None or not table.first_id:
            return own
        return np.concatenate([self._shared.embeddings.numpy(), own])

    @property
    def field_names(self) -> tuple[str, ...]:
        """Names of the fields, in their order."""
        return tuple(name for name, _ in self._fields())

    @property
    def field_features(self) -> tuple[str, ...]:
        """The profile feature or domain of each field, in the order of the fields."""
        return tuple(feature for _, feature in self._fields())

    def _fields(self) -> list[tuple[str, str]]:
        """Returns the name of each field, and the name of its profile feature or domain."""
        fields = [(feature.name, feature.name) for feature in self.spec.singles]
        for domain in self.spec.lists:
            fields.append((domain.name, domain.name))
            if self.config.log_count_fields and isinstance(domain, Domain):
                fields.append((log_name(domain), domain.name))
        if self.config.use_domain_totals:
            fields += [(total_name(domain), domain.name) for domain in self.spec.domains]
        return fields

    def _lists(
        self, features: Mapping[str, Any], domain: ListFeature
    ) -> dict[str, tuple[tf.RaggedTensor, tf.RaggedTensor | None]]:
        """Returns the values of a list and their multiplicities, by the name of their field."""
        values, weights = domain_values(features, domain, self.config.use_domain_weights)
        lists = {domain.name: (values, weights)}
        if self.config.log_count_fields and isinstance(domain, Domain):
            logarithms = None if weights is None else tf.math.log1p(weights)
            lists[log_name(domain)] = (values, logarithms)
        return lists

    def _pool(
        self,
        name: str,
        table: tf.Tensor,
        values: tf.RaggedTensor,
        multiplicities: tf.RaggedTensor | None,
    ) -> tf.Tensor:
        if self.config.effective_pooling == "average":
            return weighted_sum(table, values, value_shares(values, multiplicities))
        return self.intra_attention[name](table, values, multiplicities, self.queries)

    def call(
        self, features: Mapping[str, Any], keep: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Makes the fields of some users.

        Args:
          features: Ids of single values int [batch]; for each list ids [batch, None] and, for a
            domain, weights, as `tf.RaggedTensor` or `tf.SparseTensor`.
          keep: bool [batch, 1], whether a user's behaviour is used; None: for all users.

        Returns:
          Vectors of the fields, float [batch, K, H, E], and whether each is present, bool
          [batch, K].
        """
        heads = self.config.effective_heads
        vectors, present, totals, has_total = [], [], [], []
        for feature in self.spec.singles:
            ids = profile_ids(features, feature.name)
            row = tf.gather(self._tables[feature.name], ids)
            vectors.append(tf.repeat(row[:, tf.newaxis], heads, axis=1))
            present.append(tf.ones_like(ids, tf.bool))
        for domain in self.spec.lists:
            lists = self._lists(features, domain)
            values, weights = lists[domain.name]
            table, rows = self._table(domain, values)
            is_there = values.row_lengths() > 0
            for name, (_, multiplicities) in lists.items():
                vectors.append(self._pool(name, table, rows, multiplicities))
                present.append(is_there)
            if domain.name in self._totals:
                row = total_input(values, weights)[:, tf.newaxis] * self._totals[domain.name]
                totals.append(tf.repeat(row[:, tf.newaxis], heads, axis=1))
                has_total.append(is_there)
        fields = tf.stack(vectors + totals, axis=1)
        mask = tf.stack(present + has_total, axis=1)
        if keep is not None:
            # Profile features that are lists come first among the lists, and have one field each.
            num_profile = len(self.spec.profile)
            mask = tf.concat([mask[:, :num_profile], mask[:, num_profile:] & keep], axis=1)
        return fields, mask

    def attention(self, features: Mapping[str, Any]) -> dict[str, tf.RaggedTensor]:
        """Computes the weight of each value in its field; the layer must have been called before.

        Args:
          features: Features of the users, as for `call`.

        Returns:
          float [batch, None, H] by the name of the field, weights of the values of its list.
        """
        found = {}
        for domain in self.spec.lists:
            lists = self._lists(features, domain)
            table, rows = self._table(domain, lists[domain.name][0])
            for name, (values, multiplicities) in lists.items():
                if self.config.effective_pooling == "average":
                    flat = value_shares(values, multiplicities)
                else:
                    layer = self.intra_attention[name]
                    flat = layer.attention(table, rows, multiplicities, self.queries)
                found[name] = values.with_flat_values(flat)
        return found


def log_name(domain: Domain) -> str:
    """Returns the name of the field that pools a domain by the logarithms of its weights."""
    return f"{domain.name}_log"


def total_name(domain: Domain) -> str:
    """Returns the name of the field that holds the length of a domain's history."""
    return f"{domain.name}_total"
