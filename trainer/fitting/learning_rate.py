"""A learning-rate schedule for an optimizer that has taken steps before."""

from typing import Any

import tensorflow as tf
import tf_keras


class FromStep(tf_keras.optimizers.schedules.LearningRateSchedule):
    """A schedule that starts at a later step of the optimizer.

    An optimizer that continues with another training's slots continues its count of steps, too:
    Adam's corrections of its moments depend on it. The schedule starts anew with each training.

    Args:
      schedule: The schedule.
      first_step: The optimizer's step that is the schedule's step 0.
    """

    def __init__(
        self, schedule: tf_keras.optimizers.schedules.LearningRateSchedule, first_step: int
    ):
        super().__init__()
        self.schedule = schedule
        self.first_step = first_step

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """Computes the learning rate at the optimizer's step."""
        return self.schedule(step - self.first_step)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {"schedule": self.schedule, "first_step": self.first_step}
