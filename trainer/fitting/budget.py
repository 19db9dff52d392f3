"""How long a training may take, in steps, fixed before its first one: no figure of it enters.

A large log is trained for some epochs. A small one has few steps an epoch, so it is trained in
smaller batches and for more epochs, until validation users stop improving.
"""

import dataclasses
import math

from trainer.config import TrainingConfig

# Smaller batches than these only where `batch_size` says so: their means are noise.
_MIN_BATCH = 32
# Evaluations of a training at most, where it has more epochs than that.
_MAX_EVALUATIONS = 20
# Steps between two of TensorBoard's points of the training: a curve, even of a budget of a few
# hundred steps.
LOG_EVERY_STEPS = 50


@dataclasses.dataclass(frozen=True)
class Budget:
    """The steps of a training.

    Attributes:
      batch_size: Snapshots a step.
      steps_per_epoch: Steps that see every snapshot once.
      num_steps: Steps at most; the learning rate's schedule runs over them.
      min_steps: Steps before which training does not stop.
      evaluation_steps: Steps between two evaluations on validation users.
    """

    batch_size: int
    steps_per_epoch: int
    num_steps: int
    min_steps: int
    evaluation_steps: int

    @classmethod
    def of(cls, config: TrainingConfig, num_examples: int, num_replicas: int = 1) -> "Budget":
        """The budget of a training.

        Args:
          config: Its bounds.
          num_examples: Training snapshots.
          num_replicas: Each of which gets a snapshot of every full batch.

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
        """The first step after `step` that an evaluation follows: the budget's last one is such."""
        return min((step // self.evaluation_steps + 1) * self.evaluation_steps, self.num_steps)
