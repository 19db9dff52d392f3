"""Saved towers with other tags than they were trained with: new, retired and re-weighted ones.

The user tower stays; the tables of tag vectors are replaced, and every signature that knows tags
answers by the new tables. A tag of weight w has

    logit(u, t) = q_u . e_t + log w,    so that p(t | u) ~ w exp(q_u . e_t),

and its score in the second stage rises by the same log w, whatever that stage mixes. What the click
head says of items is not re-weighted.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from trainer.contract import signatures as s
from trainer.contract.config_loader import require

_TABLES = (s.CANDIDATE_EMBEDDINGS, s.RANKING_EMBEDDINGS, s.CLICK_EMBEDDINGS)
_REWEIGHTED = (s.CANDIDATE_EMBEDDINGS, s.RANKING_EMBEDDINGS)


@dataclasses.dataclass(frozen=True)
class TagChanges:
    """What becomes of the tags.

    Attributes:
      new: Tags that the towers have no row for.
      categories: Theirs, "" where unknown.
      vectors: Theirs, float32 [num_new, d], zeros where there is none; None: none at all.
      retired: Tags of the towers that are known no more.
      weights: By tag, what its popularity is multiplied by; positive.
    """

    new: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    vectors: np.ndarray | None = None
    retired: frozenset[str] = frozenset()
    weights: Mapping[str, float] = dataclasses.field(default_factory=dict)


def embed_new_tags(
    towers: Any, tags: Sequence[str], categories: Sequence[str], vectors: np.ndarray | None
) -> dict[str, np.ndarray]:
    """Rows of the tables for tags by their views.

    Args:
      towers: A loaded SavedModel of towers.
      tags: At least one, unknown to the towers.
      categories: Theirs.
      vectors: float32 [num_tags, d]; None: zeros.

    Returns:
      The tables of `candidates`, of these tags.

    Raises:
      ValueError: The towers have no views, or another number of dimensions.
    """
    require(
        s.EMBED_TAGS in towers.signatures,
        "model.tag_views",
        "name at least one view (`words`, `category`, `vectors`) when the towers are trained, for "
        "a tag to have a vector that the log did not have",
        list(tags[:3]),
    )
    signature = towers.signatures[s.EMBED_TAGS]
    inputs = {s.TAGS: tf.constant(tags), s.TAG_CATEGORIES: tf.constant(categories)}
    specs = signature.structured_input_signature[1]
    if s.TAG_VECTORS in specs:
        dimension = specs[s.TAG_VECTORS].shape[1]
        vectors = np.zeros((len(tags), dimension), np.float32) if vectors is None else vectors
        require(
            vectors.shape[1] == dimension,
            "vector",
            f"have {dimension} numbers, as those that the towers were trained with",
            vectors.shape[1],
        )
        inputs[s.TAG_VECTORS] = tf.constant(vectors)
    found = signature(**inputs)
    return {name: found[name].numpy() for name in _TABLES if name in found}


def changed_tables(towers: Any, changes: TagChanges) -> dict[str, np.ndarray]:
    """The tables of `candidates` after changes.

    Args:
      towers: A loaded SavedModel of towers.
      changes: What becomes of the tags.

    Returns:
      `tags`, and the tables of their vectors: the towers' in their order, then the new ones.

    Raises:
      ValueError: There are new tags and no views, or no tag is left.
    """
    found = {name: value.numpy() for name, value in towers.signatures[s.CANDIDATES]().items()}
    tags = [tag.decode() for tag in found[s.TAGS]]
    is_kept = np.array([tag not in changes.retired for tag in tags], bool)
    tables = {name: found[name][is_kept] for name in _TABLES if name in found}
    kept = [tag for tag, is_one in zip(tags, is_kept, strict=True) if is_one]
    if changes.new:
        rows = embed_new_tags(towers, changes.new, changes.categories, changes.vectors)
        tables = {name: np.concatenate([table, rows[name]]) for name, table in tables.items()}
        kept += changes.new
    require(bool(kept), "tags", "leave at least one tag", f"{len(changes.retired)} retired")
    log_weights = np.log([changes.weights.get(tag, 1.0) for tag in kept]).astype(np.float32)
    for name in _REWEIGHTED:
        tables[name][:, -1] += log_weights
    return {s.TAGS: np.array([tag.encode() for tag in kept], object), **tables}


class RetaggedTowers(tf.Module):
    """Towers as `serving.servable.retrieval` takes them, with tables of their own.

    Towers saved before they could be asked by table cannot explain (there is no `explain` then),
    and their `score_items` passes over new tags.

    Attributes:
      base: The loaded SavedModel.
    """

    def __init__(self, towers: Any, tables: Mapping[str, np.ndarray]):
        """Wraps towers.

        Args:
          towers: A loaded SavedModel with the signatures of `trainer.contract.signatures`.
          tables: As `changed_tables` gives them.
        """
        super().__init__(name="retagged_towers")
        self.base = towers
        tags = tf.constant(tables[s.TAGS])
        self._tags = tf.Variable(tags, trainable=False, name="tags")
        self._tables = {
            name: tf.Variable(tables[name], trainable=False, name=name)
            for name in _TABLES
            if name in tables
        }
        self._rows = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(
                tags, tf.range(len(tables[s.TAGS]), dtype=tf.int64)
            ),
            default_value=-1,
        )
        signatures = self._make_signatures()
        # Behind a function, or TensorFlow would save each of them for its own sake, too.
        self._get_signatures = lambda: signatures

    @property
    def signatures(self) -> dict[str, Any]:
        """The signatures by name, as those of a loaded SavedModel."""
        return self._get_signatures()

    def candidates(self) -> dict[str, tf.Tensor]:
        """See `trainer.contract.signatures.CANDIDATES`."""
        tables = {name: table.value() for name, table in self._tables.items()}
        return {s.TAGS: self._tags.value(), **tables}

    def score_tags(self, query_embeddings: tf.Tensor, tags: tf.Tensor) -> dict[str, tf.Tensor]:
        """Scores of given tags, by the tables.

        Args:
          query_embeddings: float [batch, dimension].
          tags: string [batch, m].

        Returns:
          `scores` and `multi_class_logits`, float [batch, m]; NaN for a tag without a vector.
        """
        return {
            output: tf.einsum("bd,bmd->bm", query_embeddings, self._vectors(name, tags))
            for output, name in (
                (s.SCORES, s.RANKING_EMBEDDINGS),
                (s.MULTI_CLASS_LOGITS, s.CANDIDATE_EMBEDDINGS),
            )
        }

    def _vectors(self, table: str, tags: tf.Tensor) -> tf.Tensor:
        """Rows of a table; NaN for a tag without one."""
        rows = self._rows.lookup(tags)
        vectors = tf.gather(self._tables[table], tf.maximum(rows, 0))
        return tf.where((rows >= 0)[..., tf.newaxis], vectors, tf.constant(float("nan")))

    def score_items(
        self, query_embeddings: tf.Tensor, item_tags: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """The click head, by the tables; see `trainer.contract.signatures.SCORE_ITEMS`.

        Args:
          query_embeddings: float [batch, dimension].
          item_tags: string [batch, m, n].

        Returns:
          `click_logits` and `click_probabilities`, float [batch, m].
        """
        rows = self._rows.lookup(item_tags)
        base = self.base.signatures
        if s.SCORE_ITEMS_BY_TABLE not in base:
            # Retired tags are nobody's; of new ones older towers know nothing.
            known = tf.where(rows >= 0, item_tags, "")
            return base[s.SCORE_ITEMS_BY_EMBEDDING](
                **{s.QUERY_EMBEDDINGS: query_embeddings, s.ITEM_TAGS: known}
            )
        by_table = base[s.SCORE_ITEMS_BY_TABLE]
        names = set(by_table.structured_input_signature[1])
        tables = {name: table for name, table in self._tables.items() if name in names}
        inputs = {s.QUERY_EMBEDDINGS: query_embeddings, s.ITEM_TAG_ROWS: rows}
        return by_table(**inputs, **{name: table.value() for name, table in tables.items()})

    def _make_signatures(self) -> dict[str, Any]:
        base = self.base.signatures

        def embedded(inputs: dict[str, tf.Tensor]) -> tf.Tensor:
            return base[s.EMBED_USERS](**inputs)[s.QUERY_EMBEDDINGS]

        def score_tags(**inputs):
            tags = inputs.pop(s.CANDIDATE_TAGS)
            return self.score_tags(embedded(inputs), tags)

        def score_tags_by_embedding(**inputs):
            return self.score_tags(inputs[s.QUERY_EMBEDDINGS], inputs[s.CANDIDATE_TAGS])

        def score_items(**inputs):
            item_tags = inputs.pop(s.ITEM_TAGS)
            return self.score_items(embedded(inputs), item_tags)

        def score_items_by_embedding(**inputs):
            return self.score_items(inputs[s.QUERY_EMBEDDINGS], inputs[s.ITEM_TAGS])

        def explain(**inputs):
            embeddings = self._vectors(s.RANKING_EMBEDDINGS, inputs.pop(s.EXPLAINED_TAG))
            return base[s.EXPLAIN_BY_EMBEDDING](**inputs, **{s.EXPLAINED_EMBEDDING: embeddings})

        functions: dict[str, Callable] = {
            s.CANDIDATES: self.candidates,
            s.SCORE_TAGS: score_tags,
            s.SCORE_TAGS_BY_EMBEDDING: score_tags_by_embedding,
            s.SCORE_ITEMS: score_items,
            s.SCORE_ITEMS_BY_EMBEDDING: score_items_by_embedding,
        }
        if s.EXPLAIN_BY_EMBEDDING in base:
            functions[s.EXPLAIN] = explain
        made = {
            name: tf.function(function, autograph=False).get_concrete_function(
                **base[name].structured_input_signature[1]
            )
            for name, function in functions.items()
        }
        return {name: base[name] for name in (s.EMBED_EXAMPLES, s.EMBED_USERS)} | made
