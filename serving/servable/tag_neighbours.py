"""The nearest tags of a tag by cosine similarity, by exact search in stock TensorFlow ops.

    cos(t, u) = e_t . e_u / (|e_t| |e_u|)

The last component of the candidate embeddings is left out. It is multiplied by a constant 1 of the
user vector, and expresses how popular a tag is, not what it is about. The index is not used: it
searches by inner products that include this bias, so its candidates may lack the nearest tags.
"""

import numpy as np
import tensorflow as tf

from serving.servable.tag_filter import TagFilter
from trainer.contract import signatures as s

# Cosines in memory at a time: 64 MB, and as much again during the search for the greatest.
_MAX_COSINES = 2**24


class TagNeighbours(tf.Module):
    """Search for the nearest tags of tags."""

    def __init__(
        self,
        tags: tf.Variable,
        embeddings: tf.Variable,
        tag_filter: TagFilter,
        k: int,
        max_cosines: int = _MAX_COSINES,
        name: str | None = None,
    ):
        """Initializes the search.

        Args:
          tags: string [num_tags], names of the tags.
          embeddings: float32 [num_tags, dimension], tag vectors; the last component is the bias.
          tag_filter: Lookup table of the tags' rows.
          k: Number of neighbours of a tag, at most `num_tags`.
          max_cosines: Maximum number of cosines computed at once; at least one tag is searched at
            a time, which takes `num_tags` cosines.
          name: Name of the module.
        """
        super().__init__(name=name)
        self._tags, self._embeddings, self._tag_filter = tags, embeddings, tag_filter
        self._k = k
        lengths = np.linalg.norm(embeddings.numpy()[:, :-1], axis=1)
        # A vector of length 0 has no direction; an inverse length of 0 marks it.
        inverse = np.divide(1, lengths, out=np.zeros_like(lengths), where=lengths > 0)
        self._inverse_lengths = tf.Variable(inverse, trainable=False, name="inverse_lengths")
        self._chunk_size = max(1, max_cosines // len(inverse))

    def search(self, tags: tf.Tensor) -> dict[str, tf.Tensor]:
        """Finds the nearest tags of each tag.

        Args:
          tags: string [n], tags whose neighbours are searched.

        Returns:
          `tags` string [n, k], neighbours, nearest first, never the tag itself; `scores` float32
          [n, k], their cosines; `count` int32 [n], the number of filled places; the other places
          have the tag "" and the score -inf. An unknown tag and a tag with the vector 0 have no
          neighbours and are no neighbours of others.
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
            parallel_iterations=1,  # otherwise the chunks would use memory at the same time
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
        """Returns cosines and rows [m, k] of the nearest tags of rows int32 [m], -1: unknown."""
        own = tf.maximum(rows, 0)
        # Read once: after a gather from the variable itself every later read would copy the table.
        embeddings = self._embeddings.value()
        inverse_lengths = self._inverse_lengths.value()
        own_inverse = tf.where(rows >= 0, tf.gather(inverse_lengths, own), 0.0)
        directions = tf.gather(embeddings, own) * own_inverse[:, tf.newaxis]
        # Padding the directions by 0 ignores the biases; to cut the table's last column would copy
        # the table.
        directions = tf.pad(directions[:, :-1], [[0, 0], [0, 1]])
        products = tf.matmul(directions, embeddings, transpose_b=True)
        is_answer = (own_inverse > 0)[:, tf.newaxis] & (inverse_lengths > 0)
        is_answer &= tf.range(tf.size(inverse_lengths)) != own[:, tf.newaxis]
        cosines = tf.where(is_answer, products * inverse_lengths, tf.constant(float("-inf")))
        scores, nearest = tf.math.top_k(cosines, self._k)
        return scores, nearest
