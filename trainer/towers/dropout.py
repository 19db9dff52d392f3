"""Dropout whose random numbers depend on the seed and the number of the call alone.

Keras 2 draws them from operations with a hidden state in the process: a training that goes on in
another process would draw others. Here the state is a weight, so that a checkpoint holds it.
"""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tf_keras

from trainer.contract.config_loader import require


class Dropout(tf_keras.layers.Layer):
    """Sets values to 0 at a rate and scales the others, in training; as `tf_keras.layers.Dropout`.

    Replicas of a `tf.distribute` strategy draw numbers of their own.

    Args:
      rate: Share of values to hide, at least 0 and below 1.
      noise_shape: Of the draws, broadcast to the inputs; None in it: as the inputs have it.
      seed: Of the draws.
    """

    def __init__(
        self,
        rate: float,
        noise_shape: Sequence[int | None] | None = None,
        seed: int = 0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        require(0 <= rate < 1, "rate", "be at least 0 and below 1", rate)
        self.rate = rate
        self.noise_shape = noise_shape
        self.seed = seed
        self.num_calls: tf.Variable | None = None
        if rate:
            # Every replica counts for itself, and all count alike: nothing has to be exchanged.
            self.num_calls = self.add_weight(
                "num_calls",
                [],
                tf.int64,
                initializer="zeros",
                trainable=False,
                aggregation=tf.VariableAggregation.NONE,
            )

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Drops.

        Args:
          inputs: float, of any shape.
          training: Whether to; else the inputs come back as they are.

        Returns:
          float, of the inputs' shape.
        """
        if not training or self.num_calls is None:
            return inputs
        shape = tf.shape(inputs)
        if self.noise_shape is not None:
            sizes = zip(self.noise_shape, tf.unstack(shape, len(self.noise_shape)), strict=True)
            shape = tf.stack([size if fixed is None else fixed for fixed, size in sizes])
        context = tf.distribute.get_replica_context()
        replica = 0 if context is None else context.replica_id_in_sync_group
        seed = tf.stack([tf.constant(self.seed, tf.int64), self.num_calls.value()])
        self.num_calls.assign_add(1)
        seed = tf.random.experimental.stateless_fold_in(seed, replica)
        keep = tf.random.stateless_uniform(shape, seed, dtype=inputs.dtype) >= self.rate
        # Not a product: a hidden value is 0 whatever it was.
        return tf.where(keep, inputs / (1 - self.rate), tf.zeros([], inputs.dtype))

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        own = {"rate": self.rate, "noise_shape": self.noise_shape, "seed": self.seed}
        return {**super().get_config(), **own}
