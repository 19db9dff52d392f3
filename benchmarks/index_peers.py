"""Measures faiss and hnswlib on the same vectors, tuned to the same recall by the same queries.

Both work outside of TensorFlow: their calls need no op and no graph, and neither can be saved in a
SavedModel. They use the inner product and all cores.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

# Share of the distance between target and 1 by which the tuned recall should exceed the target, as
# in `serving.index.tuning`.
_MARGIN = 0.5


class Peer(Protocol):
    """An index with one setting that trades recall for speed."""

    @property
    def settings(self) -> Sequence[int]:
        """The settings, from fast to exact."""

    def set(self, setting: int) -> None:
        """Sets the setting of all later searches."""

    def search(self, queries: np.ndarray, k: int) -> np.ndarray:
        """Searches k positions for each query, int [num_queries, k]."""


class FaissIndex:
    """An inverted file of 4-bit product codes, re-ordered by exact inner products.

    faiss recommends it for up to a million vectors (`IVF<n>,PQ<m>x4fs,RFlat`); it has as many lists
    as ScaNN's tree has leaves. The setting is the number of lists probed.

    Args:
      candidates: float32 [num_candidates, dimension], vectors of the index.
      num_lists: Number of lists of the inverted file.
    """

    settings = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)

    def __init__(self, candidates: np.ndarray, num_lists: int):
        import faiss

        dimension = candidates.shape[1]
        self._index = faiss.index_factory(
            dimension,
            f"IVF{num_lists},PQ{dimension // 2}x4fs,RFlat",
            faiss.METRIC_INNER_PRODUCT,
        )
        self._index.train(candidates)
        self._index.add(candidates)
        # 8 k candidates are re-ordered: with 4 k some neighbours are lost with any number of lists.
        refined: Any = self._index  # an IndexRefineFlat around the inverted file
        refined.k_factor = 8
        self._lists = faiss.extract_index_ivf(self._index)

    def set(self, setting: int) -> None:
        """Sets the setting of all later searches, as in `Peer`."""
        self._lists.nprobe = setting

    def search(self, queries: np.ndarray, k: int) -> np.ndarray:
        """Searches k positions for each query, as in `Peer`."""
        return self._index.search(queries, k)[1]


class HnswIndex:
    """A navigable small-world graph (Malkov and Yashunin, 2016), by hnswlib.

    The setting is `ef`, the length of the list of candidates of a search, never below k.

    Args:
      candidates: float32 [num_candidates, dimension], vectors of the index.
      seed: Seed of the levels.
    """

    settings = (100, 120, 150, 200, 300, 400, 600, 800, 1200, 1600)

    def __init__(self, candidates: np.ndarray, seed: int):
        import hnswlib

        self._index = hnswlib.Index(space="ip", dim=candidates.shape[1])
        self._index.init_index(
            max_elements=len(candidates), ef_construction=200, M=16, random_seed=seed
        )
        self._index.add_items(candidates)

    def set(self, setting: int) -> None:
        """Sets the setting of all later searches, as in `Peer`."""
        self._index.set_ef(setting)

    def search(self, queries: np.ndarray, k: int) -> np.ndarray:
        """Searches k positions for each query, as in `Peer`."""
        return self._index.knn_query(queries, k)[0].astype(np.int64)


def tune_peer(
    peer: Peer,
    queries: np.ndarray,
    k: int,
    target: float,
    recall_of: Callable[[np.ndarray], float],
) -> int:
    """Sets an index to the first setting that reaches the target.

    Args:
      peer: The index.
      queries: float32 [num_queries, dimension], query vectors.
      k: Number of results for each query.
      target: Recall to reach, with a margin if some setting reaches that.
      recall_of: Function that computes the recall of the positions found for `queries`.

    Returns:
      The setting; the last one where none reaches the target.
    """
    recalls = {}
    for setting in peer.settings:
        peer.set(setting)
        recalls[setting] = recall_of(peer.search(queries, k))
        if recalls[setting] >= target + _MARGIN * (1 - target):
            return setting
    reached = (setting for setting, found in recalls.items() if found >= target)
    chosen = next(reached, peer.settings[-1])
    peer.set(chosen)
    return chosen
