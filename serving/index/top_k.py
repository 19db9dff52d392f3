"""Top-k search over tag vectors: one interface, exact and approximate indexes behind it.

An index answers with positions of candidates. Scores it returns may be approximate (`is_exact`);
whoever shows a score computes it again, see `serving.servable.retrieval`.
"""

import abc

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

from trainer.contract.config_loader import require

NOT_FOUND = -1  # in place of a position, where an approximate index found fewer than k
_TRUSTED_DEPTH = 1.5  # of k


def trusted_depth(k: int, num_neighbors: int) -> int:
    """How far down its list an index is relied on, where a caller excludes tags at its head.

    Tuning sees to it that the k places which end there have the target recall as well.

    Args:
      k: Results a query.
      num_neighbors: Results that the index is asked for; at least k.
    """
    return min(int(_TRUSTED_DEPTH * k), num_neighbors)


class TopKIndex(tf.Module, abc.ABC):
    """Finds the candidates with the greatest inner product."""

    is_exact: bool

    @abc.abstractmethod
    def search(self, queries: tf.Tensor, k: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Searches.

        Args:
          queries: float32 [batch, dimension].
          k: Results a query, at most the number of candidates.

        Returns:
          `scores` float32 [batch, k], greatest first, and `positions` int32 [batch, k]. An
          approximate index may find fewer; the rest has the score NaN.
        """

    def search_wider(self, queries: tf.Tensor, k: int) -> tuple[tf.Tensor, tf.Tensor]:
        """The same with more work, for a k above the one that an approximate index is tuned for."""
        return self.search(queries, k)


class BruteForceIndex(TopKIndex):
    """Exact search in stock TensorFlow ops: TFRS's `BruteForce`."""

    is_exact = True

    def __init__(self, candidates: np.ndarray, name: str | None = None):
        """Builds the index.

        Args:
          candidates: float32 [num_candidates, dimension].
          name: Name of the module.

        Raises:
          ValueError: `candidates` is not two-dimensional.
        """
        super().__init__(name=name)
        require(
            np.ndim(candidates) == 2,
            "candidates",
            "have the shape [num, dimension]",
            np.shape(candidates),
        )
        layer = tfrs.layers.factorized_top_k.BruteForce(k=1)
        layer.index(tf.constant(candidates, tf.float32))
        # Saved is what it holds. Tracking the Keras layer itself would make TensorFlow trace its
        # call once more, and describe it, for seconds and no use.
        self._variables = list(layer.variables)
        self._get_layer = lambda: layer

    def search(self, queries: tf.Tensor, k: int) -> tuple[tf.Tensor, tf.Tensor]:
        """See `TopKIndex.search`; ties go to the lower position."""
        return self._get_layer()(queries, k=k)


def recall(found: np.ndarray, exact: np.ndarray) -> float:
    """Share of exact results that an index found, mean over queries: recall@k for the top k.

    Compared by position and not by score: approximate scores are quantised.

    Args:
      found: int [num_queries, n].
      exact: int [num_queries, k]; k is at most n, and n itself for recall@k.

    Returns:
      Between 0 and 1.

    Raises:
      ValueError: There is no query, or fewer results were found than there are exact ones.
    """
    require(
        len(exact) > 0 and len(found) == len(exact) and found.shape[1] >= exact.shape[1],
        "found",
        f"have at least the shape of `exact`, {exact.shape}",
        found.shape,
    )
    hits = [len(np.intersect1d(row, truth)) for row, truth in zip(found, exact, strict=True)]
    return float(np.mean(hits) / exact.shape[1])
