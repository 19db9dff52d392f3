"""Computes the budget of a training in steps, before its first step.

A large log is trained for some epochs. A small one has few steps an epoch, so it is trained in
smaller batches and for more epochs, until validation users stop improving.
"""

import dataclasses
import math

from trainer.config import TrainingConfig

# Smallest batch unless `batch_size` is smaller: the means of smaller batches are too noisy.
_MIN_BATCH = 32
# Largest number of evaluations in a training by default.
_MAX_EVALUATIONS = 20
# Steps between two points of training in TensorBoard: a budget of a few hundred steps has a curve.
LOG_EVERY_STEPS = 50


@dataclasses.dataclass(frozen=True)
class Budget:
    """The batch size and the steps of a training.

    Attributes:
      batch_size: Number of snapshots in a step.
      steps_per_epoch: Number of steps that see every snapshot once.
      num_steps: Largest number of steps, over which the learning rate's schedule runs.
      min_steps: Number of steps before which training does not stop.
      evaluation_steps: Steps between two evaluations on validation users.
    """

    batch_size: int
    steps_per_epoch: int
    num_steps: int
    min_steps: int
    evaluation_steps: int

    @classmethod
    def of(cls, config: TrainingConfig, num_examples: int, num_replicas: int = 1) -> "Budget":
        """Computes the budget of a training.

        Args:
          config: Configuration of the training.
          num_examples: Number of training snapshots.
          num_replicas: Number of replicas, each of which gets a snapshot of every full batch.

        Returns:
          The budget.
        """
        largest = int(config.max_batch_share * num_examples)
        batch_size = min(config.batch_size, max(_MIN_BATCH, num_replicas, largest))
        steps_per_epoch = math.ceil(num_examples / batch_size)
        num_steps = max(config.max_epochs * steps_per_epoch, config.budget_steps, config.min_steps)
        if config.max_steps is not None:
            num_steps = min(num_steps, config.max_steps)
        evaluation_steps = config.evaluation_steps
        if evaluation_steps is None:
            evaluation_steps = max(steps_per_epoch, math.ceil(num_steps / _MAX_EVALUATIONS))
        return cls(batch_size, steps_per_epoch, num_steps, config.min_steps, evaluation_steps)

    def next_evaluation(self, step: int) -> int:
        """Returns the first step after `step` that an evaluation follows; one follows the last."""
        return min((step // self.evaluation_steps + 1) * self.evaluation_steps, self.num_steps)
