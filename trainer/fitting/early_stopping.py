"""Decides when training stops and which state is kept, by a metric on validation users."""

import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from trainer.contract import features as f
from trainer.contract.metric_registry import MEAN_NDCG, NDCG, NOVEL
from trainer.data.snapshots import Snapshots
from trainer.evaluation.ease import deciding_users
from trainer.evaluation.figures import evaluate
from trainer.evaluation.linear_path import FittedPath
from trainer.evaluation.path_weight import WEIGHTS, best_quality, mean_defined, try_weights
from trainer.model import InterestModel

# Share of the best value from which a gain counts as improvement.
_NOTABLE_GAIN = 0.005


@dataclasses.dataclass
class EarlyStopping:
    """Early stopping of a training; a resumed training restores its fields.

    Attributes:
      patience: Number of evaluations without improvement after which training stops.
      min_steps: Number of steps before which training does not stop.
      steps: Steps at which there was an evaluation.
      values: Values of the metric at these steps; None: undefined, no validation user has a truth.
    """

    patience: int
    min_steps: int = 0
    steps: list[int] = dataclasses.field(default_factory=list)
    values: list[float | None] = dataclasses.field(default_factory=list)

    def update(self, step: int, value: float | None) -> bool:
        """Records an evaluation.

        Args:
          step: Number of steps taken; 0: the untrained start, which is a state like any other.
          value: Value of the metric, to be maximised; None: undefined.

        Returns:
          Whether this is the best state so far.
        """
        self.steps.append(step)
        self.values.append(value)
        return self._best == len(self.values) - 1

    @property
    def _best(self) -> int | None:
        """Index of the first of the highest values; None: no value is defined."""
        defined = [i for i, value in enumerate(self.values) if value is not None]
        # `max` returns the first of equal ones.
        return max(defined, key=lambda i: self.values[i] or 0.0) if defined else None

    @property
    def best_step(self) -> int | None:
        """Number of steps of the best state; None: the metric was never defined."""
        return None if self._best is None else self.steps[self._best]

    @property
    def best_value(self) -> float | None:
        """Metric of the best state; None: the metric was never defined."""
        return None if self._best is None else self.values[self._best]

    @property
    def should_stop(self) -> bool:
        """Whether the last `patience` evaluations are no better and `min_steps` are reached."""
        if not self.steps or self.steps[-1] < self.min_steps:
            return False
        return len(self.steps) - 1 - (self._best or 0) >= self.patience

    @property
    def is_improving(self) -> bool:
        """Whether the last quarter of the steps raised the best value notably.

        Noise may make the last evaluation the best one; a notable gain means that training ended
        too early.
        """
        if self.best_step is None or self.best_value is None:
            return False
        before = 0.75 * self.steps[-1]
        earlier = [
            value
            for step, value in zip(self.steps, self.values, strict=True)
            if value is not None and step <= before
        ]
        if not earlier:
            return False
        return self.best_value - max(earlier) > _NOTABLE_GAIN * abs(self.best_value)


# Weights of the linear path that are tried at every evaluation.
_FEW_WEIGHTS = WEIGHTS[::2]


class InMemoryEvaluator:
    """Computes the protocol's metrics for a model in memory, without slices.

    The Evaluator of the pipeline calls the same `trainer.evaluation.figures.evaluate` with the
    scores of the saved model.
    """

    def __init__(self, model: InterestModel, path: FittedPath | None = None):
        """Compiles the model's scorers, once for all evaluations.

        Args:
          model: The model; later changes of its weights have an effect.
          path: Linear path that will be added to the model; None: there is none.
        """
        self._path = path
        self._num_tags = model.num_tags
        self._candidate_embeddings = model.candidate_embeddings
        raw = model.spec.raw_names
        self._embed = _compiled(model.query_embeddings, raw)
        self._score_items: Callable[[Snapshots], np.ndarray] | None = None
        if model.training_config.click_objective is not None:
            names = (*raw, f.IMPRESSION_TAGS, f.IMPRESSION_NUM_TAGS)
            self._score_items = _compiled(model.impression_logits, names)

    def evaluate(self, snapshots: Snapshots) -> dict[str, float | None]:
        """Evaluates the model on some users.

        Args:
          snapshots: One snapshot for each user.

        Returns:
          Metrics of the towers by name, None where undefined. Only `mean_ndcg_at_10`, the mean of
          NDCG@10 and novel NDCG@10, is computed for the towers together with the path, at the best
          of a few weights.
        """
        # Not for every chunk: a large table takes longer than the users of a chunk.
        candidates = self._candidate_embeddings()

        def score_tags(chunk: Snapshots) -> np.ndarray:
            return tf.matmul(self._embed(chunk), candidates, transpose_b=True).numpy()

        figures = evaluate(
            score_tags, snapshots, self._num_tags, self._score_items, with_slices=False
        )
        if self._path is None:
            mean = mean_defined([figures[NDCG.at(10)], figures[NDCG.at(10, NOVEL)]])
        else:
            users = deciding_users(snapshots, self._num_tags)
            mean = best_quality(
                try_weights(score_tags, self._path.scores, users, self._num_tags, _FEW_WEIGHTS)
            )
        return {**figures, MEAN_NDCG: mean}


def _compiled(function: Callable, names: tuple[str, ...]) -> Callable[[Snapshots], np.ndarray]:
    compiled = tf.function(function, reduce_retracing=True, autograph=False)
    return lambda chunk: compiled(chunk.features(names)).numpy()
