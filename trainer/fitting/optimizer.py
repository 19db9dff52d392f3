"""The optimizer of a training, and how its learning rate falls."""

from typing import Any

import tf_keras

from trainer.config import TrainingConfig
from trainer.fitting.learning_rate import FromStep


def make_optimizer(
    config: TrainingConfig, num_steps: int | None = None, first_step: int = 0
) -> tf_keras.optimizers.Optimizer:
    """The optimizer that `config` names.

    Args:
      config: Names the optimizer and its learning rate.
      num_steps: Steps over which the `cosine` schedule falls; without it the learning rate is
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
