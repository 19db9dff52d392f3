"""A learning-rate schedule for an optimizer that has taken steps before."""

from typing import Any

import tensorflow as tf
import tf_keras


class FromStep(tf_keras.optimizers.schedules.LearningRateSchedule):
    """Another schedule, counted from a step on.

    An optimizer that goes on with another training's slots goes on with its count of steps too:
    Adam's corrections of its moments depend on it. The schedule is this training's own.

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
        """The learning rate at the optimizer's step."""
        return self.schedule(step - self.first_step)

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {"schedule": self.schedule, "first_step": self.first_step}
