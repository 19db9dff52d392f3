"""Cases of the training benchmark: tagtower's training, its step and its input, and the peers.

Each case runs in a process of its own. It is built once, and its `measure` is called several times.
Model, optimizer, batch size, input pipeline and compiled step are those of
`trainer.fitting.loop.fit`; peers have the same loop.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
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
    """Work that was done in a measurement.

    Attributes:
      seconds: Seconds of the measurement.
      steps: Number of batches.
      snapshots: Number of user snapshots, or of runs of the user tower where it ran.
      label_examples: Number of label examples, as `training_data.label_examples` counts them.
      history_values: Number of values of the users' domains that were read, without padding.
    """

    seconds: float
    steps: int
    snapshots: int
    label_examples: float
    history_values: float


class Case:
    """Runs as many steps as fit into the given seconds, by the pace of the run before."""

    def __init__(self, run_steps: Callable[[int], Work]):
        """Initializes with a function that runs a number of steps."""
        self._run_steps = run_steps
        self._seconds_per_step = 0.0

    def warm_up(self, seconds: float) -> None:
        """Compiles the step, then measures the pace in a short run that does not count."""
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
    """The model of tagtower on a log, as the trainer sets it up.

    Attributes:
      config: The log's shipped configuration, with another `model.embedding_dim`.
      snapshots: Training snapshots, as many as fill whole batches.
      model: Model whose variables exist, with its optimizer.
      label_examples: Number of label examples of each snapshot.
      history_values: Number of history values of each snapshot.
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
        """Number of snapshots in a step."""
        return min(self.config.training.batch_size, self.snapshots.num_examples)

    def dataset(self) -> tf.data.Dataset:
        """Returns the trainer's endless input pipeline."""
        return self.snapshots.step_dataset(self.batch_size, _SEED, self.model.training_names)

    def fixed_rows(self) -> np.ndarray:
        """Returns the rows of a random batch."""
        rng = np.random.default_rng(_SEED)
        return rng.choice(self.snapshots.num_examples, self.batch_size, replace=False)

    def batch(self, rows: np.ndarray) -> dict[str, Any]:
        """Returns the snapshots of some rows as the model takes them."""
        return self.snapshots.take(rows).features(self.model.training_names)

    def work(self, seconds: float, steps: int, rows: Any = slice(None)) -> Work:
        """Computes the work of some batches of `rows`, by default of all snapshots at random."""
        snapshots = steps * self.batch_size
        labels = snapshots * float(self.label_examples[rows].mean())
        return Work(
            seconds, steps, snapshots, labels, snapshots * float(self.history_values[rows].mean())
        )


def configured(log_name: str, embedding_dim: int) -> PipelineConfig:
    """Returns the shipped configuration of a log with another size of the embeddings."""
    config = load_config(log_name)
    model = dataclasses.replace(config.model, embedding_dim=embedding_dim)
    return dataclasses.replace(config, model=model)


def training(log_name: str, arrays: Path, embedding_dim: int) -> Case:
    """Makes the case of input and step together, in the trainer's own loop."""
    ours = Ours.on(log_name, arrays, embedding_dim)
    step = compile_step(ours.model, iter(ours.dataset()), tf.distribute.get_strategy())
    return Case(lambda steps: ours.work(_loop(step, steps), steps))


def step_only(log_name: str, arrays: Path, embedding_dim: int) -> Case:
    """Makes the case of the step alone, always on the same batch."""
    ours = Ours.on(log_name, arrays, embedding_dim)
    rows = ours.fixed_rows()
    batch = ours.batch(rows)
    compiled = tf.function(ours.model.train_step, autograph=False)
    return Case(lambda steps: ours.work(_loop(lambda: compiled(batch), steps), steps, rows))


def input_only(log_name: str, arrays: Path, embedding_dim: int) -> Case:
    """Makes the case of the input pipeline alone."""
    ours = Ours.on(log_name, arrays, embedding_dim)
    batches = iter(ours.dataset())

    @tf.function(autograph=False)
    def take(batches: Any, steps: tf.Tensor) -> tf.Tensor:
        """Takes batches inside TensorFlow, as training does; returns their number of labels."""

        def body(step: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return step + 1, total + tf.size(next(batches)[f.LABEL_TAGS].flat_values)

        return tf.while_loop(lambda step, _: step < steps, body, (0, 0), parallel_iterations=1)[1]

    def run(steps: int) -> Work:
        started = time.perf_counter()
        int(take(batches, tf.constant(steps)))
        return ours.work(time.perf_counter() - started, steps)

    return Case(run)


def peer(name: str, log_name: str, arrays: Path, embedding_dim: int) -> Case:
    """Makes the case of a peer: input and step together, in a loop like the trainer's.

    Args:
      name: Name of the peer, `tfrs_two_tower` or `direct_utpm`.
      log_name: Name of the log.
      arrays: Folder of the log's arrays.
      embedding_dim: E, size of the embeddings; all widths are the same as tagtower's.

    Returns:
      The case.
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
    def step(batches: Iterator[Any]) -> dict[str, tf.Tensor]:
        return model.train_step(next(batches))

    def run(steps: int) -> Work:
        n = steps * batch_size
        return Work(_loop(lambda: step(batches), steps), steps, n, n, n * values_per_row)

    return Case(run)


def _loop(step: Callable[[], dict[str, tf.Tensor]], steps: int) -> float:
    """Takes some steps and returns their seconds.

    Raises:
      ValueError: A loss is not finite: the speed of a model that computes only NaN means nothing.
    """
    started = time.perf_counter()
    # Losses are read at the end, as in the trainer.
    losses = [step()["loss"] for _ in range(steps)]
    total = sum(float(loss) for loss in losses)
    seconds = time.perf_counter() - started
    require(math.isfinite(total), "loss", "be finite", total)
    return seconds


@dataclasses.dataclass(frozen=True)
class Products:
    """Figures of a step's matrix products.

    Attributes:
      flops: Floating-point operations of a step's products, forward and backward.
      seconds: Seconds of the same products alone, with nothing between them.
      square_flops_per_second: The machine's rate on large square matrices.
    """

    flops: int
    seconds: float
    square_flops_per_second: float


class ProductCase:
    """Measures the matrix products of `step_only`'s step, and the machine's rate."""

    def __init__(self, log_name: str, arrays: Path, embedding_dim: int):
        """Runs one step op by op to record its products."""
        ours = Ours.on(log_name, arrays, embedding_dim)
        batch = ours.batch(ours.fixed_rows())
        self._step = ProductTimer(record_products(lambda: ours.model.train_step(batch)))
        self._square = ProductTimer([square_product()])

    def warm_up(self, seconds: float) -> None:
        """Does nothing: the timers are warm when they are made."""

    def measure(self, seconds: float) -> Products:
        """Times everything once, which takes less than the `seconds` of other cases."""
        del seconds
        return Products(
            self._step.flops, self._step.seconds(), self._square.flops / self._square.seconds()
        )
