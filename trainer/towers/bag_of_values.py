"""`bag`: counts of values through a dense layer, the reference that attention has to beat."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from trainer.config import ModelConfig
from trainer.contract.features import FeatureSpec, profile_vocabulary_name
from trainer.towers import domain_attention
from trainer.towers.domain_attention import value_shares, weighted_sum
from trainer.towers.embedding_tables import EmbeddingTable
from trainer.towers.user_fields import domain_values, num_rows, profile_ids, total_input


class BagOfValues(tf_keras.layers.Layer):
    """A dense layer over the counts of every value of every domain, and over profile features.

        relu(b + sum_p P_p[id_p] + sum_l sum_i 1 / n_l S_l[v_i]
               + sum_k (sum_i w_i / n S_k[t_i] + sum_i log(1 + w_i) L_k[t_i] + log(1 + n) / 5 T_k))

    over the profile features p of one value and l of n_l values, and the domains k, with
    n = sum_i w_i. S, L, P and T are the rows of one matrix, that of a dense layer over the
    vector of all shares, log counts, one-hot profile features and totals, and have the initial
    values of a dense layer. The vector itself, as long as all vocabularies together, is never made
    for a vocabulary above `DENSE_POOLING_MAX_ROWS`: rows are looked up and added.

    As in the other towers `log_count_fields` adds L, `use_domain_totals` adds T, and without
    `use_domain_weights` every w_i is 1. Nothing is normalised: shares and logarithms are of one
    order already. The inputs are fixed, so options of pooling, embeddings and shared tables have no
    effect.

    Args:
      spec: The feature specification.
      vocabulary_sizes: Numbers of ids by vocabulary name, with the hash buckets for unknown values.
      config: Configuration of the model.
      seed: Seed of the initial values.

    Raises:
      ValueError: A vocabulary has no size.
    """

    def __init__(
        self,
        spec: FeatureSpec,
        vocabulary_sizes: Mapping[str, int],
        config: ModelConfig,
        seed: int = 0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.spec = spec
        self.config = config
        sizes: dict[str, tuple[str | None, int]] = {}
        for feature in spec.singles:
            vocabulary = profile_vocabulary_name(feature.name)
            sizes[feature.name] = (vocabulary, num_rows(vocabulary_sizes, vocabulary))
        for domain in spec.lists:
            vocabulary = domain.vocabulary_name
            rows = num_rows(vocabulary_sizes, vocabulary)
            sizes[f"{domain.name}_shares"] = (vocabulary, rows)
            if not domain.has_weights:
                continue
            if config.log_count_fields:
                sizes[f"{domain.name}_log_counts"] = (vocabulary, rows)
            if config.use_domain_totals:
                sizes[f"{domain.name}_total"] = (None, 1)
        num_inputs = sum(rows for _, rows in sizes.values())
        limit = (6.0 / (num_inputs + config.hidden_dim)) ** 0.5
        seeds = np.random.SeedSequence(seed).generate_state(len(sizes))
        self._vocabularies = {name: vocabulary for name, (vocabulary, _) in sizes.items()}
        self._tables = {
            name: self.add_weight(
                name,
                [rows, config.hidden_dim],
                initializer=tf_keras.initializers.RandomUniform(
                    -limit, limit, seed=int(table_seed)
                ),
            )
            for (name, (_, rows)), table_seed in zip(sizes.items(), seeds, strict=True)
        }
        self.bias = self.add_weight("bias", [config.hidden_dim], initializer="zeros")

    @property
    def embedding_tables(self) -> dict[str, EmbeddingTable]:
        """P by feature; S, L, T by `<domain>_shares`, `<domain>_log_counts`, `<domain>_total`."""
        return {
            name: EmbeddingTable(variable, self._vocabularies[name])
            for name, variable in self._tables.items()
        }

    def call(self, features: Mapping[str, Any], keep: tf.Tensor | None = None) -> tf.Tensor:
        """Computes the hidden layer of some users.

        Args:
          features: Ids of single values int [batch]; for each list ids [batch, None] and, for a
            domain, weights, as `tf.RaggedTensor` or `tf.SparseTensor`.
          keep: bool [batch, 1], whether a user's behaviour is used; None: for all users.

        Returns:
          float [batch, D], outputs of the hidden layer.
        """
        profile = [
            tf.gather(self._tables[feature.name], profile_ids(features, feature.name))
            for feature in self.spec.singles
        ]
        behaviour = []
        for domain in self.spec.lists:
            values, weights = domain_values(features, domain, self.config.use_domain_weights)
            shares = value_shares(values, weights)
            if not domain.has_weights:
                profile.append(self._sum(f"{domain.name}_shares", values, shares))
                continue
            behaviour.append(self._sum(f"{domain.name}_shares", values, shares))
            if self.config.log_count_fields:
                counts = tf.ones_like(shares) if weights is None else weights.flat_values[:, None]
                logarithms = tf.math.log1p(counts)
                behaviour.append(self._sum(f"{domain.name}_log_counts", values, logarithms))
            if self.config.use_domain_totals:
                total = total_input(values, weights)[:, tf.newaxis]
                behaviour.append(total * self._tables[f"{domain.name}_total"])
        if keep is not None:
            behaviour = [part * tf.cast(keep, part.dtype) for part in behaviour]
        return tf.nn.relu(tf.add_n(profile + behaviour) + self.bias)

    def _sum(self, name: str, values: tf.RaggedTensor, coefficients: tf.Tensor) -> tf.Tensor:
        table = self._tables[name]
        if table.shape[0] <= domain_attention.DENSE_POOLING_MAX_ROWS:
            table = tf.convert_to_tensor(table)  # rows of a larger variable are gathered
        return tf.squeeze(weighted_sum(table, values, coefficients), axis=1)

    def attention(self, features: Mapping[str, Any]) -> dict[str, tf.RaggedTensor]:
        """Returns the shares w_i / n of the values of each list, [batch, None, 1], by list."""
        found = {}
        for domain in self.spec.lists:
            values, weights = domain_values(features, domain, self.config.use_domain_weights)
            found[domain.name] = values.with_flat_values(value_shares(values, weights))
        return found
