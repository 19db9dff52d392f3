"""How much memory the second stage has: tried on validation users after the fit.

Domains are mixed in greedily: of all (domain, lambda) the one that raises the deciding metric most
is taken, then of the domains that are left, until none raises it. Of equally good ones the one that
leaves most to the model wins, and none at all before any. What memory is, `trainer.contract.memory`
says.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from trainer.config import MEAN_NDCG
from trainer.contract.memory import DomainMemory, domain_weights
from trainer.evaluation import metrics

# Tried of each domain: a share that is the same for every history,
LIMITS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
# or one that grows with it, n / (n + m).
HALF_WEIGHTS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1_000.0, 3_000.0, 10_000.0)
# What can decide: memory changes neither lists of novel tags nor the score of an item.
METRICS = ("ndcg_at_10", "precision_at_10")
_CUT = 10


@dataclasses.dataclass(frozen=True)
class MemoryTrial:
    """One memory on validation users.

    Attributes:
      memory: The domains in the order in which they are mixed in; none: the model alone.
      quality: The deciding metric; None: undefined, as no user has a truth.
    """

    memory: tuple[DomainMemory, ...]
    quality: float | None


@dataclasses.dataclass(frozen=True)
class MemoryUsers:
    """Validation users, as numbers alone: n tags of each, which may be others for everyone.

    Attributes:
      shares: float [num_users, n], the model's p.
      is_proposed: bool [num_users, n], whether the first stage proposes a tag.
      rest_order: float [num_users, n], by which those follow that the second stage does not order.
      domain_shares: By domain float [num_users, n], s.
      totals: By domain float [num_users], n.
      truth: bool [num_users, n], the tags clicked in the label period.
      num_relevant: int [num_users], their number, with those that are not among the n.
    """

    shares: np.ndarray
    is_proposed: np.ndarray
    rest_order: np.ndarray
    domain_shares: Mapping[str, np.ndarray]
    totals: Mapping[str, np.ndarray]
    truth: np.ndarray
    num_relevant: np.ndarray

    def mixture(self, memory: Sequence[DomainMemory]) -> np.ndarray:
        """The mixture p' of every tag, float [num_users, n]."""
        weights, rest = domain_weights(memory, self.totals)
        mixture = rest[:, np.newaxis] * self.shares
        for part, weight in zip(memory, weights, strict=True):
            mixture += weight[:, np.newaxis] * self.domain_shares[part.domain]
        return mixture

    def quality(self, memory: Sequence[DomainMemory], metric: str) -> float | None:
        """The metric of the lists with this memory; None where no user has a truth."""
        is_ordered = self.is_proposed.copy()
        for part in memory:
            is_ordered |= self.domain_shares[part.domain] > 0
        # All others come behind, below 0.
        rest = self.rest_order - self.rest_order.max(axis=1, keepdims=True) - 1.0
        ranked = metrics.top_k(np.where(is_ordered, self.mixture(memory), rest), _CUT)
        hits = np.take_along_axis(self.truth, ranked, axis=1)
        by_user = {
            "precision_at_10": lambda: np.where(
                self.num_relevant > 0, metrics.precision_at(hits, _CUT), np.nan
            ),
            "ndcg_at_10": lambda: metrics.ndcg_at(hits, self.num_relevant, _CUT),
        }[metric]()
        mean = metrics.mean_defined(by_user)
        return None if np.isnan(mean) else float(mean)


def memory_metric(early_stopping_metric: str) -> str:
    """The metric that decides about memory, where another decides about the training."""
    if early_stopping_metric == MEAN_NDCG:
        return "ndcg_at_10"
    return early_stopping_metric if early_stopping_metric in METRICS else "precision_at_10"


def choose_memory(
    users: MemoryUsers,
    domains: Sequence[str],
    metric: str,
    limits: Sequence[float] = LIMITS,
    half_weights: Sequence[float] = HALF_WEIGHTS,
) -> tuple[tuple[DomainMemory, ...], list[MemoryTrial]]:
    """Tries memories on validation users.

    Args:
      users: Validation users.
      domains: Those tried.
      metric: One of `METRICS`.
      limits: The constant lambdas tried, below 1.
      half_weights: The m tried of n / (n + m).

    Returns:
      The best memory (none of it where nothing is better), and what was tried.
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
    """What a memory leaves to the model, mean over users."""
    return float(np.mean(domain_weights(memory, users.totals)[1]))
