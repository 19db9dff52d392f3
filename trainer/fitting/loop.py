"""The training loop: steps, validation, checkpoints; no maths, and no files but its own.

Which snapshots a step gets, and what dropout hides in it, are functions of the seed and the step's
number. So a training that stopped goes on from its last checkpoint as if nothing had happened.
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
    """Figures of a fit.

    Attributes:
      steps: Steps taken.
      best_step: Steps of the state kept; 0: the untrained start.
      budget: Steps that there might have been, and of what.
      epochs: Epochs that the steps are.
      is_improving: Whether the whole budget was used while validation users still improved.
      examples_per_second: Training snapshots a second, validation not counted.
      evaluated_steps: Steps taken before each evaluation, the first at 0.
      validation: Metrics on validation users, by evaluation; in a process that is not the chief
        empty.
      losses: Mean loss of the training steps between each two evaluations.
      seconds_per_epoch: Mean time of an epoch's training steps.
      seconds_per_evaluation: Mean time of an evaluation on validation users.
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
    """Fits a model with early stopping on validation users, and leaves it at its best state.

    The untrained start is a state like any other: a training that brings nothing keeps it.

    Args:
      model: A fresh model, of no strategy, which gets its initial values here; its optimizer is as
        the last step left it afterwards.
      train: Training snapshots.
      validation: One snapshot a validation user.
      seed: Of the order of training snapshots.
      log_dir: Of TensorBoard; None: no logs.
      start: Weights and slots to begin with; None: those of `set_initial_values`, and fresh slots.
        The schedule of the learning rate begins anew.
      checkpoints: Where the state is kept after every evaluation (and every `checkpoint_steps`),
        and where a training that stopped is taken up; removing it is the caller's work, once what
        was trained is safe. None: nowhere.
      replicas: On what to train; None: here.
      make_replica: Makes another model of the same arguments, for `replicas` that are distributed.
      path: The linear path that the model will have; the loss does not see it.

    Returns:
      What happened, in all processes of a training that was taken up.

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
    """One training; its methods are called in their order."""

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
        # What is trained under a strategy is a copy: everything else, from validation to saving,
        # sees a model like any other.
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
        """Sets weights, slots and progress to where the training begins or goes on."""
        self._checkpoints = checkpoints
        found = None if checkpoints is None else checkpoints.load()
        if found is not None:
            self._progress, self._best_weights = found.progress, found.best_weights
            _progress.info(
                "goes on from the checkpoint after step %d of %d",
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
        """Within it, the chief writes TensorBoard's files."""
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
        """Whether the budget is used, or the last evaluations brought nothing."""
        progress = self._progress
        return progress.step == self._budget.num_steps or progress.stopping.should_stop

    def run_to_evaluation(self) -> None:
        """Takes what is left of the steps before an evaluation, evaluates, remembers the best."""
        progress = self._progress
        if not progress.stopping.steps:
            # The start. No step is taken, and where it is lost it is evaluated anew.
            self._tell(*self._evaluate())
            return
        first = progress.stopping.steps[-1]
        end = self._budget.next_evaluation(first)
        self._take_steps(first, end)
        loss = progress.loss_since / (end - first)
        require(
            math.isfinite(loss),
            "training.learning_rate",
            "be low enough for the loss to stay finite, which it did not in the steps "
            f"{first + 1} to {end}",
            self._config.learning_rate,
        )
        progress.losses.append(loss)
        progress.seconds.append(progress.seconds_since)
        progress.loss_since = progress.seconds_since = 0.0
        result = self._evaluate()
        self._save_checkpoint()
        self._tell(*result)  # who reads the line may end the process: nothing is lost then

    def _evaluate(self) -> tuple[float | None, bool]:
        """The deciding metric of the state, and whether it is the best so far."""
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
        # One process decides, for metrics may differ in their last digits between machines.
        value = self._replicas.from_chief(value)
        progress.validation_seconds.append(time.perf_counter() - started)
        is_best = progress.stopping.update(progress.step, value)
        if is_best:
            self._best_weights = copy_weights(self._model, into=self._best_weights)
        return value, is_best

    def _tell(self, value: float | None, is_best: bool) -> None:
        """A line for who waits: how far it is, and what it has brought."""
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
            # In double precision and in the order of the steps, wherever a checkpoint falls.
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
        # In all processes, see `ModelState.of`.
        state = ModelState.of(self._trained)
        if self._replicas.is_chief:
            self._checkpoints.save(Checkpoint(state, self._best_weights, self._progress))

    def finish(self) -> FitResult:
        """Leaves the model at its best state."""
        progress = self._progress
        last = ModelState.of(self._trained)
        if self._trained is not self._model:
            build_optimizer(self._model, self._make_optimizer())
        # Without a truth of any validation user the last state is as good as any.
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
    """A training step on the next batch, compiled at its first call.

    Args:
      model: Built, with an optimizer, both in the strategy's scope.
      batches: Of a dataset without end, distributed by the strategy.
      strategy: The strategy.

    Returns:
      A function without arguments; it gives the step's loss and the model's metrics.
    """

    @tf.function(autograph=False)
    def step(batches: Iterator[Any]) -> dict[str, tf.Tensor]:
        figures = strategy.run(model.train_step, args=(next(batches),))
        # Losses are the replicas' parts of the step's, all other figures are the same anywhere.
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
      model: The model; nothing happens to one that is built.
      snapshots: Any with labels.
    """
    first = snapshots.take(np.arange(1)).features(model.training_names)
    strategy = tf.distribute.get_strategy()
    build = functools.partial(strategy.run, model.compute_loss, args=(first,))
    # TensorFlow wants replicas to run in compiled functions; without any, eager is faster.
    (tf.function(build, autograph=False) if tf.distribute.has_strategy() else build)()
    model.reset_metrics()
