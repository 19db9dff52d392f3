"""UTPM written down directly from the paper: padded lists, masked softmaxes, one label a row.

It is vectorised over the batch, compiled with tf.function, and has the full softmax over the tags
(`multi_class` of docs/model.md; the click loss over the few tags of an item would save about a
tenth of the step). It lacks the additions of the project's tower: multiplicities, log counts,
totals, residual.
"""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf
import tf_keras

from benchmarks.peers.label_rows import LABEL, PADDING
from trainer.config import ModelConfig
from trainer.contract.features import FeatureSpec, profile_vocabulary_name

# Rows in a batch; the fastest here of sizes from 256 to 4,096.
BATCH_SIZE = 1_024


class DirectUtpm(tf_keras.Model):
    """UTPM (doi 10.1145/3340531.3412719) over padded lists.

        s_i = q_h . relu(W_h t_i + b),  f_h = sum_i softmax(s)_i t_i       within a domain
        x_h = sum_k softmax_k(q_h . relu(W_h f_kh + b)) f_kh               between domains
        z = [norm(w * x); norm(<v_i, v_j> x_i x_j, i < j)],  u = W_2 relu(W_1 z)

    Args:
      spec: The feature specification.
      vocabulary_sizes: Numbers of ids by vocabulary name, with the buckets for unknown values.
      num_tags: Number of candidates.
      config: Configuration with the widths E, A, H, C, D and U.
    """

    def __init__(
        self,
        spec: FeatureSpec,
        vocabulary_sizes: Mapping[str, int],
        num_tags: int,
        config: ModelConfig,
    ):
        super().__init__()
        layers = tf_keras.layers
        size, heads, width = config.embedding_dim, config.num_heads, config.attention_dim
        self._heads = heads
        self._profile = {
            p.name: layers.Embedding(vocabulary_sizes[profile_vocabulary_name(p.name)], size)
            for p in spec.profile
        }
        self._domains = {
            # One more row for the padding.
            d.name: layers.Embedding(vocabulary_sizes[d.vocabulary_name] + 1, size)
            for d in spec.domains
        }
        self._intra = {
            name: layers.EinsumDense("bne,eha->bnha", [None, heads, width], bias_axes="a")
            for name in self._domains
        }
        self._inter = layers.EinsumDense("bkhe,eha->bkha", [None, heads, width], bias_axes="a")
        normal = tf_keras.initializers.RandomNormal
        self._queries = self.add_weight("queries", [heads, width], initializer=normal(width**-0.5))
        n = heads * size
        self._linear = self.add_weight("linear", [n], initializer="ones")
        self._latent = self.add_weight(
            "latent", [n, config.cross_dim], initializer=normal(config.cross_dim**-0.5)
        )
        rows, columns = np.triu_indices(n, k=1)
        self._pairs = (rows * n + columns).astype(np.int32)
        self._linear_norm = layers.BatchNormalization()
        self._cross_norm = layers.BatchNormalization()
        self._dense = tf_keras.Sequential(
            [layers.Dense(config.hidden_dim, activation="relu"), layers.Dense(config.output_dim)]
        )
        self._tags = layers.Dense(num_tags)

    def users(self, features: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Computes user vectors, float [batch, U]."""
        fields = [
            tf.repeat(layer(features[name])[:, tf.newaxis], self._heads, axis=1)
            for name, layer in self._profile.items()
        ]
        present = [tf.ones_like(field[:, 0, 0], tf.bool) for field in fields]
        for name, table in self._domains.items():
            values = table(features[name])
            mask = features[name] != PADDING
            attention = self._attention(self._intra[name](values), mask)
            fields.append(tf.einsum("bnh,bne->bhe", attention, values))
            present.append(tf.reduce_any(mask, axis=1))
        stacked, mask = tf.stack(fields, axis=1), tf.stack(present, axis=1)
        attention = self._attention(self._inter(stacked), mask)
        x = tf.einsum("bkh,bkhe->bhe", attention, stacked)
        x = tf.reshape(x, [-1, self._linear.shape[0]])
        latent = x[:, :, tf.newaxis] * self._latent
        products = tf.matmul(latent, latent, transpose_b=True)
        products = tf.reshape(products, [-1, self._linear.shape[0] ** 2])
        crossed = tf.gather(products, self._pairs, axis=1)
        linear = self._linear_norm(self._linear * x, training=training)
        crossed = self._cross_norm(crossed, training=training)
        return self._dense(tf.concat([linear, crossed], axis=1))

    def _attention(self, hidden: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """Computes weights, float [batch, n, H], 0 where masked, from W t + b [batch, n, H, A]."""
        scores = tf.reduce_sum(tf.nn.relu(hidden) * self._queries, axis=-1)
        mask = mask[:, :, tf.newaxis]
        weights = tf.nn.softmax(tf.where(mask, scores, scores.dtype.min), axis=1)
        return weights * tf.cast(mask, weights.dtype)

    def call(self, features: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Computes logits of all tags, float [batch, num_tags]."""
        return self._tags(self.users(features, training=training))

    # Like in tagtower's model, AutoGraph has nothing to convert, and converting takes very long.
    @tf.autograph.experimental.do_not_convert
    def train_step(self, features: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Takes one step on the softmax loss over all tags."""
        with tf.GradientTape() as tape:
            logits = self(features, training=True)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(features[LABEL], logits)
            loss = tf.reduce_mean(losses)
        self.optimizer.minimize(loss, self.trainable_variables, tape=tape)
        return {"loss": loss}
