"""The servable module: user tower and index composed into "which tags interest this user".

The towers come as a loaded SavedModel and are called by their signatures; nothing of the model's
code is needed here, so any towers with these signatures can be served.
"""

from typing import Any

import tensorflow as tf

from serving.index import NOT_FOUND, TopKIndex
from trainer import signatures as s
from trainer.config_loader import require


class TagRetrieval(tf.Module):
    """Towers, index, tags.

    An approximate index only proposes: scores are computed again from the tag vectors, and the
    results are ordered by them.
    """

    def __init__(self, towers: Any, index: TopKIndex, k: int, name: str | None = None):
        """Composes the module.

        Args:
          towers: A loaded SavedModel with the signatures of `trainer.signatures`.
          index: Over the rows of `candidate_embeddings`.
          k: Tags returned for a user; the number of tags where there are fewer.
          name: Name of the module.

        Raises:
          ValueError: `k` is not positive.
        """
        super().__init__(name=name)
        require(k >= 1, "k", "be a positive integer", k)
        candidates = towers.signatures[s.CANDIDATES]()
        self.towers = towers
        self.index = index
        self._tags = tf.Variable(candidates[s.TAGS], trainable=False, name="tags")
        self._embeddings = tf.Variable(
            candidates[s.CANDIDATE_EMBEDDINGS], trainable=False, name="candidate_embeddings"
        )
        self.num_tags = int(self._tags.shape[0])
        self.k = min(k, self.num_tags)

    def search(self, query_embeddings: tf.Tensor) -> dict[str, tf.Tensor]:
        """Finds the tags with the highest scores.

        Args:
          query_embeddings: float32 [batch, dimension].

        Returns:
          `tags` string [batch, k] and `scores` float32 [batch, k], exact, highest first. Where an
          approximate index found fewer than k, the rest is "" with the score -inf.
        """
        scores, positions = self.index.search(query_embeddings, self.k)
        rows = tf.maximum(positions, 0)
        tags = tf.gather(self._tags, rows)
        if not self.index.is_exact:
            is_found = tf.not_equal(positions, NOT_FOUND)
            vectors = tf.gather(self._embeddings, rows)
            exact = tf.einsum("bd,bkd->bk", query_embeddings, vectors)
            exact = tf.where(is_found, exact, tf.constant(float("-inf")))
            scores, order = tf.math.top_k(exact, k=self.k)
            tags = tf.gather(tf.where(is_found, tags, ""), order, batch_dims=1)
        return {s.TAGS: tags, s.SCORES: scores}

    def embed_users(self, features: dict[str, tf.Tensor]) -> tf.Tensor:
        """Query embeddings [batch, dimension] of raw features, one tensor a feature."""
        return self.towers.signatures[s.EMBED_USERS](**features)[s.QUERY_EMBEDDINGS]

    def embed_examples(self, examples: tf.Tensor) -> tf.Tensor:
        """Query embeddings [batch, dimension] of serialized `tf.Example`s [batch]."""
        embedded = self.towers.signatures[s.EMBED_EXAMPLES](**{s.EXAMPLES: examples})
        return embedded[s.QUERY_EMBEDDINGS]
