"""What is measured of training, each case in a process of its own: ours whole and in parts, peers.

A case is built once, and its `measure` called several times. Model, optimizer, batch size, input
pipeline and compiled step are those of `trainer.fitting.loop.fit`; peers have the same loop.
"""

import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from benchmarks import training_data
from benchmarks.matrix_products import ProductTimer, record_products, square_product
from benchmarks.peers import direct_utpm, tfrs_two_tower
from benchmarks.peers.label_rows import LabelRows
from tfx_pipeline.config.pipeline import PipelineConfig, load_config
from trainer.contract import features as f
from trainer.contract.config_loader import require
from trainer.data.snapshots import Snapshots
from trainer.fitting.loop import build_model, compile_step
from trainer.fitting.model_state import build_optimizer
from trainer.fitting.optimizer import make_optimizer
from trainer.model import InterestModel

_SEED = 0
_WARM_UP_STEPS = 5


@dataclasses.dataclass(frozen=True)
class Work:
    """What was done in some seconds.

    Attributes:
      seconds: That it took.
      steps: Batches.
      snapshots: User snapshots: runs of the user tower, where it ran.
      label_examples: See `training_data.label_examples`.
      history_values: Values of the users' domains that were read, padding not counted.
    """

    seconds: float
    steps: int
    snapshots: int
    label_examples: float
    history_values: float


class Case:
    """Runs as many steps as fit into the seconds asked for, by the pace of the run before."""

    def __init__(self, run_steps: Callable[[int], Work]):
        """Initializes with what runs that many steps."""
        self._run_steps = run_steps
        self._seconds_per_step = 0.0

    def warm_up(self, seconds: float) -> None:
        """Compiles, then finds the pace in a run too short to count."""
        self._run_steps(1)
        self._run(_WARM_UP_STEPS)
        self.measure(seconds / 2)

    def measure(self, seconds: float) -> Work:
        """Runs for about `seconds`, at least one step."""
        return self._run(max(1, round(seconds / self._seconds_per_step)))

    def _run(self, steps: int) -> Work:
        work = self._run_steps(steps)
        self._seconds_per_step = work.seconds / steps
        return work


@dataclasses.dataclass
class Ours:
    """Our model on a log, as the trainer sets it up.

    Attributes:
      config: The log's shipped configuration, with another `model.embedding_dim`.
      snapshots: Training snapshots, as many as fill whole batches.
      model: Built, with its optimizer.
      label_examples: Of each snapshot.
      history_values: Of each snapshot.
    """

    config: PipelineConfig
    snapshots: Snapshots
    model: InterestModel
    label_examples: np.ndarray
    history_values: np.ndarray

    @classmethod
    def on(cls, log_name: str, arrays: Path, embedding_dim: int) -> "Ours":
        """Builds model and optimizer as `trainer.fitting.loop.fit` does."""
        config, data = configured(log_name, embedding_dim), training_data.load(arrays)
        num_steps = max(1, data.snapshots.num_examples // config.training.batch_size)
        num_examples = min(num_steps * config.training.batch_size, data.snapshots.num_examples)
        snapshots = data.snapshots.take(np.arange(num_examples))
        tf_keras.utils.set_random_seed(_SEED)
        model = InterestModel(
            config.features,
            data.vocabulary_sizes,
            data.num_tags,
            config.model,
            config.training,
            seed=_SEED,
        )
        build_model(model, snapshots)
        build_optimizer(model, make_optimizer(config.training, num_steps=num_steps))
        return cls(
            config,
            snapshots,
            model,
            training_data.label_examples(snapshots, config.training),
            np.sum(
                [np.diff(snapshots.lists[d.name].offsets) for d in config.features.domains], axis=0
            ),
        )

    @property
    def batch_size(self) -> int:
        """Snapshots a step."""
        return min(self.config.training.batch_size, self.snapshots.num_examples)

    def dataset(self) -> tf.data.Dataset:
        """The trainer's input pipeline, without end."""
        return self.snapshots.step_dataset(self.batch_size, _SEED, self.model.training_names)

    def fixed_rows(self) -> np.ndarray:
        """Snapshots of a random batch."""
        rng = np.random.default_rng(_SEED)
        return rng.choice(self.snapshots.num_examples, self.batch_size, replace=False)

    def batch(self, rows: np.ndarray) -> dict[str, Any]:
        """Those snapshots as the model takes them."""
        return self.snapshots.take(rows).features(self.model.training_names)

    def work(self, seconds: float, steps: int, rows: Any = slice(None)) -> Work:
        """What so many batches of `rows`, of all snapshots at random by default, amount to."""
        snapshots = steps * self.batch_size
        labels = snapshots * float(self.label_examples[rows].mean())
        return Work(
            seconds, steps, snapshots, labels, snapshots * float(self.history_values[rows].mean())
        )


def configured(log_name: str, embedding_dim: int) -> PipelineConfig:
    """The shipped configuration of a log with another size of the embeddings."""
    config = load_config(log_name)
    model = dataclasses.replace(config.model, embedding_dim=embedding_dim)
    return dataclasses.replace(config, model=model)


def training(log_name: str, arrays: Path, embedding_dim: int) -> Case:
    """Input and step together, in the trainer's own loop."""
    ours = Ours.on(log_name, arrays, embedding_dim)
    step = compile_step(ours.model, iter(ours.dataset()), tf.distribute.get_strategy())
    return Case(lambda steps: ours.work(_loop(step, steps), steps))


def step_only(log_name: str, arrays: Path, embedding_dim: int) -> Case:
    """The step on the same batch again and again."""
    ours = Ours.on(log_name, arrays, embedding_dim)
    rows = ours.fixed_rows()
    batch = ours.batch(rows)
    compiled = tf.function(ours.model.train_step, autograph=False)
    return Case(lambda steps: ours.work(_loop(lambda: compiled(batch), steps), steps, rows))


def input_only(log_name: str, arrays: Path, embedding_dim: int) -> Case:
    """The input pipeline with nobody behind it."""
    ours = Ours.on(log_name, arrays, embedding_dim)
    batches = iter(ours.dataset())

    @tf.function(autograph=False)
    def take(batches: Any, steps: tf.Tensor) -> tf.Tensor:
        """Inside TensorFlow, as training takes its batches; gives their labels' number."""

        def body(step: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return step + 1, total + tf.size(next(batches)[f.LABEL_TAGS].flat_values)

        return tf.while_loop(lambda step, _: step < steps, body, (0, 0), parallel_iterations=1)[1]

    def run(steps: int) -> Work:
        started = time.perf_counter()
        int(take(batches, tf.constant(steps)))
        return ours.work(time.perf_counter() - started, steps)

    return Case(run)


def peer(name: str, log_name: str, arrays: Path, embedding_dim: int) -> Case:
    """A peer: input and step together, in a loop like the trainer's.

    Args:
      name: `tfrs_two_tower` or `direct_utpm`.
      log_name: The log.
      arrays: Its arrays.
      embedding_dim: E; the other widths are ours, too.
    """
    config, data = configured(log_name, embedding_dim), training_data.load(arrays)
    tf_keras.utils.set_random_seed(_SEED)
    rows = LabelRows.of(data.snapshots, config.features)
    make: Callable[..., tf_keras.Model]
    if name == "tfrs_two_tower":
        make, batch_size = tfrs_two_tower.TwoTower, tfrs_two_tower.BATCH_SIZE
    else:
        make, batch_size = direct_utpm.DirectUtpm, direct_utpm.BATCH_SIZE
    model = make(config.features, data.vocabulary_sizes, data.num_tags, config.model)
    model.compile(optimizer=tf_keras.optimizers.Adam(config.training.learning_rate))
    batch_size = min(batch_size, rows.num_rows)
    batches, values_per_row = iter(rows.dataset(batch_size, _SEED)), rows.values_per_row

    @tf.function(autograph=False)
    def step(batches):
        return model.train_step(next(batches))

    def run(steps: int) -> Work:
        n = steps * batch_size
        return Work(_loop(lambda: step(batches), steps), steps, n, n, n * values_per_row)

    return Case(run)


def _loop(step: Callable[[], dict[str, tf.Tensor]], steps: int) -> float:
    """Seconds of so many steps.

    Raises:
      ValueError: A loss is not finite: a model that computes nothing but NaN is no measure of
        speed.
    """
    started = time.perf_counter()
    # Read at the end, as the trainer does.
    losses = [step()["loss"] for _ in range(steps)]
    total = sum(float(loss) for loss in losses)
    seconds = time.perf_counter() - started
    require(math.isfinite(total), "loss", "be finite", total)
    return seconds


@dataclasses.dataclass(frozen=True)
class Products:
    """Matrix products of a step.

    Attributes:
      flops: Floating-point operations of a step's products, forward and backward.
      seconds: Of the same products alone, with nothing between them.
      square_flops_per_second: The machine's rate on large square matrices.
    """

    flops: int
    seconds: float
    square_flops_per_second: float


class ProductCase:
    """Times the matrix products of `step_only`'s step and the machine's rate beside them."""

    def __init__(self, log_name: str, arrays: Path, embedding_dim: int):
        """Runs one step op by op to see its products."""
        ours = Ours.on(log_name, arrays, embedding_dim)
        batch = ours.batch(ours.fixed_rows())
        self._step = ProductTimer(record_products(lambda: ours.model.train_step(batch)))
        self._square = ProductTimer([square_product()])

    def warm_up(self, seconds: float) -> None:
        """Nothing: the timers are warm when they are made."""

    def measure(self, seconds: float) -> Products:
        """Times everything once, which takes less than the `seconds` of other cases."""
        del seconds
        return Products(
            self._step.flops, self._step.seconds(), self._square.flops / self._square.seconds()
        )
