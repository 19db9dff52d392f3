"""Choice of a ScaNN index's search parameters: the cheapest that reach the target recall.

Random queries, or queries drawn from the indexed vectors, overestimate the recall of an index; the
queries here are vectors of validation users.
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
# Work of an exact inner product in units of a hashed one: it reads 32 times the bytes, but caches
# hide a part of that.
_REORDERING_WORK = 8.0
_SHARES_OF_LEAVES = (0.01, 0.02, 0.035, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)
# Share of the distance between target and 1 by which the tuned recall should exceed the target.
_MARGIN = 0.5
# The same share for the recall below the head, which matters only to callers who exclude the best
# tags.
_MARGIN_BELOW_HEAD = 0.25


@dataclasses.dataclass(frozen=True)
class CurvePoint:
    """One measured setting of the search parameters.

    Attributes:
      num_leaves_to_search: Number of leaves that are searched, see `SearchParameters`.
      num_reordering_candidates: Number of exact inner products, see `SearchParameters`.
      recall: Recall@k against exact search.
      recall_below_head: Recall of the k places that end at `index.trusted_depth`, which a caller
        gets who excludes the tags above them.
      queries_per_second: Throughput in this process, in batches of 64.
      is_chosen: Whether the index uses this setting.
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
    num_candidates: int | None = None,
) -> list[CurvePoint]:
    """Measures the curve of recall against speed, and sets the index to the chosen point.

    At the chosen point both recalls reach the target.

    Args:
      index: Built index, whose `search_parameters` are replaced.
      candidates: float32 [num_tags, dimension], vectors that the index was built from.
      queries: float32 [num_queries, dimension], vectors of validation users.
      k: Number of results per query that `retrieve` returns.
      target: Recall to reach.
      num_candidates: N, number of candidates per query that the index will be asked for, at least
        k; None: k.

    Returns:
      The measured points. If no point reaches the target, the one with the highest recall@k is
      chosen; the index evaluator will not bless it.
    """
    num_candidates = num_candidates or k
    brute_force = BruteForceIndex(candidates)  # built once, as it copies the candidates
    depth = trusted_depth(k, num_candidates)
    exact = search_all(lambda q: brute_force.search(q, depth)[1], queries)
    curve = []
    for parameters in _grid(index.num_leaves, len(candidates), k, num_candidates):
        index.search_parameters = parameters
        search = tf.function(
            lambda q: index.search(q, num_candidates)[1][:, :depth], autograph=False
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


def _choose(curve: list[CurvePoint], num_leaves: int, num_tags: int, target: float) -> CurvePoint:
    """Returns the cheapest point above the target, by a count of work and not by the clock.

    Timings differ from run to run, but the same vectors must give the same index. The recall of
    other users differs from that of these, so a margin above the target is kept if a point has it.
    """

    def work(point: CurvePoint) -> float:
        hashed = num_tags * point.num_leaves_to_search / num_leaves
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
    """Returns the positions found for all queries, int [num_queries, k], in batches of 64."""
    batches = [
        search(tf.constant(queries[start : start + _TIMED_BATCH])).numpy()
        for start in range(0, len(queries), _TIMED_BATCH)
    ]
    return np.concatenate(batches)


def queries_per_second(
    search: Callable, queries: np.ndarray, batch_size: int = _TIMED_BATCH
) -> float:
    """Measures queries per second, median over batches; queries are repeated to fill a batch."""
    batch = tf.constant(np.resize(queries, (batch_size, queries.shape[1])))
    search(batch)
    return batch_size / float(np.median([seconds(search, batch) for _ in range(_TIMED_BATCHES)]))


def seconds(search: Callable, batch: tf.Tensor) -> float:
    """Measures the wall-clock seconds of one search."""
    start = time.perf_counter()
    search(batch)
    return time.perf_counter() - start


def _grid(num_leaves: int, num_tags: int, k: int, num_candidates: int) -> list[SearchParameters]:
    leaves = sorted({max(1, round(num_leaves * share)) for share in _SHARES_OF_LEAVES})
    # All returned results are re-ordered in any case.
    reordering = sorted(
        {min(num_tags, max(num_candidates, round(k * factor))) for factor in (1.5, 2.5, 4.0, 8.0)}
    )
    return [SearchParameters(leaf, reorder) for leaf in leaves for reorder in reordering]
