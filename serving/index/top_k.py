"""Top-k search over tag vectors: one interface for exact and approximate indexes.

An index returns positions of candidates. Its scores may be approximate (`is_exact`);
`serving.servable.retrieval` computes the scores that it returns anew.
"""

import abc

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

from trainer.contract.config_loader import require

NOT_FOUND = -1  # replaces a position if an approximate index found fewer than k
_TRUSTED_DEPTH = 1.5  # times k


def trusted_depth(k: int, num_candidates: int) -> int:
    """Returns the depth to which an index's list is relied on, if a caller excludes its first tags.

    Tuning ensures that the k places that end at this depth reach the target recall as well.

    Args:
      k: Number of results per query.
      num_candidates: N, number of candidates that the index is asked for; at least k.
    """
    return min(int(_TRUSTED_DEPTH * k), num_candidates)


class TopKIndex(tf.Module, abc.ABC):
    """An index that finds the candidates with the greatest inner products.

    Attributes:
      is_exact: Whether the scores and the positions are those of an exact search.
    """

    is_exact: bool

    @abc.abstractmethod
    def search(self, queries: tf.Tensor, num_candidates: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Searches for the N best candidates of each query.

        Args:
          queries: float32 [batch, dimension], query vectors.
          num_candidates: N, number of candidates per query, at most the number of tags.

        Returns:
          `scores` float32 [batch, N], greatest first, and `positions` int32 [batch, N]. An
          approximate index may find fewer; the rest has the score NaN.
        """

    def search_wider(self, queries: tf.Tensor, num_candidates: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Searches with more work, for an N above that for which an approximate index is tuned."""
        return self.search(queries, num_candidates)


class BruteForceIndex(TopKIndex):
    """Exact search in stock TensorFlow ops: TFRS's `BruteForce`."""

    is_exact = True

    def __init__(self, candidates: np.ndarray, name: str | None = None):
        """Builds the exact index.

        Args:
          candidates: float32 [num_tags, dimension], candidate vectors.
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
        # Only the layer's variables are saved. Tracking the Keras layer itself would make
        # TensorFlow trace and describe its call once more, which takes seconds and is of no use.
        self._variables = list(layer.variables)
        self._get_layer = lambda: layer

    def search(self, queries: tf.Tensor, num_candidates: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Searches exactly, see `TopKIndex.search`; of equal scores the lower position is first."""
        return self._get_layer()(queries, k=num_candidates)


def recall(found: np.ndarray, exact: np.ndarray) -> float:
    """Computes the share of exact results that an index found, mean over queries.

    Results are compared by position and not by score, because approximate scores are quantised.

    Args:
      found: int [num_queries, n], positions that the index found.
      exact: int [num_queries, k], positions of the exact results; k is at most n, and equals n for
        recall@k.

    Returns:
      The recall, between 0 and 1.

    Raises:
      ValueError: There is no query, or `found` has fewer columns than `exact`.
    """
    require(
        len(exact) > 0 and len(found) == len(exact) and found.shape[1] >= exact.shape[1],
        "found",
        f"have at least the shape of `exact`, {exact.shape}",
        found.shape,
    )
    hits = [len(np.intersect1d(row, truth)) for row, truth in zip(found, exact, strict=True)]
    return float(np.mean(hits) / exact.shape[1])
