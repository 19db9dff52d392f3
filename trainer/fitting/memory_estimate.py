"""Estimates how much memory a training will take, before it begins and without allocating tables.

Weights and slots are counted exactly: the model is made in a function whose tracing never
finishes, where a table is a description without values, and its shapes are added up. (A plain graph
would do, but making a Keras 2 model in one breaks existing models.) The estimate of the other
memory follows from `trainer.fitting.loop` and `trainer.evaluation.figures`.
"""

import contextlib
import dataclasses
import os
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from trainer.config import TrainingConfig
from trainer.contract.config_loader import require
from trainer.data.snapshots import Snapshots
from trainer.evaluation.figures import users_at_once
from trainer.model import InterestModel

# Compiled steps and scorers, buffers of threads: measured in a training of eight tags on two cores.
_GRAPHS_MB = 350.0
# Memory of the process where the system does not tell it: TensorFlow and Transform, imported.
_LIBRARIES_MB = 700.0
# Bytes for one user and tag in an evaluation: scores, scores of novel tags, copies that a partition
# makes of both, ranks, and four boolean matrices.
_BYTES_PER_SCORE = 24
# Slots for each trainable weight: moments, or the sum of squares.
_SLOTS = {"adam": 2, "adagrad": 1}
# Copies of a table in an update that reads all of its rows: gradient, quotient, root.
_TABLES_PER_DENSE_UPDATE = 3


@dataclasses.dataclass(frozen=True)
class MemoryEstimate:
    """Megabytes that a training takes, by part.

    Attributes:
      process_mb: Memory of the process before training: libraries, snapshots, vocabularies.
      graphs_mb: Compiled steps, buffers of threads; a measured constant.
      inputs_mb: The columns that training reads, as tensors.
      parameters_mb: Weights; with replicas, those of each and of the model that is evaluated.
      optimizer_mb: Slots of the optimizer.
      best_state_mb: The weights of the best state.
      start_mb: The state from which a warm start begins.
      transient_mb: The largest temporary memory: a checkpoint (weights and slots once more), the
        tables and scores of a validation or of the second stage, or the tables of an update by Adam
        or over a full softmax.
    """

    process_mb: float
    graphs_mb: float
    inputs_mb: float
    parameters_mb: float
    optimizer_mb: float
    best_state_mb: float
    start_mb: float
    transient_mb: float

    @property
    def total_mb(self) -> float:
        """The estimated peak, the sum of all parts."""
        return sum(dataclasses.astuple(self))

    def __str__(self) -> str:
        parts = [
            f"{field.name.removesuffix('_mb').replace('_', ' ')} {value:,.0f}"
            for field in dataclasses.fields(self)
            if (value := getattr(self, field.name)) >= 0.5
        ]
        return f"{self.total_mb:,.0f} MB ({', '.join(parts)})"

    def to_mapping(self) -> dict[str, float]:
        """Returns the parts and `total_mb` for a report, rounded to a tenth."""
        figures = {**dataclasses.asdict(self), "total_mb": self.total_mb}
        return {name: round(value, 1) for name, value in figures.items()}


def estimate_memory(
    make_model: Callable[[], InterestModel],
    train: Snapshots,
    *,
    num_replicas: int = 0,
    has_base_model: bool = False,
) -> MemoryEstimate:
    """Estimates the peak memory of a training in this process.

    Args:
      make_model: Function that makes a fresh model; called once, in a graph of its own.
      train: Training snapshots.
      num_replicas: Number of replicas in this process, each with weights and slots of its own; 0:
        the model itself is trained.
      has_base_model: Whether training starts from an earlier model.

    Returns:
      The estimate.
    """
    model = _describe(make_model, train)
    config, width = model.training_config, model.model_config.output_dim + 1
    if model.model_config.linear_path != "none":
        width += model.model_config.linear_path_dim
    weights, trainable = _megabytes(model.variables), _megabytes(model.trainable_variables)
    slots = _SLOTS[config.optimizer] * trainable
    copies = max(num_replicas, 1)
    state = weights + slots
    return MemoryEstimate(
        process_mb=_process_mb(),
        graphs_mb=_GRAPHS_MB,
        inputs_mb=_column_megabytes(train, model.training_names),
        parameters_mb=weights * (1 + num_replicas),
        optimizer_mb=slots * copies,
        best_state_mb=weights,
        start_mb=state if has_base_model else 0.0,
        transient_mb=max(
            state * (2 if has_base_model else 1),
            _validation_mb(model.num_tags, width),
            _update_mb(config, model.num_tags, trainable) * copies,
        ),
    )


def _describe(make_model: Callable[[], InterestModel], train: Snapshots) -> InterestModel:
    """Makes a model whose large variables have shapes and no values."""
    made: list[InterestModel] = []

    @tf.function(autograph=False)
    def trace() -> None:
        model = make_model()
        # Layers make their variables at their first call; nothing runs.
        model.compute_loss(train.take(np.arange(1)).features(model.training_names))
        made.append(model)
        raise _Described  # so that TensorFlow does not give the variables their values

    with contextlib.suppress(_Described):
        trace()
    return made[0]


class _Described(Exception):  # noqa: N818 (no error)
    """Ends the tracing of a function."""


def require_memory(estimate: MemoryEstimate, config: TrainingConfig) -> None:
    """Refuses a training that would take more than the configured bound.

    Args:
      estimate: Estimated memory of the training.
      config: Configuration of the training.

    Raises:
      ValueError: `max_memory_mb` is below the estimate.
    """
    bound = config.max_memory_mb
    require(
        bound is None or estimate.total_mb <= bound,
        "training.max_memory_mb",
        f"be at least the estimate for this training, {estimate}; less memory is needed with "
        "`training.optimizer: adagrad`, a smaller `model.output_dim` or `model.embedding_dim`, "
        "`model.share_tag_embeddings`, or fewer tags (`max_size` or `min_frequency` in "
        "`features.vocabularies`)",
        bound,
    )


def _validation_mb(num_tags: int, width: int) -> float:
    # The candidates with their biases, those of the click head, and the tables they are made from.
    tables = 4 * num_tags * width * 4
    return (tables + users_at_once(num_tags) * num_tags * _BYTES_PER_SCORE) / 1e6


def _update_mb(config: TrainingConfig, num_tags: int, trainable: float) -> float:
    is_sparse = config.optimizer == "adagrad" and num_tags > config.full_softmax_max_tags
    return 0.0 if is_sparse else _TABLES_PER_DENSE_UPDATE * trainable


def _megabytes(variables: list[tf.Variable]) -> float:
    return sum(v.shape.num_elements() * v.dtype.size for v in variables) / 1e6


def _column_megabytes(snapshots: Snapshots, names: tuple[str, ...]) -> float:
    columns = [snapshots.scalars[name].nbytes for name in names if name in snapshots.scalars]
    lists = [snapshots.lists[name] for name in names if name in snapshots.lists]
    return (sum(columns) + sum(c.values.nbytes + c.offsets.nbytes for c in lists)) / 1e6


def _process_mb() -> float:
    """Returns the resident memory of this process in MB."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            num_pages = int(file.read().split()[1])
    except OSError:
        return _LIBRARIES_MB
    return num_pages * os.sysconf("SC_PAGE_SIZE") / 1e6
