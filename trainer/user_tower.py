"""The query tower: from a user's features to a vector.

It works on ids; strings, vocabularies and labels are other modules' work.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from trainer.config import ModelConfig
from trainer.config_loader import require
from trainer.domain_attention import InterDomainAttention, IntraDomainAttention
from trainer.feature_cross import FeatureCross, make_norm
from trainer.features import (
    TAG_VOCABULARY,
    Domain,
    FeatureSpec,
    profile_vocabulary_name,
    weights_name,
)
from trainer.tag_tower import TagTower


class UserTower(tf_keras.Model):
    """From a user's features to a vector (query tower; UTPM, doi 10.1145/3340531.3412719).

    Every domain and profile feature is a field with a vector of size E for each head; attention
    over fields gives x, feature crossing z, and two fully connected layers u.

    Args:
      spec: The features.
      vocabulary_sizes: By vocabulary name (`profile_vocabulary_name` for profile features), the
        number of ids, hash buckets for unknown values included.
      config: Of the model.
      seed: Of the initial values and of dropout.
      tag_tower: Whose table domains of tags use if `config.share_tag_embeddings`.

    Raises:
      ValueError: A vocabulary has no size, or sharing lacks the tag tower.
    """

    def __init__(
        self,
        spec: FeatureSpec,
        vocabulary_sizes: Mapping[str, int],
        config: ModelConfig,
        seed: int = 0,
        tag_tower: TagTower | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.spec = spec
        self.config = config
        require(
            tag_tower is not None or not config.share_tag_embeddings,
            "tag_tower",
            "be given when `share_tag_embeddings` is on",
            tag_tower,
        )
        self._shared = tag_tower if config.share_tag_embeddings else None
        seeds = iter(int(s) for s in np.random.SeedSequence(seed).generate_state(256))
        self._add_tables(vocabulary_sizes, seeds)
        attention = (config.num_heads, config.attention_dim, config.attention_bias)
        self.queries = self.add_weight(
            "queries",
            [config.num_heads, config.attention_dim],
            initializer=tf_keras.initializers.RandomNormal(
                stddev=config.attention_dim**-0.5, seed=next(seeds)
            ),
        )
        self.intra_attention = {
            domain.name: IntraDomainAttention(
                *attention, seed=next(seeds), name=f"intra_{domain.name}"
            )
            for domain in spec.domains
        }
        if config.log_count_fields:
            for domain in spec.domains:
                name = _log_name(domain)
                self.intra_attention[name] = IntraDomainAttention(
                    *attention, seed=next(seeds), name=f"intra_{name}"
                )
        self.inter_attention = InterDomainAttention(*attention, seed=next(seeds), name="inter")
        self.cross = FeatureCross(
            config.cross_dim,
            config.cross_normalization,
            config.norm,
            seed=next(seeds),
            name="cross",
        )
        self.hidden = tf_keras.layers.Dense(
            config.hidden_dim,
            activation="relu",
            kernel_initializer=tf_keras.initializers.GlorotUniform(seed=next(seeds)),
            name="hidden",
        )
        self.field_norm = make_norm(config.norm, "field_norm")
        self.dropout = tf_keras.layers.Dropout(config.dropout, seed=next(seeds))
        self.last = tf_keras.layers.Dense(
            config.output_dim,
            activation=None if config.last_activation == "linear" else config.last_activation,
            kernel_initializer=tf_keras.initializers.GlorotUniform(seed=next(seeds)),
            name="last",
        )
        self._hide = tf_keras.layers.Dropout(
            config.domain_dropout, noise_shape=(None, 1), seed=next(seeds)
        )

    def _add_tables(self, vocabulary_sizes: Mapping[str, int], seeds: Iterator[int]) -> None:
        size = self.config.embedding_dim
        self._tables: dict[str, tf.Variable] = {}
        self._totals: dict[str, tf.Variable] = {}

        def add(name: str, rows: int) -> tf.Variable:
            initializer = tf_keras.initializers.RandomNormal(stddev=size**-0.5, seed=next(seeds))
            return self.add_weight(name, [rows, size], initializer=initializer)

        def rows_of(vocabulary: str) -> int:
            require(
                vocabulary in vocabulary_sizes,
                "vocabulary_sizes",
                f"contain `{vocabulary}`",
                "nothing",
            )
            return vocabulary_sizes[vocabulary]

        for feature in self.spec.profile:
            self._tables[feature.name] = add(
                feature.name, rows_of(profile_vocabulary_name(feature.name))
            )
        for domain in self.spec.domains:
            rows = rows_of(domain.vocabulary_name)
            if self._shares_table(domain) and self._shared is not None:
                rows -= self._shared.num_tags  # its buckets for unknown values alone
                require(rows >= 1, "vocabulary_sizes", "have room for unknown tags", rows)
            self._tables[domain.name] = add(domain.name, rows)
            if self.config.use_domain_totals:
                self._totals[domain.name] = add(f"{domain.name}_total", 1)

    def _shares_table(self, domain: Domain) -> bool:
        return self.config.share_tag_embeddings and domain.vocabulary_name == TAG_VOCABULARY

    def _table(self, domain: Domain) -> tf.Tensor:
        table = tf.convert_to_tensor(self._tables[domain.name])
        if self._shares_table(domain) and self._shared is not None:
            return tf.concat([self._shared.embeddings, table], axis=0)
        return table

    @property
    def field_names(self) -> tuple[str, ...]:
        """The fields, in the order of the attention between them."""
        names = [feature.name for feature in self.spec.profile]
        for domain in self.spec.domains:
            names.append(domain.name)
            if self.config.log_count_fields:
                names.append(_log_name(domain))
        if self.config.use_domain_totals:
            names += [f"{domain.name}_total" for domain in self.spec.domains]
        return tuple(names)

    def _values(self, features: Mapping[str, Any], domain: Domain) -> tuple[tf.RaggedTensor, Any]:
        values = _ragged(features[domain.name])
        if not self.config.use_domain_weights:
            return values, None
        return values, _ragged(features[weights_name(domain.name)])

    def _fields(
        self, features: Mapping[str, Any], training: bool | None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Field vectors float [batch, K, H, E] and which of them are present, bool [batch, K]."""
        heads = self.config.num_heads
        vectors, present, totals, has_total = [], [], [], []
        for feature in self.spec.profile:
            ids = tf.reshape(features[feature.name], [-1])
            row = tf.gather(self._tables[feature.name], ids)
            vectors.append(tf.repeat(row[:, tf.newaxis], heads, axis=1))
            present.append(tf.ones_like(ids, tf.float32))
        for domain in self.spec.domains:
            values, weights = self._values(features, domain)
            layer = self.intra_attention[domain.name]
            pooled = layer(self._table(domain), values, weights, self.queries)
            is_there = tf.cast(values.row_lengths() > 0, tf.float32)
            vectors.append(pooled)
            present.append(is_there)
            if self.config.log_count_fields:
                flattened = None if weights is None else tf.math.log1p(weights)
                layer = self.intra_attention[_log_name(domain)]
                vectors.append(layer(self._table(domain), values, flattened, self.queries))
                present.append(is_there)
            if self.config.use_domain_totals:
                total = is_there if weights is None else tf.reduce_sum(weights, axis=1)
                # log(1 + n) / 5: of order 1 for the histories of some hundred events that are
                # usual.
                row = tf.math.log1p(total)[:, tf.newaxis] / 5.0 * self._totals[domain.name]
                totals.append(tf.repeat(row[:, tf.newaxis], heads, axis=1))
                has_total.append(is_there)
        fields = tf.stack(vectors + totals, axis=1)
        mask = tf.stack(present + has_total, axis=1)
        if self.config.domain_dropout:
            num_profile = len(self.spec.profile)
            keep = self._hide(tf.ones_like(mask[:, :1]), training=training)
            mask = tf.concat([mask[:, :num_profile], mask[:, num_profile:] * keep], axis=1)
        return fields, mask > 0

    def call(self, features: Mapping[str, Any], training: bool | None = None) -> tf.Tensor:
        """Embeds users.

        Args:
          features: Profile ids int [batch]; for each domain ids [batch, None] and weights, as
            `tf.RaggedTensor` or `tf.SparseTensor`.
          training: Whether dropout is on.

        Returns:
          float [batch, U].
        """
        fields, mask = self._fields(features, training)
        x = self.inter_attention(fields, mask, self.queries)
        z = self.cross(x, training=training)
        if self.config.field_residual:
            masked = fields * tf.cast(mask, fields.dtype)[:, :, tf.newaxis, tf.newaxis]
            width = len(self.field_names) * self.config.num_heads * self.config.embedding_dim
            z = tf.concat(
                [z, self.field_norm(tf.reshape(masked, [-1, width]), training=training)], axis=1
            )
        return self.last(self.dropout(self.hidden(z), training=training))

    def attention(self, features: Mapping[str, Any]) -> dict[str, Any]:
        """Which fields, and which values within a domain, the tower looks at.

        Args:
          features: As for `call`.

        Returns:
          `fields`: float [batch, K, H] in the order of `field_names`; and for each domain, by its
          name, a `tf.RaggedTensor` [batch, None, H] beside its values.
        """
        fields, mask = self._fields(features, training=False)
        weights: dict[str, Any] = {
            "fields": self.inter_attention.attention(fields, mask, self.queries)
        }
        for domain in self.spec.domains:
            values, multiplicities = self._values(features, domain)
            layer = self.intra_attention[domain.name]
            flat = layer.attention(self._table(domain), values, multiplicities, self.queries)
            weights[domain.name] = values.with_flat_values(flat)
        return weights


def _log_name(domain: Domain) -> str:
    return f"{domain.name}_log"


def _ragged(column: Any) -> tf.RaggedTensor:
    return tf.RaggedTensor.from_sparse(column) if isinstance(column, tf.SparseTensor) else column
