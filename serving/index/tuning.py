"""Chooses a ScaNN index's search parameters: the cheapest that reach the target recall.

Random queries, or queries drawn from the indexed vectors, flatter an index; the queries here are
vectors of validation users.
"""

import dataclasses
import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from serving.index.scann_index import ScannIndex, SearchParameters
from serving.index.top_k import BruteForceIndex, recall, trusted_depth

_TIMED_BATCH = 64
_TIMED_BATCHES = 10
# An exact inner product reads 32 times the bytes of a hashed one; some of it is hidden by caches.
_REORDERING_WORK = 8.0
_SHARES_OF_LEAVES = (0.01, 0.02, 0.035, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)
# Share of the distance between target and 1 that the tuned recall should lie above the target.
_MARGIN = 0.5
# The same below the head of the list, which only callers who exclude its best tags depend on.
_MARGIN_BELOW_HEAD = 0.25


@dataclasses.dataclass(frozen=True)
class CurvePoint:
    """One measured setting.

    Attributes:
      num_leaves_to_search: See `SearchParameters`.
      num_reordering_candidates: See `SearchParameters`.
      recall: Recall@k against exact search.
      recall_below_head: The same of the k places that end at `index.trusted_depth`: what a caller
        gets who excludes the ones above.
      queries_per_second: In-process, batches of 64.
      is_chosen: Whether the index uses it.
    """

    num_leaves_to_search: int
    num_reordering_candidates: int
    recall: float
    recall_below_head: float
    queries_per_second: float
    is_chosen: bool = False


def tune(
    index: ScannIndex,
    candidates: np.ndarray,
    queries: np.ndarray,
    k: int,
    target: float,
    num_neighbors: int | None = None,
) -> list[CurvePoint]:
    """Measures the curve of recall against speed, and sets the index to the chosen point.

    Both recalls have to reach the target.

    Args:
      index: The built index; its `search_parameters` are replaced.
      candidates: float32 [num_candidates, dimension], what the index was built of.
      queries: float32 [num_queries, dimension], vectors of validation users.
      k: Results a query; `retrieve` shows so many.
      target: Recall to reach.
      num_neighbors: Results a query as it will be asked; at least k; None: k.

    Returns:
      The curve. If no point reaches the target, the one with the highest recall@k is chosen; the
      index evaluator will not bless it.
    """
    num_neighbors = num_neighbors or k
    brute_force = BruteForceIndex(candidates)  # once: it copies them
    depth = trusted_depth(k, num_neighbors)
    exact = search_all(lambda q: brute_force.search(q, depth)[1], queries)
    curve = []
    for parameters in _grid(index.num_leaves, len(candidates), k, num_neighbors):
        index.search_parameters = parameters
        search = tf.function(
            lambda q: index.search(q, num_neighbors)[1][:, :depth], autograph=False
        )
        found = search_all(search, queries)
        curve.append(
            CurvePoint(
                parameters.num_leaves_to_search,
                parameters.num_reordering_candidates,
                recall(found[:, :k], exact[:, :k]),
                recall(found, exact[:, depth - k :]),
                queries_per_second(search, queries),
            )
        )
    chosen = _choose(curve, index.num_leaves, len(candidates), target)
    index.search_parameters = SearchParameters(
        chosen.num_leaves_to_search, chosen.num_reordering_candidates
    )
    return [dataclasses.replace(point, is_chosen=point is chosen) for point in curve]


def _choose(
    curve: list[CurvePoint], num_leaves: int, num_candidates: int, target: float
) -> CurvePoint:
    """The cheapest point above the target, by a count of work and not by the clock.

    Timings differ from run to run; the same vectors must give the same index. Other users than
    these have another recall, hence a margin where some point has it.
    """

    def work(point: CurvePoint) -> float:
        hashed = num_candidates * point.num_leaves_to_search / num_leaves
        return hashed + _REORDERING_WORK * point.num_reordering_candidates

    for margin, margin_below_head in ((_MARGIN, _MARGIN_BELOW_HEAD), (0.0, 0.0)):
        bound, bound_below_head = (
            target + share * (1 - target) for share in (margin, margin_below_head)
        )
        reached = [
            point
            for point in curve
            if point.recall >= bound and point.recall_below_head >= bound_below_head
        ]
        if reached:
            return min(reached, key=work)
    return max(curve, key=lambda point: point.recall)


def search_all(search: Callable, queries: np.ndarray) -> np.ndarray:
    """Positions found for all queries, int [num_queries, k], in batches of 64."""
    batches = [
        search(tf.constant(queries[start : start + _TIMED_BATCH])).numpy()
        for start in range(0, len(queries), _TIMED_BATCH)
    ]
    return np.concatenate(batches)


def queries_per_second(
    search: Callable, queries: np.ndarray, batch_size: int = _TIMED_BATCH
) -> float:
    """Throughput of a search, the median over batches; queries are repeated to fill a batch."""
    batch = tf.constant(np.resize(queries, (batch_size, queries.shape[1])))
    search(batch)
    return batch_size / float(np.median([seconds(search, batch) for _ in range(_TIMED_BATCHES)]))


def seconds(search: Callable, batch: tf.Tensor) -> float:
    """Wall-clock seconds of one search."""
    start = time.perf_counter()
    search(batch)
    return time.perf_counter() - start


def _grid(
    num_leaves: int, num_candidates: int, k: int, num_neighbors: int
) -> list[SearchParameters]:
    leaves = sorted({max(1, round(num_leaves * share)) for share in _SHARES_OF_LEAVES})
    # What is returned is re-ordered in any case.
    reordering = sorted(
        {
            min(num_candidates, max(num_neighbors, round(k * factor)))
            for factor in (1.5, 2.5, 4.0, 8.0)
        }
    )
    return [SearchParameters(leaf, reorder) for leaf in leaves for reorder in reordering]
