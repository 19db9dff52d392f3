"""Draws vectors like embeddings: a mixture of Gaussians, projected to the unit sphere."""

import numpy as np

# More than the 100 neighbours that are searched: in smaller clusters the last of them are anywhere,
# and every approximate index must search nearly everywhere (with 50 a cluster, ScaNN searches three
# leaves of four for a recall of 0.99, and is twice as fast as exact search).
_TAGS_PER_CLUSTER = 1_000
_SPREAD = 0.8  # distance of a vector from its centre, which has length 1
_CHUNK = 100_000


class GaussianMixture:
    """A mixture with equal weights, from which vectors are drawn repeatedly.

    Tags, the queries of tuning and those of the measurement come from the same mixture, each drawn
    separately: no query is a vector of the index.
    """

    def __init__(self, num_clusters: int, dimension: int, seed: int):
        """Draws the centres.

        Args:
          num_clusters: Number of Gaussians.
          dimension: Dimension of the space.
          seed: Seed of all draws; the same draws in the same order give the same vectors.
        """
        self._rng = np.random.default_rng(seed)
        self._centers = _on_sphere(
            self._rng.standard_normal((num_clusters, dimension), dtype=np.float32)
        )

    @classmethod
    def for_tags(cls, num_tags: int, dimension: int, seed: int) -> "GaussianMixture":
        """Makes a mixture whose clusters have the same size for any number of tags."""
        return cls(max(1, num_tags // _TAGS_PER_CLUSTER), dimension, seed)

    def draw(self, num_vectors: int) -> np.ndarray:
        """Draws unit vectors, float32 [num_vectors, dimension]."""
        num_clusters, dimension = self._centers.shape
        vectors = np.empty((num_vectors, dimension), np.float32)
        for first in range(0, num_vectors, _CHUNK):
            part = vectors[first : first + _CHUNK]
            noise = self._rng.standard_normal(part.shape, dtype=np.float32)
            noise *= np.float32(_SPREAD / np.sqrt(dimension))
            part[:] = _on_sphere(
                self._centers[self._rng.integers(num_clusters, size=len(part))] + noise
            )
        return vectors


def exact_top_k(candidates: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    """Finds the positions of the greatest inner products, by numpy alone.

    Args:
      candidates: float32 [num_candidates, dimension], vectors that are searched.
      queries: float32 [num_queries, dimension], query vectors.
      k: Number of positions for each query, at most `num_candidates`.

    Returns:
      int [num_queries, k], positions in no order.
    """
    found = np.empty((len(queries), k), np.int64)
    for first in range(0, len(queries), 64):
        scores = queries[first : first + 64] @ candidates.T
        found[first : first + 64] = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    return found


def _on_sphere(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
