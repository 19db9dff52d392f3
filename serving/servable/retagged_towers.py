"""Saved towers whose tags were changed after training: new, retired and re-weighted tags.

The user tower stays the same. The tables of tag vectors are replaced, and every signature that uses
tags reads the new tables. A tag of weight w has

    logit(u, t) = q_u . e_t + log w,    so that p(t | u) ~ w exp(q_u . e_t),

and its score in the second stage rises by the same log w, whatever that stage mixes. The click
head's scores of items are not re-weighted.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tagtower_client.signature_rows import WITH_CLICK_LOSS, Export
from trainer.contract import signatures as s
from trainer.contract.config_loader import require
from trainer.contract.signature_specs import SignatureMaker

_TABLES = (s.CANDIDATE_EMBEDDINGS, s.RANKING_EMBEDDINGS, s.CLICK_EMBEDDINGS)
_REWEIGHTED = (s.CANDIDATE_EMBEDDINGS, s.RANKING_EMBEDDINGS)


@dataclasses.dataclass(frozen=True)
class TagChanges:
    """The changes of a version's tags after training.

    Attributes:
      new: New tags, for which the towers have no row.
      categories: Categories of the new tags, "" if unknown.
      vectors: float32 [num_new, d], given vectors of the new tags, zeros for a tag without one;
        None: no new tag has one.
      retired: Tags of the towers that are removed.
      weights: Factor of a tag's popularity, by tag; positive.
    """

    new: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    vectors: np.ndarray | None = None
    retired: frozenset[str] = frozenset()
    weights: Mapping[str, float] = dataclasses.field(default_factory=dict)


def embed_new_tags(
    towers: Any, tags: Sequence[str], categories: Sequence[str], vectors: np.ndarray | None
) -> dict[str, np.ndarray]:
    """Computes the table rows of new tags from their views.

    Args:
      towers: Loaded SavedModel of towers.
      tags: New tags, at least one, unknown to the towers.
      categories: Categories of the new tags.
      vectors: float32 [num_tags, d], given vectors of the new tags; None: zeros.

    Returns:
      The tables of `candidates`, for these tags.

    Raises:
      ValueError: The towers have no views, or their views have another number of dimensions.
    """
    require(
        s.EMBED_TAGS in towers.signatures,
        "model.tag_views",
        "name at least one view (`words`, `category`, `vectors`) when the towers are trained: "
        "without one, a tag that the log did not have has no vector",
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
            f"have {dimension} numbers, as the vectors that the towers were trained with",
            vectors.shape[1],
        )
        inputs[s.TAG_VECTORS] = tf.constant(vectors)
    found = signature(**inputs)
    return {name: found[name].numpy() for name in _TABLES if name in found}


def changed_tables(towers: Any, changes: TagChanges) -> dict[str, np.ndarray]:
    """Computes the tables of `candidates` after changes of the tags.

    Args:
      towers: Loaded SavedModel of towers.
      changes: Changes of the tags.

    Returns:
      `tags` and the tables of their vectors: the towers' tags in their order, then the new tags.

    Raises:
      ValueError: There are new tags but no views, or no tag is left.
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
    """Towers with changed tables of tags, in the form that `serving.servable.retrieval` takes.

    Towers that were saved before signatures could take tables have no `explain` here, and their
    `score_items` ignores new tags.

    Attributes:
      base: Loaded SavedModel of the towers.
    """

    def __init__(self, towers: Any, tables: Mapping[str, np.ndarray]):
        """Wraps towers with other tables.

        Args:
          towers: Loaded SavedModel with the signatures of `trainer.contract.signatures`.
          tables: Tables that `changed_tables` returned.
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
        # Kept behind a function: otherwise TensorFlow would save each signature once more.
        self._get_signatures = lambda: signatures

    @property
    def signatures(self) -> dict[str, Any]:
        """Returns the signatures by name, like those of a loaded SavedModel."""
        return self._get_signatures()

    def candidates(self) -> dict[str, tf.Tensor]:
        """Returns the tags and their tables, see `trainer.contract.signatures.CANDIDATES`."""
        tables = {name: table.value() for name, table in self._tables.items()}
        return {s.TAGS: self._tags.value(), **tables}

    def score_tags(self, query_embeddings: tf.Tensor, tags: tf.Tensor) -> dict[str, tf.Tensor]:
        """Computes the scores of given tags by the tables.

        Args:
          query_embeddings: float [batch, dimension], user vectors.
          tags: string [batch, m], tags to score.

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
        """Returns the rows of a table for tags; NaN for a tag that has no row."""
        rows = self._rows.lookup(tags)
        vectors = tf.gather(self._tables[table], tf.maximum(rows, 0))
        return tf.where((rows >= 0)[..., tf.newaxis], vectors, tf.constant(float("nan")))

    def score_items(
        self, query_embeddings: tf.Tensor, item_tags: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Computes the click head's scores by the tables, see `signatures.SCORE_ITEMS`.

        Args:
          query_embeddings: float [batch, dimension], user vectors.
          item_tags: string [batch, m, n], tags of the items.

        Returns:
          `click_logits` and `click_probabilities`, float [batch, m].
        """
        rows = self._rows.lookup(item_tags)
        base = self.base.signatures
        if s.SCORE_ITEMS_BY_TABLE not in base:
            # Retired tags are removed; new ones are unknown to older towers, which ignore them.
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

        def score_tags(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            tags = inputs.pop(s.CANDIDATE_TAGS)
            return self.score_tags(embedded(inputs), tags)

        def score_tags_by_embedding(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            return self.score_tags(inputs[s.QUERY_EMBEDDINGS], inputs[s.CANDIDATE_TAGS])

        def score_items(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            item_tags = inputs.pop(s.ITEM_TAGS)
            return self.score_items(embedded(inputs), item_tags)

        def score_items_by_embedding(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            return self.score_items(inputs[s.QUERY_EMBEDDINGS], inputs[s.ITEM_TAGS])

        def explain(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            embeddings = self._vectors(s.RANKING_EMBEDDINGS, inputs.pop(s.EXPLAINED_TAG))
            return base[s.EXPLAIN_BY_EMBEDDING](**inputs, **{s.EXPLAINED_EMBEDDING: embeddings})

        functions: dict[str, Callable[..., Any]] = {
            s.CANDIDATES: self.candidates,
            s.SCORE_TAGS: score_tags,
            s.SCORE_TAGS_BY_EMBEDDING: score_tags_by_embedding,
            s.SCORE_ITEMS: score_items,
            s.SCORE_ITEMS_BY_EMBEDDING: score_items_by_embedding,
        }
        if s.EXPLAIN_BY_EMBEDDING in base:
            functions[s.EXPLAIN] = explain
        has_clicks = s.CLICK_EMBEDDINGS in self._tables
        maker = SignatureMaker(
            Export.TOWERS,
            base[s.EMBED_USERS].structured_input_signature[1],
            {"d": base[s.EMBED_USERS].structured_outputs[s.QUERY_EMBEDDINGS].shape[-1]},
            frozenset([WITH_CLICK_LOSS] if has_clicks else []),
        )
        embed = {name: base[name] for name in (s.EMBED_EXAMPLES, s.EMBED_USERS)}
        return embed | maker.make(functions)
