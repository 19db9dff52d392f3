"""Tags near a tag: those whose vectors point the same way, by exact search in stock TensorFlow ops.

    cos(t, u) = e_t . e_u / (|e_t| |e_u|)

without the last component of the candidate embeddings, which multiplies a user's constant 1: it
says how popular a tag is, and not what it is about. The index is not asked. It searches by inner
products with that bias in them, so that the nearest tags need not be among what it proposes.
"""

import numpy as np
import tensorflow as tf

from serving.servable.tag_filter import TagFilter
from trainer.contract import signatures as s

# Cosines in memory at a time: 64 MB, and as much again while the greatest are looked for.
_MAX_COSINES = 2**24


class TagNeighbours(tf.Module):
    """Finds the nearest tags of tags."""

    def __init__(
        self,
        tags: tf.Variable,
        embeddings: tf.Variable,
        tag_filter: TagFilter,
        k: int,
        max_cosines: int = _MAX_COSINES,
        name: str | None = None,
    ):
        """Initializes.

        Args:
          tags: string [num_tags].
          embeddings: float32 [num_tags, dimension], the last component the bias.
          tag_filter: Knows the rows of the tags.
          k: Neighbours of a tag, at most `num_tags`.
          max_cosines: Tags asked about at once, times `num_tags`, at most; one tag at least.
          name: Name of the module.
        """
        super().__init__(name=name)
        self._tags, self._embeddings, self._tag_filter = tags, embeddings, tag_filter
        self._k = k
        lengths = np.linalg.norm(embeddings.numpy()[:, :-1], axis=1)
        # A vector without length has no direction: 0 marks it.
        inverse = np.divide(1, lengths, out=np.zeros_like(lengths), where=lengths > 0)
        self._inverse_lengths = tf.Variable(inverse, trainable=False, name="inverse_lengths")
        self._chunk_size = max(1, max_cosines // len(inverse))

    def search(self, tags: tf.Tensor) -> dict[str, tf.Tensor]:
        """Finds the nearest tags.

        Args:
          tags: string [n].

        Returns:
          `tags` string [n, k], the nearest first and never the tag itself; `scores` float32 [n, k],
          their cosines; `count` int32 [n], the places that are filled, the others are "" with the
          score -inf. An unknown tag and one whose vector is 0 have no neighbours, and are nobody's.
        """
        num_asked = tf.size(tags)
        num_chunks = tf.maximum(-(-num_asked // self._chunk_size), 1)
        size = -(-num_asked // num_chunks)
        padding = [[0, num_chunks * size - num_asked]]
        rows = tf.pad(self._tag_filter.rows(tags), padding, constant_values=-1)
        scores, neighbours = tf.map_fn(
            self._nearest,
            tf.reshape(rows, [num_chunks, size]),
            fn_output_signature=(tf.float32, tf.int32),
            parallel_iterations=1,  # or the memory of each would be in use at once
        )
        scores = tf.reshape(scores, [-1, self._k])[:num_asked]
        neighbours = tf.reshape(neighbours, [-1, self._k])[:num_asked]
        is_found = scores > tf.constant(float("-inf"))
        return {
            s.TAGS: tf.where(is_found, tf.gather(self._tags, neighbours), ""),
            s.SCORES: scores,
            s.COUNT: tf.reduce_sum(tf.cast(is_found, tf.int32), axis=1),
        }

    def _nearest(self, rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Cosines and rows [m, k] of the nearest tags; rows int32 [m], -1 for an unknown tag."""
        own = tf.maximum(rows, 0)
        # Read once: after a gather from the variable itself every reading would be a copy.
        embeddings = self._embeddings.value()
        inverse_lengths = self._inverse_lengths.value()
        own_inverse = tf.where(rows >= 0, tf.gather(inverse_lengths, own), 0.0)
        directions = tf.gather(embeddings, own) * own_inverse[:, tf.newaxis]
        # 0 times every bias, where a table without its last column would be a copy of it.
        directions = tf.pad(directions[:, :-1], [[0, 0], [0, 1]])
        products = tf.matmul(directions, embeddings, transpose_b=True)
        is_answer = (own_inverse > 0)[:, tf.newaxis] & (inverse_lengths > 0)
        is_answer &= tf.range(tf.size(inverse_lengths)) != own[:, tf.newaxis]
        cosines = tf.where(is_answer, products * inverse_lengths, tf.constant(float("-inf")))
        scores, nearest = tf.math.top_k(cosines, self._k)
        return scores, nearest
