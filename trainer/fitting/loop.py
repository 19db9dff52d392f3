"""The training loop: steps, validation, checkpoints; no maths, and no files but its own.

The snapshots of a step, and what dropout hides in it, are functions of the seed and the step's
number. So a training that stopped resumes from its last checkpoint with the same result.
"""

import contextlib
import dataclasses
import functools
import logging
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from trainer.contract.config_loader import require
from trainer.data.snapshots import Snapshots
from trainer.evaluation.linear_path import FittedPath
from trainer.fitting.budget import LOG_EVERY_STEPS, Budget
from trainer.fitting.checkpoints import Checkpoint, CheckpointFolder, Progress
from trainer.fitting.distribution import Replicas
from trainer.fitting.early_stopping import EarlyStopping, InMemoryEvaluator
from trainer.fitting.initial_values import set_initial_values
from trainer.fitting.model_state import (
    Arrays,
    ModelState,
    assign_weights,
    build_optimizer,
    copy_weights,
)
from trainer.fitting.optimizer import make_optimizer
from trainer.model import InterestModel

_progress = logging.getLogger("tagtower.train")


@dataclasses.dataclass(frozen=True)
class FitResult:
    """Figures of a training.

    Attributes:
      steps: Number of steps taken.
      best_step: Number of steps of the state kept; 0: the untrained start.
      budget: Budget of the training.
      epochs: Number of epochs that the steps make.
      is_improving: Whether the whole budget was used while validation users still improved.
      examples_per_second: Training snapshots a second, validation not counted.
      evaluated_steps: Number of steps before each evaluation, the first at 0.
      validation: Metrics on validation users at each evaluation; empty in a process that is not the
        chief.
      losses: Mean losses of the training steps between evaluations.
      seconds_per_epoch: Mean seconds of an epoch's training steps.
      seconds_per_evaluation: Mean seconds of an evaluation on validation users.
    """

    steps: int
    best_step: int
    budget: Budget
    epochs: float
    is_improving: bool
    examples_per_second: float
    evaluated_steps: tuple[int, ...]
    validation: tuple[dict[str, float | None], ...]
    losses: tuple[float, ...] = ()
    seconds_per_epoch: float = 0.0
    seconds_per_evaluation: float = 0.0


def fit(
    model: InterestModel,
    train: Snapshots,
    validation: Snapshots,
    seed: int,
    log_dir: str | None = None,
    *,
    start: ModelState | None = None,
    checkpoints: CheckpointFolder | None = None,
    replicas: Replicas | None = None,
    make_replica: Callable[[], InterestModel] | None = None,
    path: FittedPath | None = None,
) -> FitResult:
    """Trains a model with early stopping on validation users, and leaves it at its best state.

    The untrained start is a state like any other: a training that brings no improvement keeps it.

    Args:
      model: A fresh model outside of a strategy, which gets its initial values here; afterwards its
        optimizer is in the state after the last step.
      train: Training snapshots.
      validation: One snapshot for each validation user.
      seed: Seed of the order of training snapshots.
      log_dir: Folder of TensorBoard's logs; None: no logs.
      start: Weights and slots to begin with; None: those of `set_initial_values`, and fresh slots.
        The schedule of the learning rate begins anew.
      checkpoints: Folder where the state is saved after every evaluation (and every
        `checkpoint_steps`), and from which a training that stopped resumes. The caller removes it
        when the trained model is saved. None: no checkpoints.
      replicas: Replicas on which the model is trained; None: this process alone.
      make_replica: Function that makes another model with the same arguments, for distributed
        `replicas`.
      path: Linear path that the model will have; the loss does not include it.

    Returns:
      Figures of the training, including its part before it was resumed.

    Raises:
      ValueError: `replicas` are distributed and `make_replica` is missing, a step has fewer
        snapshots than there are replicas, or training diverges.
    """
    training = _Training(model, train, validation, seed, replicas or Replicas(), make_replica, path)
    training.begin(start, checkpoints)
    with training.logs(log_dir):
        while not training.is_finished:
            training.run_to_evaluation()
    return training.finish()


class _Training:
    """One training; `fit` calls its methods in their order."""

    def __init__(
        self,
        model: InterestModel,
        train: Snapshots,
        validation: Snapshots,
        seed: int,
        replicas: Replicas,
        make_replica: Callable[[], InterestModel] | None,
        path: FittedPath | None,
    ):
        self._model = model
        self._train = train
        self._validation = validation
        self._seed = seed
        self._replicas = replicas
        self._config = model.training_config
        num_replicas = replicas.strategy.num_replicas_in_sync
        self._budget = Budget.of(self._config, train.num_examples, num_replicas)
        build_model(model, train)
        # Under a strategy a copy is trained; all else, up to saving, uses a model without one.
        self._trained = model
        if replicas.is_distributed:
            require(
                self._config.batch_size >= num_replicas,
                "training.batch_size",
                f"be at least the number of replicas ({num_replicas})",
                self._config.batch_size,
            )
            require(
                make_replica is not None, "make_replica", "be given with a strategy", make_replica
            )
            with replicas.strategy.scope():
                self._trained = make_replica()  # type: ignore[misc]
                build_model(self._trained, train)
        self._evaluator = InMemoryEvaluator(model, path)
        self._best_weights: Arrays = {}
        self._progress = Progress(EarlyStopping(self._config.patience, self._budget.min_steps))
        self._checkpoints: CheckpointFolder | None = None
        self._writer: tf.summary.SummaryWriter | None = None

    def begin(self, start: ModelState | None, checkpoints: CheckpointFolder | None) -> None:
        """Sets weights, slots and progress to those where the training begins or resumes."""
        self._checkpoints = checkpoints
        found = None if checkpoints is None else checkpoints.load()
        if found is not None:
            self._progress, self._best_weights = found.progress, found.best_weights
            _progress.info(
                "resuming from the checkpoint after step %d of %d",
                self._progress.step,
                self._budget.num_steps,
            )
        elif start is not None:
            self._progress.first_iteration = start.iterations
        else:
            set_initial_values(self._model, self._train)
        with self._replicas.strategy.scope():
            build_optimizer(self._trained, self._make_optimizer())
        if found is not None:
            found.state.assign_to(self._trained)
        elif start is not None:
            start.assign_to(self._trained)
        elif self._replicas.is_distributed:
            assign_weights(self._trained, copy_weights(self._model))
        self._batches = iter(
            self._replicas.datasets(
                lambda share: self._train.step_dataset(
                    self._budget.batch_size,
                    self._seed,
                    self._model.training_names,
                    self._progress.step,
                    share,
                )
            )
        )
        self._step = compile_step(self._trained, self._batches, self._replicas.strategy)

    def _make_optimizer(self) -> Any:
        return make_optimizer(
            self._config, self._budget.num_steps, first_step=self._progress.first_iteration
        )

    @contextlib.contextmanager
    def logs(self, log_dir: str | None) -> Iterator[None]:
        """Opens TensorBoard's files for the chief while the context lasts."""
        if log_dir and self._replicas.is_chief:
            self._writer = tf.summary.create_file_writer(log_dir)
        yield
        if self._writer is not None:
            self._writer.close()

    def _log(self, prefix: str, figures: dict[str, Any]) -> None:
        if self._writer is not None:
            with self._writer.as_default(self._progress.step):
                for name, value in figures.items():
                    if value is not None:
                        tf.summary.scalar(f"{prefix}/{name}", value)

    @property
    def is_finished(self) -> bool:
        """Whether the budget is used, or the last evaluations brought no improvement."""
        progress = self._progress
        return progress.step == self._budget.num_steps or progress.stopping.should_stop

    def run_to_evaluation(self) -> None:
        """Takes the remaining steps before an evaluation, evaluates, and keeps the best state."""
        progress = self._progress
        if not progress.stopping.steps:
            # The start has no checkpoint: a killed process evaluates it anew.
            self._tell(*self._evaluate())
            return
        first = progress.stopping.steps[-1]
        end = self._budget.next_evaluation(first)
        self._take_steps(first, end)
        loss = progress.loss_since / (end - first)
        require(
            math.isfinite(loss),
            "training.learning_rate",
            "be low enough for the loss to stay finite: it was not finite in the steps "
            f"{first + 1} to {end}",
            self._config.learning_rate,
        )
        progress.losses.append(loss)
        progress.seconds.append(progress.seconds_since)
        progress.loss_since = progress.seconds_since = 0.0
        result = self._evaluate()
        self._save_checkpoint()
        self._tell(*result)  # after the checkpoint: a user who reads the line may end the process

    def _evaluate(self) -> tuple[float | None, bool]:
        """Returns the deciding metric of the state, and whether the state is the best so far."""
        progress = self._progress
        started = time.perf_counter()
        if self._replicas.is_distributed:
            assign_weights(self._model, copy_weights(self._trained))
        value = None
        if self._replicas.is_chief:
            figures = self._evaluator.evaluate(self._validation)
            progress.history.append(figures)
            self._log("validation", figures)
            value = figures[self._config.early_stopping_metric]
        # The chief's value decides, as metrics may differ in their last digits between machines.
        value = self._replicas.from_chief(value)
        progress.validation_seconds.append(time.perf_counter() - started)
        is_best = progress.stopping.update(progress.step, value)
        if is_best:
            self._best_weights = copy_weights(self._model, into=self._best_weights)
        return value, is_best

    def _tell(self, value: float | None, is_best: bool) -> None:
        """Logs a line with the progress and the quality of the training."""
        progress, stopping = self._progress, self._progress.stopping
        where = "before the first step"
        seconds = progress.validation_seconds[-1]
        if progress.step:
            epoch = progress.step / self._budget.steps_per_epoch
            where = f"step {progress.step} of {self._budget.num_steps} (epoch {epoch:.1f})"
            where += f": loss {progress.losses[-1]:.4f}"
            seconds = progress.seconds[-1]
        best = " *"
        if not is_best and stopping.best_value is not None:
            best = f" (best: {stopping.best_value:.4f} after step {stopping.best_step})"
        _progress.info(
            "%s, validation %s %s%s, %.1f s",
            where,
            self._config.early_stopping_metric,
            "undefined" if value is None else f"{value:.4f}",
            best if stopping.best_value is not None else "",
            seconds,
        )

    def _take_steps(self, first: int, end: int) -> None:
        progress = self._progress
        started = time.perf_counter()
        losses: list[tf.Tensor] = []
        if progress.step == first:
            self._trained.reset_metrics()

        def settle() -> None:
            nonlocal started
            # Added in double precision and in order of the steps, whenever a checkpoint is saved.
            for loss in losses:
                progress.loss_since += float(loss)
            losses.clear()
            now = time.perf_counter()
            progress.seconds_since += now - started
            started = now

        every = self._config.checkpoint_steps
        while progress.step < end:
            figures = self._step()
            progress.step += 1
            losses.append(figures["loss"])
            if progress.step % LOG_EVERY_STEPS == 0:
                self._log("train", figures)
            if every is not None and progress.step % every == 0 and progress.step < end:
                settle()
                self._save_checkpoint()
                started = time.perf_counter()
        settle()

    def _save_checkpoint(self) -> None:
        if self._checkpoints is None:
            return
        # All processes must take part (`ModelState.of`).
        state = ModelState.of(self._trained)
        if self._replicas.is_chief:
            self._checkpoints.save(Checkpoint(state, self._best_weights, self._progress))

    def finish(self) -> FitResult:
        """Sets the model to its best state and returns the figures of the training."""
        progress = self._progress
        last = ModelState.of(self._trained)
        if self._trained is not self._model:
            build_optimizer(self._model, self._make_optimizer())
        # If no validation user has a truth, the last state is as good as any.
        weights = self._best_weights or last.weights
        dataclasses.replace(last, weights=weights).assign_to(self._model)
        stopping, budget = progress.stopping, self._budget
        seconds, epochs = sum(progress.seconds), progress.step / budget.steps_per_epoch
        return FitResult(
            steps=progress.step,
            best_step=progress.step if stopping.best_step is None else stopping.best_step,
            budget=budget,
            epochs=epochs,
            is_improving=progress.step == budget.num_steps and stopping.is_improving,
            examples_per_second=self._train.num_examples * epochs / max(seconds, 1e-9),
            evaluated_steps=tuple(stopping.steps),
            validation=tuple(progress.history),
            losses=tuple(progress.losses),
            seconds_per_epoch=seconds / epochs,
            seconds_per_evaluation=sum(progress.validation_seconds) / len(stopping.steps),
        )


def compile_step(
    model: InterestModel, batches: Iterator[Any], strategy: tf.distribute.Strategy
) -> Callable[[], dict[str, tf.Tensor]]:
    """Returns a training step on the next batch, which is compiled at its first call.

    Args:
      model: Model with variables and an optimizer, both made in the strategy's scope.
      batches: Iterator over an endless dataset, distributed by the strategy.
      strategy: The strategy.

    Returns:
      A function without arguments that returns the step's loss and the model's metrics.
    """

    @tf.function(autograph=False)
    def step(batches: Iterator[Any]) -> dict[str, tf.Tensor]:
        figures = strategy.run(model.train_step, args=(next(batches),))
        # A replica's loss is its part of the step's loss; all other figures are equal on replicas.
        loss = strategy.reduce(tf.distribute.ReduceOp.SUM, figures["loss"], axis=None)
        others = {
            metric.name: strategy.experimental_local_results(figures[metric.name])[0]
            for metric in model.metrics
        }
        return {**others, "loss": loss}

    return lambda: step(batches)


def build_model(model: InterestModel, snapshots: Snapshots) -> None:
    """Makes all variables of a model, under the strategy in whose scope this is called.

    Layers make their variables when they are first called.

    Args:
      model: The model; if its variables exist, nothing changes.
      snapshots: Any snapshots with labels.
    """
    first = snapshots.take(np.arange(1)).features(model.training_names)
    strategy = tf.distribute.get_strategy()
    build = functools.partial(strategy.run, model.compute_loss, args=(first,))
    # TensorFlow requires replicas to run in compiled functions; without replicas, eager is faster.
    (tf.function(build, autograph=False) if tf.distribute.has_strategy() else build)()
    model.reset_metrics()
