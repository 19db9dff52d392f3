"""Approximate top-k search with ScaNN: the only file that imports `scann`.

TFRS's `ScaNN` layer fixes the number of leaves searched and of candidates re-ordered when it builds
the index. Here they are arguments of the search, so that one built index can be tuned. The rest is
the same: a tree of leaves, asymmetric hashing within a leaf, re-ordering by exact inner products.
"""

import dataclasses
import importlib.metadata
import math
import uuid

import numpy as np
import tensorflow as tf
from scann.scann_ops.py import scann_ops

from serving.index.top_k import NOT_FOUND, TopKIndex
from trainer.contract.config_loader import require

# ScaNN refuses to train its hashing on fewer points.
MIN_CANDIDATES = 16
# Measured with ScaNN 1.3.2: it searches differently for 1 to 9 queries and for 16 and more.
_MIN_BATCH = 16
# Factors of a wider search: results far down a list lie in more leaves, and hashes order them less
# reliably.
_LEAVES_OF_WIDER = 4  # times the leaves of `search`
_REORDERING_OF_WIDER = 1.5  # times N, at least; re-ordering is most of the cost of a search
# Other versions do not load with this TensorFlow, or load and answer but spin at exit.
SUPPORTED_VERSION = "1.3.2"
if importlib.metadata.version("scann") != SUPPORTED_VERSION:
    raise ImportError(
        f"`scann` must be {SUPPORTED_VERSION}, the version that works with TensorFlow 2.16. "
        f"Received: scann {importlib.metadata.version('scann')}."
    )


def register_scann_ops() -> None:
    """Registers ScaNN's ops with TensorFlow, so that a SavedModel that uses them can be loaded.

    The import of this module registers them; calling the function makes that visible to a reader.
    """


@dataclasses.dataclass(frozen=True)
class SearchParameters:
    """The parameters that trade a search's recall for speed.

    Attributes:
      num_leaves_to_search: Number of leaves of the tree that are searched.
      num_reordering_candidates: Number of candidates whose inner product is computed exactly.
    """

    num_leaves_to_search: int
    num_reordering_candidates: int

    def __post_init__(self):
        for name in ("num_leaves_to_search", "num_reordering_candidates"):
            value = getattr(self, name)
            require(value >= 1, name, "be a positive integer", value)


def default_num_leaves(num_tags: int) -> int:
    """Returns the default number of leaves, the square root of the number of tags."""
    return max(1, round(math.sqrt(num_tags)))


class ScannIndex(TopKIndex):
    """A ScaNN index that can be saved in a SavedModel."""

    is_exact = False

    def __init__(
        self,
        candidates: np.ndarray,
        num_leaves: int,
        search_parameters: SearchParameters,
        training_iterations: int = 12,
        name: str | None = None,
    ):
        """Trains the tree and the hashing.

        Args:
          candidates: float32 [num_tags, dimension], candidate vectors.
          num_leaves: Number of leaves of the tree.
          search_parameters: Parameters of `search`; to change them, replace the attribute.
          training_iterations: Number of iterations of the clustering.
          name: Name of the module.

        Raises:
          ValueError: There are too few candidates for ScaNN, or fewer candidates than leaves.
        """
        super().__init__(name=name)
        num_tags = len(candidates)
        require(
            num_tags >= MIN_CANDIDATES,
            "candidates",
            f"be at least {MIN_CANDIDATES} for ScaNN; use the exact index",
            num_tags,
        )
        require(
            1 <= num_leaves <= num_tags,
            "num_leaves",
            "be between 1 and the candidates",
            num_leaves,
        )
        self.num_leaves = num_leaves
        self.search_parameters = search_parameters
        self._state = (
            scann_ops.builder(tf.constant(candidates, tf.float32), 1, "dot_product")
            .tree(
                num_leaves=num_leaves,
                num_leaves_to_search=num_leaves,
                training_iterations=training_iterations,
                training_sample_size=num_tags,
            )
            .score_ah(dimensions_per_block=2)
            .reorder(search_parameters.num_reordering_candidates)
            # The default name is a hash of the configuration: two indexes would share a searcher.
            .build(shared_name=f"tags/{uuid.uuid4()}")
            .serialize_to_module()
        )

    def search(self, queries: tf.Tensor, num_candidates: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Searches approximately, see `TopKIndex.search`."""
        return self._search(queries, num_candidates, self.search_parameters)

    def search_wider(self, queries: tf.Tensor, num_candidates: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Searches four times the leaves and re-orders 1.5 times N candidates or more."""
        tuned = self.search_parameters
        num_reordering = max(
            int(_REORDERING_OF_WIDER * num_candidates), tuned.num_reordering_candidates
        )
        wider = SearchParameters(_LEAVES_OF_WIDER * tuned.num_leaves_to_search, num_reordering)
        return self._search(queries, num_candidates, wider)

    def _search(
        self, queries: tf.Tensor, num_candidates: int, parameters: SearchParameters
    ) -> tuple[tf.Tensor, tf.Tensor]:
        # `recreate_handle` makes the searcher from the saved tensors, once per shared name.
        searcher = scann_ops.ScannSearcher(self._state.recreate_handle())
        # Below about ten queries ScaNN searches its hashes differently, with other results near the
        # end of a list. Padding the batch gives a user the same tags alone as in a batch.
        num_queries = tf.shape(queries)[0]
        num_padding = tf.maximum(_MIN_BATCH - num_queries, 0)
        result = searcher.search_batched(
            tf.pad(queries, [[0, num_padding], [0, 0]]),
            final_num_neighbors=num_candidates,
            pre_reorder_num_neighbors=max(num_candidates, parameters.num_reordering_candidates),
            leaves_to_search=min(self.num_leaves, parameters.num_leaves_to_search),
        )
        # If few leaves are searched, ScaNN returns fewer columns, or NaN instead of a score.
        num_missing = num_candidates - tf.shape(result.indices)[1]
        padding = [[0, 0], [0, num_missing]]
        distances, indices = result.distances[:num_queries], result.indices[:num_queries]
        scores = tf.pad(distances, padding, constant_values=float("nan"))
        positions = tf.pad(indices, padding)
        positions = tf.where(tf.math.is_nan(scores), NOT_FOUND, positions)
        return tf.ensure_shape(scores, [None, num_candidates]), tf.ensure_shape(
            positions, [None, num_candidates]
        )
