"""A plain two-tower model as in TFRS's tutorials: average pooling and in-batch negatives."""

from collections.abc import Mapping

import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras

from benchmarks.peers.label_rows import LABEL, PADDING
from trainer.config import ModelConfig
from trainer.contract.features import FeatureSpec, profile_vocabulary_name

# Rows in a batch; the fastest here of sizes from 256 to 4,096.
BATCH_SIZE = 1_024


class TwoTower(tfrs.Model):
    """Two towers with embeddings averaged by domain, trained by `tfrs.tasks.Retrieval`.

    The user tower has two dense layers, and a row has one label.

    Args:
      spec: The feature specification.
      vocabulary_sizes: Numbers of ids by vocabulary name, with the buckets for unknown values.
      num_tags: Number of candidates.
      config: Configuration with the widths `embedding_dim`, `hidden_dim`, `output_dim`.
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
        self._profile = {
            p.name: layers.Embedding(
                vocabulary_sizes[profile_vocabulary_name(p.name)], config.embedding_dim
            )
            for p in spec.profile
        }
        self._domains = {
            # One more row for the padding.
            d.name: layers.Embedding(vocabulary_sizes[d.vocabulary_name] + 1, config.embedding_dim)
            for d in spec.domains
        }
        self._dense = tf_keras.Sequential(
            [layers.Dense(config.hidden_dim, activation="relu"), layers.Dense(config.output_dim)]
        )
        self._tags = layers.Embedding(num_tags, config.output_dim)
        task = tfrs.tasks.Retrieval()
        # The task needs AutoGraph; converting the rest would take longer than measuring it.
        self._loss = tf.function(lambda users, tags: task(users, tags, compute_metrics=False))

    def call(self, features: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Computes user vectors, float [batch, U]."""
        fields = [layer(features[name]) for name, layer in self._profile.items()]
        for name, layer in self._domains.items():
            # Keras's own masked average of an empty list is NaN.
            mask = tf.cast(features[name] != PADDING, tf.float32)[:, :, tf.newaxis]
            total = tf.reduce_sum(layer(features[name]) * mask, axis=1)
            fields.append(tf.math.divide_no_nan(total, tf.reduce_sum(mask, axis=1)))
        return self._dense(tf.concat(fields, axis=1))

    @tf.autograph.experimental.do_not_convert
    def compute_loss(self, features: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Computes the in-batch softmax loss, summed over the batch as TFRS does."""
        return self._loss(self(features), self._tags(features[LABEL]))
