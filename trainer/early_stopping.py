"""When training stops and which epoch is kept: by the protocol's metric on validation users."""

import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from trainer import features as f
from trainer.evaluation import evaluate
from trainer.model import InterestModel
from trainer.snapshots import Snapshots


@dataclasses.dataclass
class EarlyStopping:
    """Remembers the best epoch; its fields are what a resumed training needs of it.

    Attributes:
      patience: Epochs without improvement after which training stops.
      best_epoch: Counted from 1; 0: no epoch has had a metric.
      best_value: Its metric; None: none yet.
      num_epochs: Epochs seen.
    """

    patience: int
    best_epoch: int = 0
    best_value: float | None = None
    num_epochs: int = 0

    def update(self, value: float | None) -> bool:
        """Takes an epoch's metric into account.

        Args:
          value: The metric, to be maximised; None: undefined, no validation user has a truth.

        Returns:
          Whether it is the best epoch so far.
        """
        self.num_epochs += 1
        if value is None or (self.best_value is not None and value <= self.best_value):
            return False
        self.best_value, self.best_epoch = value, self.num_epochs
        return True

    @property
    def should_stop(self) -> bool:
        """Whether the last `patience` epochs brought nothing."""
        return self.num_epochs - self.best_epoch >= self.patience


class InMemoryEvaluator:
    """The protocol's metrics of a model in memory, without slices.

    The Evaluator of the pipeline calls the same `trainer.evaluation.evaluate` with the scores of
    the saved model.
    """

    def __init__(self, model: InterestModel):
        """Compiles the model's scorers, once for all epochs.

        Args:
          model: The model; later changes of its weights are seen.
        """
        self._num_tags = model.num_tags
        self._candidate_embeddings = model.candidate_embeddings
        raw = model.spec.raw_names
        self._embed = _compiled(model.query_embeddings, raw)
        self._score_items: Callable[[Snapshots], np.ndarray] | None = None
        if model.training_config.click_objective is not None:
            names = (*raw, f.IMPRESSION_TAGS, f.IMPRESSION_NUM_TAGS)
            self._score_items = _compiled(model.impression_logits, names)

    def evaluate(self, snapshots: Snapshots) -> dict[str, float | None]:
        """Evaluates.

        Args:
          snapshots: One a user.

        Returns:
          Metrics by name, None where undefined.
        """
        # Once, and not for every chunk: a large table takes longer than the users of a chunk.
        candidates = self._candidate_embeddings()

        def score_tags(chunk: Snapshots) -> np.ndarray:
            return tf.matmul(self._embed(chunk), candidates, transpose_b=True).numpy()

        return evaluate(score_tags, snapshots, self._num_tags, self._score_items, with_slices=False)


def _compiled(function: Callable, names: tuple[str, ...]) -> Callable[[Snapshots], np.ndarray]:
    compiled = tf.function(function, reduce_retracing=True, autograph=False)
    return lambda chunk: compiled(chunk.features(names)).numpy()
