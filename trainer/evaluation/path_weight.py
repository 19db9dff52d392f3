"""Chooses the weight of the linear path beside the towers on validation users.

The mean of NDCG@10 over all later tags and over the novel ones decides: the path changes both, and
two figures together are less noisy than one.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from trainer.contract import features as f
from trainer.data.snapshots import Snapshots
from trainer.evaluation import metrics
from trainer.evaluation.figures import users_at_once

# Weights tried: what a standard deviation of the path's scores within a user adds to the logits.
WEIGHTS = (0.0, 0.1, 0.15, 0.25, 0.4, 0.6, 1.0, 1.5, 2.5, 4.0, 6.0, 10.0, 16.0)
_CUT = 10

# Function from a chunk of snapshots to scores of every tag, float [chunk, num_tags].
Scores = Callable[[Snapshots], np.ndarray]


@dataclasses.dataclass(frozen=True)
class PathTrial:
    """Quality of a weight on validation users.

    Attributes:
      weight: Weight that was tried.
      quality: Mean of NDCG@10 and novel NDCG@10, as far as they are defined; None: neither is.
    """

    weight: float
    quality: float | None


def mean_defined(values: Sequence[float | None]) -> float | None:
    """Computes the mean of the values that are not None; None where there is none."""
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None


def try_weights(
    logits: Scores,
    path: Scores,
    users: Snapshots,
    num_tags: int,
    weights: Sequence[float] = WEIGHTS,
) -> list[PathTrial]:
    """Tries weights on validation users.

    Args:
      logits: Function that computes the towers' multi-class logits.
      path: Function that computes the path's scores, of standard deviation 1 within a user.
      users: One snapshot for each user.
      num_tags: Number of tags.
      weights: Weights that are tried.

    Returns:
      A trial for each weight, in the order of `weights`.
    """
    by_user: dict[tuple[float, str], list[np.ndarray]] = {}
    for _, chunk in users.chunks(users_at_once(num_tags)):
        labels = chunk.lists[f.LABEL_TAGS]
        known = chunk.lists[f.HISTORY_TAGS].members(num_tags)
        truth, num_unknown = labels.members(num_tags), labels.num_unknown
        of_towers, of_path = logits(chunk), path(chunk)
        for weight in weights:
            scores = of_towers + np.float32(weight) * of_path
            for name, relevant in (("all", truth), ("novel", truth & ~known)):
                if name == "novel":
                    scores[known] = -np.inf
                hits = np.take_along_axis(relevant, metrics.top_k(scores, _CUT), axis=1)
                ndcg = metrics.ndcg_at(hits, relevant.sum(axis=1) + num_unknown, _CUT)
                by_user.setdefault((weight, name), []).append(ndcg)

    def figure(weight: float, name: str) -> float | None:
        mean = metrics.mean_defined(np.concatenate(by_user[weight, name]))
        return None if np.isnan(mean) else float(mean)

    return [
        PathTrial(weight, mean_defined([figure(weight, name) for name in ("all", "novel")]))
        for weight in weights
    ]


def best_quality(trials: Sequence[PathTrial]) -> float | None:
    """Returns the highest quality; None where none is defined."""
    return max((t.quality for t in trials if t.quality is not None), default=None)


def best_weight(trials: Sequence[PathTrial]) -> float:
    """Returns the weight with the highest smoothed quality.

    With a few hundred users the qualities of neighbouring weights differ by noise alone, so the
    smoothed quality is half of a weight's own and a quarter of both neighbours' (of its own in the
    place of a missing neighbour).

    Args:
      trials: Trials in ascending order of the weights.

    Returns:
      The smallest of equally good weights; 0 where no quality is defined.
    """
    qualities = [trial.quality for trial in trials]
    if any(quality is None for quality in qualities) or not qualities:
        return 0.0
    padded = np.pad(np.array(qualities, np.float64), 1, mode="edge")
    smooth = 0.25 * padded[:-2] + 0.5 * padded[1:-1] + 0.25 * padded[2:]
    return trials[int(np.argmax(smooth))].weight
