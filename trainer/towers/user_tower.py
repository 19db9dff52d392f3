"""The user tower (query tower), which computes a vector from a user's features.

It works on ids; other modules handle strings, vocabularies and labels.
"""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from trainer.config import ModelConfig
from trainer.contract.config_loader import require
from trainer.contract.features import FeatureSpec
from trainer.towers.bag_of_values import BagOfValues
from trainer.towers.dropout import Dropout
from trainer.towers.embedding_tables import EmbeddingTable
from trainer.towers.feature_cross import make_norm
from trainer.towers.field_interactions.interaction import Interaction, concatenated, field_vectors
from trainer.towers.field_interactions.registry import make_interaction
from trainer.towers.tag_tower import TagTower
from trainer.towers.user_fields import UserFields, num_users


class UserTower(tf_keras.Model):
    """Model that computes a vector from a user's features (query tower).

    Every domain and profile feature is a field with a vector of size E for each head
    (`UserFields`); the configured interaction of fields, UTPM's attention and crossing
    (doi 10.1145/3340531.3412719) or one of those it is compared with, gives z; two fully connected
    layers, the same for all interactions, give u. With `field_residual` the first of them also sees
    the fields' own vectors, so that every tower has what `youtube_dnn` has and adds its
    interaction. It has no effect on `youtube_dnn`, whose z is these vectors, and on `bag`, which
    has no fields.

    Args:
      spec: The feature specification.
      vocabulary_sizes: Numbers of ids by vocabulary name (`profile_vocabulary_name` for profile
        features), with the hash buckets for unknown values.
      config: Configuration of the model.
      seed: Seed of the initial values and of dropout.
      tag_tower: Tag tower whose table domains of tags use with `config.share_tag_embeddings`.

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
        seeds = iter(int(s) for s in np.random.SeedSequence(seed).generate_state(256))
        self.bag: BagOfValues | None = None
        if config.interaction == "bag":
            self.bag = BagOfValues(spec, vocabulary_sizes, config, next(seeds), name="hidden")
        else:
            shared = tag_tower if config.share_tag_embeddings else None
            self.fields = UserFields(spec, vocabulary_sizes, config, seeds, shared, name="fields")
            self.interaction: Interaction = make_interaction(config, seeds, self.fields.queries)
            self.field_norm: tf_keras.layers.Layer | None = None
            if config.field_residual and config.interaction != "youtube_dnn":
                self.field_norm = make_norm(config.norm, "field_norm")
            self.hidden = tf_keras.layers.Dense(
                config.hidden_dim,
                activation="relu",
                kernel_initializer=tf_keras.initializers.GlorotUniform(seed=next(seeds)),
                name="hidden",
            )
        self.dropout = Dropout(config.dropout, seed=next(seeds))
        self.last = tf_keras.layers.Dense(
            config.output_dim,
            kernel_initializer=tf_keras.initializers.GlorotUniform(seed=next(seeds)),
            name="last",
        )
        self._hide = Dropout(config.domain_dropout, noise_shape=(None, 1), seed=next(seeds))

    @property
    def embedding_tables(self) -> dict[str, EmbeddingTable]:
        """Embedding tables of the features by name, without the tag tower's shared table."""
        return (self.fields if self.bag is None else self.bag).embedding_tables

    @property
    def field_names(self) -> tuple[str, ...]:
        """Names of the fields, in the order of the attention between them; empty for `bag`."""
        return self.fields.field_names if self.bag is None else ()

    @property
    def field_features(self) -> tuple[str, ...]:
        """The profile feature or domain of each field, in the order of `field_names`."""
        return self.fields.field_features if self.bag is None else ()

    @property
    def field_pairs(self) -> tuple[tuple[str, str], ...]:
        """The pairs of fields, in the order of the attention over pairs."""
        return tuple(itertools.combinations(self.field_names, 2))

    def call(self, features: Mapping[str, Any], training: bool | None = None) -> tf.Tensor:
        """Computes the vectors of users.

        Args:
          features: Ids of single values int [batch]; for each list ids [batch, None] and, for a
            domain, weights, as `tf.RaggedTensor` or `tf.SparseTensor`.
          training: Whether dropout is on.

        Returns:
          float [batch, U], user vectors.
        """
        keep = self._keep_behaviour(features, training)
        if self.bag is not None:
            hidden = self.bag(features, keep)
        else:
            fields, mask = self.fields(features, keep)
            hidden = self.hidden_of_fields(fields, mask, training)
        return self.last(self.dropout(hidden, training=training))

    def hidden_of_fields(
        self, fields: tf.Tensor, mask: tf.Tensor, training: bool | None = None
    ) -> tf.Tensor:
        """Computes the hidden layer from the fields of users.

        Args:
          fields: float [batch, K, H, E], vectors of the fields.
          mask: bool [batch, K], whether the user has the field.
          training: Whether batch normalisation uses the batch's own moments.

        Returns:
          float [batch, D], outputs of the hidden layer.
        """
        z = self.interaction(fields, mask, training=training)
        if self.field_norm is not None:
            own = concatenated(field_vectors(fields, mask))
            z = tf.concat([z, self.field_norm(own, training=training)], axis=1)
        return self.hidden(z)

    def _keep_behaviour(
        self, features: Mapping[str, Any], training: bool | None
    ) -> tf.Tensor | None:
        """Draws whether each user's behaviour is used, bool [batch, 1]; None: for all users."""
        if not self.config.domain_dropout:
            return None
        return self._hide(tf.ones([num_users(features, self.spec), 1]), training=training) > 0

    def attention(self, features: Mapping[str, Any]) -> dict[str, Any]:
        """Computes the attention to values within a domain, and to fields, in inference.

        Args:
          features: Features of the users, as for `call`.

        Returns:
          By the name of each field that pools a list, a `tf.RaggedTensor` [batch, None, H] for the
          domain's values: the attention, the shares in an average, or, for `bag`, the shares by
          value. Also the attention of the interaction:
          `utpm`: `fields`, float [batch, K, H], in the order of `field_names`;
          `afm`: `field_pairs`, float [batch, K (K - 1) / 2], in the order of `field_pairs`;
          `autoint`: `field_self_attention`, float [batch, layers, heads, K, K], the attention of
          each field (last but one axis) to each field (last axis).
        """
        if self.bag is not None:
            return self.bag.attention(features)
        fields, mask = self.fields(features)
        return {**self.fields.attention(features), **self.interaction.attention(fields, mask)}
