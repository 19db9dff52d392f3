"""Views of a tag beside its id: the words of its name, its category, a vector that a file gives.

A tag that training never saw has views, too, so that a tower that reads them has a vector for it on
its first day. `trainer.towers.tag_tower` adds the views to the id part and hides ids;
`tfx_pipeline.tables.tag_vectors` reads and checks vectors.
"""

import dataclasses
import json
import logging
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
import tf_keras

from trainer.config import ModelConfig
from trainer.contract.config_loader import require
from trainer.contract.file_system import open_file
from trainer.contract.whole_files import read_json_lines

# Names of arrays in the file of vectors: the tags as JSON in UTF-8, and float32 [n, d].
VECTOR_TAGS, VECTORS = "tags", "vectors"

# Words have letters, digits and the marks by which some scripts write vowels; all else separates.
_BETWEEN_WORDS = r"[^\pL\pM\pN]+"

_progress = logging.getLogger("tagtower.train")


@dataclasses.dataclass(frozen=True)
class TagAttributes:
    """Attributes of tags that do not depend on clicks.

    Attributes:
      tags: The tags in order of their ids.
      categories: The category of most items that carry each tag; "" where there is none.
      vectors: float32 [n, d], given vectors of the tags, zeros for a tag without one; None: no tag
        has a vector.
    """

    tags: tuple[str, ...]
    categories: tuple[str, ...]
    vectors: np.ndarray | None = None

    def __post_init__(self) -> None:
        size = len(self.tags)
        require(
            len(self.categories) == size, "categories", f"be {size} values", len(self.categories)
        )
        if self.vectors is not None:
            require(
                self.vectors.ndim == 2 and len(self.vectors) == size and self.vectors.shape[1] > 0,
                "vectors",
                f"have {size} rows of one length",
                self.vectors.shape,
            )

    def take(self, ids: np.ndarray) -> "TagAttributes":
        """Returns the attributes of the tags `ids`, int [n], in that order."""
        return TagAttributes(
            tuple(self.tags[i] for i in ids),
            tuple(self.categories[i] for i in ids),
            None if self.vectors is None else self.vectors[ids],
        )


def load_tag_attributes(
    tags_file: str, tags: Sequence[str], vectors_file: str = ""
) -> TagAttributes:
    """Reads the attributes of the tags of a vocabulary.

    Args:
      tags_file: Path of the example generator's `tags.jsonl`: lines with `tag` and `category`.
      tags: The tags in order of their ids.
      vectors_file: Path of the vectors that `tfx_pipeline.tables.tag_vectors` wrote; "": none.

    Returns:
      The attributes. A tag that is not in a file has no category, or a vector of zeros.

    Raises:
      ValueError: There are vectors, but none for any of the tags.
    """
    categories = load_tag_categories(tags_file)
    vectors = _load_vectors(vectors_file, tags) if vectors_file else None
    return TagAttributes(tuple(tags), tuple(categories.get(tag, "") for tag in tags), vectors)


def load_tag_categories(tags_file: str) -> dict[str, str]:
    """Reads the category of most items that carry a tag.

    Args:
      tags_file: Path of the example generator's `tags.jsonl`.

    Returns:
      Categories by tag; "" where there is none.
    """
    # Read row by row: the rows of a million tags are a gigabyte of objects.
    return {row["tag"]: row.get("category") or "" for row in read_json_lines(tags_file)}


def _load_vectors(path: str, tags: Sequence[str]) -> np.ndarray:
    with open_file(path, "rb") as file, np.load(file) as arrays:
        rows = {tag: i for i, tag in enumerate(json.loads(arrays[VECTOR_TAGS].tobytes()))}
        found = arrays[VECTORS]
    places = np.array([rows.get(tag, -1) for tag in tags], np.int64)
    has_vector = places >= 0
    require(
        bool(has_vector.any()),
        "data.tag_vectors",
        "have a vector for at least one tag of the log",
        f"{len(rows)} vectors of other tags",
    )
    vectors = np.zeros((len(tags), found.shape[1]), np.float32)
    vectors[has_vector] = found[places[has_vector]]
    _progress.info("vectors for %d of %d tags", has_vector.sum(), len(tags))
    return vectors


def word_ids(tags: tf.Tensor, num_buckets: int) -> tf.RaggedTensor:
    """Hashes the words of tags into buckets.

    A word is a run of letters, digits and combining marks of any script, in lower case. Only
    TensorFlow operations are used, so that training and the served graph agree in every process.

    Args:
      tags: string [n], tags in UTF-8.
      num_buckets: Number of buckets.

    Returns:
      int64 [n, None], buckets in order of the words; none for a tag without a letter or digit.
    """
    lowered = tf.strings.lower(tags, encoding="utf-8")
    words = tf.strings.split(tf.strings.regex_replace(lowered, _BETWEEN_WORDS, " "))
    return words.with_flat_values(tf.strings.to_hash_bucket_fast(words.flat_values, num_buckets))


class TagViews(tf_keras.layers.Layer):
    """Layer that makes a row for every tag from its views: `w + c + v`.

    w is the mean of the rows of the words of its name (hashed), c the row of its category, v = A x
    a linear map of the given vector x; each only if `config.tag_views` names it. A row has U + 2
    numbers: embedding, multi-class bias, click bias.

    All weights start at 0. So the tower starts like one without views, and a word or category that
    training never saw adds nothing. This does not stop training: the sum is linear in every part.

    Args:
      attributes: Attributes of the tags in order of their ids.
      config: Configuration of the model; `tag_views` names at least one view.

    Raises:
      ValueError: `tag_views` names `vectors` and there are no vectors.
    """

    def __init__(self, attributes: TagAttributes, config: ModelConfig, **kwargs: object):
        super().__init__(**kwargs)
        views = config.tag_views
        require(bool(views), "tag_views", "name at least one view", views)
        self.config = config
        self.category_table: tf.lookup.StaticHashTable | None = None
        self._num_tags = len(attributes.tags)
        self._width = config.output_dim + 2
        # Views of the known tags are constants: neither trained nor part of a checkpoint.
        if "words" in views:
            words = word_ids(tf.constant(attributes.tags), config.num_word_buckets)
            self._words = tf.cast(words.flat_values, tf.int32)
            self._word_offsets = tf.cast(words.row_splits, tf.int32)
            self.word_rows = self._add_rows("word_rows", config.num_word_buckets)
        if "category" in views:
            self.categories = tuple(sorted(set(attributes.categories) - {""}))
            # "" has an entry, too, because a table cannot be empty.
            self.category_table = tf.lookup.StaticHashTable(
                tf.lookup.KeyValueTensorInitializer(
                    tf.constant(["", *self.categories]), tf.range(-1, len(self.categories))
                ),
                default_value=-1,
            )
            self._category_ids = self.category_table.lookup(tf.constant(attributes.categories))
            self.category_rows = self._add_rows("category_rows", max(len(self.categories), 1))
        if "vectors" in views:
            require(
                attributes.vectors is not None,
                "tag_views",
                "not name `vectors` without `data.tag_vectors`",
                views,
            )
            self._vectors = tf.constant(attributes.vectors)
            self.vector_map = self._add_rows("vector_map", self._vectors.shape[1])

    def _add_rows(self, name: str, num_rows: int) -> tf.Variable:
        return self.add_weight(name, [num_rows, self._width], initializer="zeros")

    @property
    def vector_dim(self) -> int | None:
        """Length of the given vectors; None: the view `vectors` is off."""
        return self._vectors.shape[1] if "vectors" in self.config.tag_views else None

    def rows(self, ids: tf.Tensor | None = None) -> tf.Tensor:
        """Computes the rows of known tags.

        Args:
          ids: int [n], ids of tags, below the number of tags; None: all tags in order.

        Returns:
          float [n, U + 2], rows. Only words and categories of these tags are read.
        """
        ids = tf.range(self._num_tags) if ids is None else ids
        words = categories = vectors = None
        if "words" in self.config.tag_views:
            offsets = self._word_offsets
            places = tf.ragged.range(tf.gather(offsets, ids), tf.gather(offsets, ids + 1))
            words = places.with_flat_values(tf.gather(self._words, places.flat_values))
        if "category" in self.config.tag_views:
            categories = tf.gather(self._category_ids, ids)
        if "vectors" in self.config.tag_views:
            vectors = tf.gather(self._vectors, ids)
        return self._sum(words, categories, vectors)

    def embed(
        self, tags: tf.Tensor, categories: tf.Tensor, vectors: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Computes the rows of any tags, known or not.

        Args:
          tags: string [n], tags.
          categories: string [n], categories of the tags; "" or a category that no known tag has
            adds nothing.
          vectors: float [n, d], vectors of the view `vectors`, zeros where there is none; needed
            with that view.

        Returns:
          float [n, U + 2], rows.
        """
        words = category_ids = own_vectors = None
        if "words" in self.config.tag_views:
            words = word_ids(tags, self.config.num_word_buckets)
        if self.category_table is not None:
            category_ids = self.category_table.lookup(categories)
        if "vectors" in self.config.tag_views:
            require(vectors is not None, "vectors", "be given where that view is on", vectors)
            own_vectors = vectors
        return self._sum(words, category_ids, own_vectors)

    def _sum(
        self,
        words: tf.RaggedTensor | None,
        category_ids: tf.Tensor | None,
        vectors: tf.Tensor | None,
    ) -> tf.Tensor:
        """Adds `w + c + v` of buckets [n, None], ids [n] (-1: unknown) and vectors [n, d]."""
        parts = []
        if words is not None:
            sums = tf.math.unsorted_segment_sum(
                tf.gather(self.word_rows, words.flat_values), words.value_rowids(), words.nrows()
            )
            counts = tf.cast(words.row_lengths(), sums.dtype)
            parts.append(sums / tf.maximum(counts, 1.0)[:, tf.newaxis])
        if category_ids is not None:
            is_known = tf.cast(category_ids >= 0, tf.float32)[:, tf.newaxis]
            parts.append(is_known * tf.gather(self.category_rows, tf.maximum(category_ids, 0)))
        if vectors is not None:
            parts.append(tf.matmul(vectors, self.vector_map))
        return tf.add_n(parts)
