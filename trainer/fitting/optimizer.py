"""Makes the optimizer of a training with its learning-rate schedule."""

from typing import Any

import tf_keras

from trainer.config import TrainingConfig
from trainer.fitting.learning_rate import FromStep


def make_optimizer(
    config: TrainingConfig, num_steps: int | None = None, first_step: int = 0
) -> tf_keras.optimizers.Optimizer:
    """Makes the optimizer that `config` names.

    Args:
      config: Configuration with the optimizer and its learning rate.
      num_steps: Number of steps over which the `cosine` schedule falls; None: the learning rate is
        constant.
      first_step: Step of the optimizer at which the schedule begins.

    Returns:
      A fresh optimizer.
    """
    rate: Any = config.learning_rate
    if config.learning_rate_schedule == "cosine" and num_steps is not None:
        rate = FromStep(tf_keras.optimizers.schedules.CosineDecay(rate, num_steps), first_step)
    if config.optimizer == "adagrad":
        return tf_keras.optimizers.Adagrad(rate)
    return tf_keras.optimizers.Adam(rate)
