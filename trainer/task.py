"""`run_fn`: reads transformed examples, fits the model, saves the towers; no maths."""

import dataclasses
import json
import logging
import math
import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
import tf_keras

from trainer import features as f
from trainer.config import ModelConfig, TrainingConfig
from trainer.config_loader import from_mapping, to_mapping
from trainer.evaluation import evaluate
from trainer.input_data import load_snapshots, load_tags, vocabulary_sizes
from trainer.model import InterestModel, make_optimizer
from trainer.saved_towers import save_towers
from trainer.snapshots import Snapshots

if TYPE_CHECKING:
    from tfx.components.trainer.fn_args_utils import FnArgs

# Keys of `custom_config`; each value is JSON.
MODEL_KEY = "model"
TRAINING_KEY = "training"
SEED_KEY = "seed"

# Beside the SavedModel: resolved configuration and figures of the fit.
TRAINING_FILE = "training.json"

_progress = logging.getLogger("tagtower.train")


@dataclasses.dataclass(frozen=True)
class FitResult:
    """Figures of a fit.

    Attributes:
      epochs: Epochs run.
      best_epoch: The one kept, counted from 1.
      examples_per_second: Training snapshots a second, validation not counted.
      validation: Metrics on validation users, by epoch.
    """

    epochs: int
    best_epoch: int
    examples_per_second: float
    validation: tuple[dict[str, float | None], ...]


def run_fn(fn_args: "FnArgs") -> None:
    """Trains on the transformed examples that TFX names and saves the towers where it says.

    Args:
      fn_args: `custom_config` holds `features`, `model`, `training` and `seed`, each as JSON.
    """
    config: Mapping[str, str] = fn_args.custom_config
    spec = from_mapping(f.FeatureSpec, json.loads(config[f.FEATURES_KEY]), f.FEATURES_KEY)
    model_config = from_mapping(ModelConfig, json.loads(config[MODEL_KEY]), MODEL_KEY)
    training_config = from_mapping(TrainingConfig, json.loads(config[TRAINING_KEY]), TRAINING_KEY)
    seed = int(json.loads(config[SEED_KEY]))

    transform_output = tft.TFTransformOutput(fn_args.transform_output)
    train = load_snapshots(fn_args.train_files, transform_output)
    validation = load_snapshots(fn_args.eval_files, transform_output)
    _progress.info(
        "%d training snapshots, %.0f MB in memory", train.num_examples, train.nbytes / 1e6
    )

    tf_keras.utils.set_random_seed(seed)
    model = InterestModel(
        spec,
        vocabulary_sizes(transform_output, spec),
        len(load_tags(transform_output)),
        model_config,
        training_config,
        seed=seed,
    )
    result = fit(model, train, validation, seed, fn_args.model_run_dir)
    save_towers(model, transform_output, fn_args.serving_model_dir)
    summary = {
        "features": to_mapping(spec),
        "model": to_mapping(model_config),
        "training": to_mapping(training_config),
        "seed": seed,
        "num_tags": model.num_tags,
        "fit": dataclasses.asdict(result),
    }
    with tf.io.gfile.GFile(os.path.join(fn_args.serving_model_dir, TRAINING_FILE), "w") as file:
        file.write(json.dumps(summary, indent=1, sort_keys=True) + "\n")


def fit(
    model: InterestModel,
    train: Snapshots,
    validation: Snapshots,
    seed: int,
    log_dir: str | None = None,
) -> FitResult:
    """Fits a model with early stopping on validation users, and leaves it at its best epoch.

    Args:
      model: A fresh model.
      train: Training snapshots.
      validation: One snapshot a validation user.
      seed: Of the order of training snapshots.
      log_dir: Of TensorBoard; None: no logs.

    Returns:
      What happened.
    """
    config = model.training_config
    steps_per_epoch = math.ceil(train.num_examples / config.batch_size)
    model.compile(optimizer=make_optimizer(config, steps_per_epoch=steps_per_epoch))
    stopping = ProtocolEarlyStopping(
        model, validation, config.early_stopping_metric, config.patience, config.max_epochs
    )
    callbacks: list[tf_keras.callbacks.Callback] = [stopping]
    if log_dir:
        callbacks.append(
            tf_keras.callbacks.TensorBoard(
                log_dir, update_freq=config.log_every_steps, write_graph=False
            )
        )
    dataset = train.batch_dataset(config.batch_size, seed=seed, names=model.training_names)
    model.fit(dataset, epochs=config.max_epochs, callbacks=callbacks, verbose=0)
    stopping.restore_best()
    seconds = sum(stopping.epoch_seconds)
    return FitResult(
        epochs=len(stopping.history),
        best_epoch=stopping.best_epoch,
        examples_per_second=train.num_examples * len(stopping.history) / max(seconds, 1e-9),
        validation=tuple(stopping.history),
    )


class ProtocolEarlyStopping(tf_keras.callbacks.Callback):
    """Evaluates the protocol's metrics after every epoch and keeps the best epoch's weights."""

    def __init__(
        self,
        model: InterestModel,
        validation: Snapshots,
        metric: str,
        patience: int,
        max_epochs: int,
    ):
        """Initializes the callback.

        Args:
          model: The model being fitted.
          validation: One snapshot a validation user.
          metric: Name of the metric to maximise.
          patience: Epochs without improvement before training stops.
          max_epochs: Shown in progress lines.
        """
        super().__init__()
        self.history: list[dict[str, float | None]] = []
        self.epoch_seconds: list[float] = []
        self.best_epoch = 0
        self._interest_model = model
        self._evaluator = InMemoryEvaluator(model)
        self._validation = validation
        self._metric = metric
        self._patience = patience
        self._max_epochs = max_epochs
        self._best = -np.inf
        self._best_weights: list[np.ndarray] | None = None
        self._started = 0.0

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Starts the clock."""
        self._started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Evaluates, remembers the best, says how it went."""
        self.epoch_seconds.append(time.perf_counter() - self._started)
        figures = self._evaluator.evaluate(self._validation)
        self.history.append(figures)
        value = figures[self._metric]
        if value is not None and value > self._best:
            self._best, self.best_epoch = value, epoch + 1
            self._best_weights = self._interest_model.get_weights()
        elif epoch + 1 - self.best_epoch >= self._patience:
            self.model.stop_training = True
        if logs is not None:
            logs.update({f"validation_{k}": v for k, v in figures.items() if v is not None})
        _progress.info(
            "epoch %d/%d: loss %.4f, validation %s %.4f%s, %.1f s",
            epoch + 1,
            self._max_epochs,
            (logs or {}).get("loss", float("nan")),
            self._metric,
            float("nan") if value is None else value,
            " *" if self.best_epoch == epoch + 1 else "",
            self.epoch_seconds[-1],
        )

    def restore_best(self) -> None:
        """Sets the model to the best epoch's weights."""
        if self._best_weights is not None:
            self._interest_model.set_weights(self._best_weights)
        else:
            # No validation user has a truth: the last epoch is as good as any.
            self.best_epoch = len(self.history)


class InMemoryEvaluator:
    """The protocol's metrics of a model in memory, without slices."""

    def __init__(self, model: InterestModel):
        """Compiles the model's scorers, once for all epochs.

        Args:
          model: The model; later changes of its weights are seen.
        """
        self._num_tags = model.num_tags
        raw = model.spec.raw_names
        self._score_tags = _compiled(model.score_tags, raw)
        self._score_items: Callable[[Snapshots], np.ndarray] | None = None
        if model.training_config.joint_weight > 0:
            names = (*raw, f.IMPRESSION_TAGS, f.IMPRESSION_NUM_TAGS)
            self._score_items = _compiled(model.impression_logits, names)

    def evaluate(self, snapshots: Snapshots) -> dict[str, float | None]:
        """Evaluates.

        Args:
          snapshots: One a user.

        Returns:
          Metrics by name, None where undefined.
        """
        return evaluate(
            self._score_tags, snapshots, self._num_tags, self._score_items, with_slices=False
        )


def _compiled(function: Callable, names: tuple[str, ...]) -> Callable[[Snapshots], np.ndarray]:
    compiled = tf.function(function, reduce_retracing=True, autograph=False)
    return lambda chunk: compiled(chunk.features(names)).numpy()
