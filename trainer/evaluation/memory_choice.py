"""Chooses the memory of the second stage on validation users after training.

Domains are mixed in greedily: of all pairs (domain, lambda) the one that raises the deciding metric
most is taken, then one of the remaining domains, until none raises it. Of equally good pairs the
one that leaves most to the model is taken, and no pair if none is better.
`trainer.contract.memory` explains memory.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from trainer.contract.memory import DomainMemory, domain_weights
from trainer.contract.metric_registry import MEAN_NDCG, NDCG, PRECISION
from trainer.evaluation import metrics

# Constant lambdas that are tried for each domain.
LIMITS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
# Values of m that are tried for lambda = n / (n + m), which grows with the history.
HALF_WEIGHTS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1_000.0, 3_000.0, 10_000.0)
_CUT = 10
# Metrics that can decide: memory changes neither lists of novel tags nor the score of an item.
METRICS = (NDCG.at(_CUT), PRECISION.at(_CUT))


@dataclasses.dataclass(frozen=True)
class MemoryTrial:
    """Quality of a memory on validation users.

    Attributes:
      memory: The domains in the order in which they are mixed in; empty: the model alone.
      quality: Value of the deciding metric; None: undefined, as no user has a truth.
    """

    memory: tuple[DomainMemory, ...]
    quality: float | None


@dataclasses.dataclass(frozen=True)
class MemoryUsers:
    """Validation users as arrays: n tags of each user, which differ between users.

    Attributes:
      shares: float [num_users, n], p of the model.
      is_proposed: bool [num_users, n], whether the first stage proposes the tag.
      rest_order: float [num_users, n], scores that order the tags behind those that the second
        stage orders.
      domain_shares: float [num_users, n] by domain, s.
      totals: float [num_users] by domain, total weights of the histories.
      truth: bool [num_users, n], whether the tag is clicked in the label period.
      num_relevant: int [num_users], number of tags clicked in the label period, also of those that
        are not among the n.
    """

    shares: np.ndarray
    is_proposed: np.ndarray
    rest_order: np.ndarray
    domain_shares: Mapping[str, np.ndarray]
    totals: Mapping[str, np.ndarray]
    truth: np.ndarray
    num_relevant: np.ndarray

    def mixture(self, memory: Sequence[DomainMemory]) -> np.ndarray:
        """Computes the mixture p' of every tag, float [num_users, n]."""
        weights, rest = domain_weights(memory, self.totals)
        mixture = rest[:, np.newaxis] * self.shares
        for part, weight in zip(memory, weights, strict=True):
            mixture += weight[:, np.newaxis] * self.domain_shares[part.domain]
        return mixture

    def quality(self, memory: Sequence[DomainMemory], metric: str) -> float | None:
        """Computes the metric of the lists with this memory; None where no user has a truth."""
        is_ordered = self.is_proposed.copy()
        for part in memory:
            is_ordered |= self.domain_shares[part.domain] > 0
        # All other tags come behind, with scores below 0.
        rest = self.rest_order - self.rest_order.max(axis=1, keepdims=True) - 1.0
        ranked = metrics.top_k(np.where(is_ordered, self.mixture(memory), rest), _CUT)
        hits = np.take_along_axis(self.truth, ranked, axis=1)
        by_user = {
            PRECISION.at(_CUT): lambda: np.where(
                self.num_relevant > 0, metrics.precision_at(hits, _CUT), np.nan
            ),
            NDCG.at(_CUT): lambda: metrics.ndcg_at(hits, self.num_relevant, _CUT),
        }[metric]()
        mean = metrics.mean_defined(by_user)
        return None if np.isnan(mean) else float(mean)


def memory_metric(early_stopping_metric: str) -> str:
    """Returns the metric that decides about memory, given the metric of early stopping."""
    if early_stopping_metric == MEAN_NDCG:
        return NDCG.at(_CUT)
    return early_stopping_metric if early_stopping_metric in METRICS else PRECISION.at(_CUT)


def choose_memory(
    users: MemoryUsers,
    domains: Sequence[str],
    metric: str,
    limits: Sequence[float] = LIMITS,
    half_weights: Sequence[float] = HALF_WEIGHTS,
) -> tuple[tuple[DomainMemory, ...], list[MemoryTrial]]:
    """Chooses the best memory on validation users.

    Args:
      users: Validation users.
      domains: Names of the domains that are tried.
      metric: Deciding metric, one of `METRICS`.
      limits: Constant lambdas that are tried, below 1.
      half_weights: Values of m that are tried for lambda = n / (n + m).

    Returns:
      The best memory (empty where none is better than the model alone), and all trials.
    """

    def tried(memory: tuple[DomainMemory, ...]) -> MemoryTrial:
        return MemoryTrial(memory, users.quality(memory, metric))

    best = tried(())
    trials = [best]
    while best.quality is not None:
        left = [name for name in domains if name not in {part.domain for part in best.memory}]
        found = [
            tried((*best.memory, part))
            for name in left
            for part in (
                *(DomainMemory(name, limit, 0.0) for limit in limits),
                *(DomainMemory(name, 1.0, half_weight) for half_weight in half_weights),
            )
        ]
        trials += found
        best_before = best
        for trial in sorted(found, key=lambda trial: -_mean_rest(users, trial.memory)):
            if trial.quality is not None and trial.quality > best.quality:
                best = trial
        if best is best_before:
            break
    return best.memory, trials


def _mean_rest(users: MemoryUsers, memory: Sequence[DomainMemory]) -> float:
    """Computes the weight that a memory leaves to the model, mean over users."""
    return float(np.mean(domain_weights(memory, users.totals)[1]))
