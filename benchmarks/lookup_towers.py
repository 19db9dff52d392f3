"""Towers with the signatures that a servable is made of, all of which look up in tables."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from trainer.contract import signatures as s


class LookupTowers(tf.Module):
    """Tables, and signatures that look up in them."""

    def __init__(self, vectors: np.ndarray, queries: np.ndarray):
        """Makes the tables.

        Args:
          vectors: float32 [num_tags, dimension]; tag `t<j>` has row j.
          queries: float32 [num_users, dimension]; user `<i>` has row i.
        """
        super().__init__()
        self.vectors, self.queries = tf.Variable(vectors), tf.Variable(queries)
        self.tags = tf.Variable([f"t{j}" for j in range(len(vectors))])
        signatures = self._make_signatures()
        # Behind a function, or each would be saved for its own sake, too.
        self._get_signatures = lambda: signatures

    @property
    def signatures(self) -> dict[str, Any]:
        """As those of a loaded SavedModel."""
        return self._get_signatures()

    def _embed(self, users: tf.Tensor) -> tf.Tensor:
        # Nobody, as in a warm-up, is the first.
        digits = tf.strings.regex_replace(users, "^$", "0")
        return tf.gather(self.queries, tf.strings.to_number(digits, tf.int32))

    def _score(self, embedded: tf.Tensor, tags: tf.Tensor) -> dict[str, tf.Tensor]:
        digits = tf.strings.regex_replace(tags, "^t?$|^t", "0")
        rows = tf.gather(self.vectors, tf.strings.to_number(digits, tf.int32))
        logits = tf.einsum("bd,bmd->bm", embedded, rows)
        return {s.SCORES: logits, s.MULTI_CLASS_LOGITS: logits}

    def _make_signatures(self) -> dict[str, Any]:
        user = tf.TensorSpec([None], tf.string, "user")
        examples = tf.TensorSpec([None], tf.string, s.EXAMPLES)
        tags = tf.TensorSpec([None, None], tf.string, s.CANDIDATE_TAGS)
        items = tf.TensorSpec([None, None, None], tf.string, s.ITEM_TAGS)
        embedded = tf.TensorSpec([None, self.queries.shape[1]], tf.float32, s.QUERY_EMBEDDINGS)

        def embed_examples(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            spec = {"user": tf.io.FixedLenFeature([], tf.string, "")}
            parsed = tf.io.parse_example(inputs[s.EXAMPLES], spec)
            return {s.QUERY_EMBEDDINGS: self._embed(parsed["user"])}

        def candidates() -> dict[str, tf.Tensor]:
            table = self.vectors.value()
            return {
                s.TAGS: self.tags.value(),
                s.CANDIDATE_EMBEDDINGS: table,
                s.RANKING_EMBEDDINGS: table,
            }

        def score_items(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            logits = tf.zeros(tf.shape(inputs[s.ITEM_TAGS])[:2])
            return {s.CLICK_LOGITS: logits, s.CLICK_PROBABILITIES: tf.sigmoid(logits)}

        functions: Sequence[tuple[str, Callable[..., Any], list[Any]]] = (
            (s.EMBED_EXAMPLES, embed_examples, [examples]),
            (s.EMBED_USERS, lambda **i: {s.QUERY_EMBEDDINGS: self._embed(i["user"])}, [user]),
            (s.CANDIDATES, candidates, []),
            (
                s.SCORE_TAGS,
                lambda **i: self._score(self._embed(i["user"]), i[s.CANDIDATE_TAGS]),
                [user, tags],
            ),
            (
                s.SCORE_TAGS_BY_EMBEDDING,
                lambda **i: self._score(i[s.QUERY_EMBEDDINGS], i[s.CANDIDATE_TAGS]),
                [embedded, tags],
            ),
            (s.SCORE_ITEMS, score_items, [user, items]),
        )
        return {
            name: tf.function(function, autograph=False).get_concrete_function(
                **{spec.name: spec for spec in specs}
            )
            for name, function, specs in functions
        }
