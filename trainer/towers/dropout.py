"""Dropout whose random numbers depend on the seed and the number of the call alone.

Keras 2 draws them with a hidden state in the process: a training that resumes in another process
would draw other numbers. Here the state is a weight, so that a checkpoint holds it.
"""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tf_keras

from trainer.contract.config_loader import require


class Dropout(tf_keras.layers.Layer):
    """Sets values to 0 at a rate and scales the others, in training, like Keras' `Dropout`.

    Replicas of a `tf.distribute` strategy draw different numbers.

    Args:
      rate: Share of values to hide, at least 0 and below 1.
      noise_shape: Shape of the draws, which is broadcast to the inputs; None in it stands for the
        size of the inputs. None: the shape of the inputs.
      seed: Seed of the draws.
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
            # Each replica has its own counter, and all counters are equal: nothing is exchanged.
            self.num_calls = self.add_weight(
                "num_calls",
                [],
                tf.int64,
                initializer="zeros",
                trainable=False,
                aggregation=tf.VariableAggregation.NONE,
            )

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Hides some of the values in training.

        Args:
          inputs: float, values of any shape.
          training: Whether values are hidden; else the inputs are returned as they are.

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
        # `where` and not a product, so that a hidden value is 0 even if it was not finite.
        return tf.where(keep, inputs / (1 - self.rate), tf.zeros([], inputs.dtype))

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        own = {"rate": self.rate, "noise_shape": self.noise_shape, "seed": self.seed}
        return {**super().get_config(), **own}
