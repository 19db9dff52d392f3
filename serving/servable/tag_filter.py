"""Which tags a caller allows: exclusions and an allow-list of categories, in stock TensorFlow ops.

The rules of a batch are sorted exclusions and one bit a category, never a matrix of users by tags:
with a million tags that would cost more than the search.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from trainer.contract.config_loader import require


@dataclasses.dataclass(frozen=True)
class TagRules:
    """What is allowed for each user of a batch.

    Attributes:
      excluded: int32 [batch, m + 1], rows of excluded tags, ascending; behind them the number of
        tags, once at least.
      allows_category: bool [batch, num_categories].
      num_allowed: int32 [batch], tags that may be returned.
      is_restricted: bool [batch], whether there is any rule; names that nobody knows exclude
        nothing, but an allow-list of them allows nothing.
    """

    excluded: tf.Tensor
    allows_category: tf.Tensor
    num_allowed: tf.Tensor
    is_restricted: tf.Tensor

    def take(self, users: tf.Tensor) -> "TagRules":
        """The rules of some users, by their places int [n] in the batch."""
        return TagRules(
            *(tf.gather(getattr(self, f.name), users) for f in dataclasses.fields(self))
        )


class TagFilter(tf.Module):
    """The tags and their categories as tables."""

    def __init__(
        self, tags: np.ndarray, categories: Sequence[str] | None = None, name: str | None = None
    ):
        """Builds the tables.

        Args:
          tags: bytes [num_tags].
          categories: Of each tag, "" where it has none; None: no tag has one.
          name: Name of the module.

        Raises:
          ValueError: There is not one category for each tag.
        """
        super().__init__(name=name)
        categories = [""] * len(tags) if categories is None else list(categories)
        require(
            len(categories) == len(tags),
            "categories",
            f"name one for each of the {len(tags)} tags",
            len(categories),
        )
        names = sorted({category for category in categories if category})
        number = {category: i for i, category in enumerate(names)}
        # Tags without a category have the last number, which no name leads to.
        category_of = np.array([number.get(c, len(names)) for c in categories], np.int32)
        self._num_tags, self._num_categories = len(tags), len(names) + 1
        self._category_of = tf.Variable(category_of, trainable=False, name="category_of")
        sizes = np.bincount(category_of, minlength=self._num_categories).astype(np.int32)
        self._sizes = tf.Variable(sizes, trainable=False, name="category_sizes")
        self._rows = _numbering(list(tags), range(len(tags)))
        # The padding is a key so that the table is never empty.
        self._numbers = _numbering([*names, ""], [*range(len(names)), -1])

    def rows(self, tags: tf.Tensor) -> tf.Tensor:
        """Rows of tags, int32 of the same shape; -1 for an unknown one."""
        return self._rows.lookup(tags)

    def rules(self, exclude_tags: tf.Tensor, allow_categories: tf.Tensor) -> TagRules:
        """Reads what callers ask for.

        Args:
          exclude_tags: string [batch, m], padded with ""; unknown and repeated ones do no harm.
          allow_categories: string [batch, c], padded with ""; nothing else in it: every category,
            and tags without one.

        Returns:
          The rules.
        """
        rows = self.rows(exclude_tags)
        rows = tf.where(rows >= 0, rows, self._num_tags)
        excluded = tf.sort(tf.pad(rows, [[0, 0], [0, 1]], constant_values=self._num_tags), axis=1)
        is_first = tf.pad(
            excluded[:, 1:] != excluded[:, :-1], [[0, 0], [1, 0]], constant_values=True
        )
        is_listed = tf.reduce_any(
            tf.one_hot(self._numbers.lookup(allow_categories), self._num_categories, True, False),
            axis=1,
        )
        has_list = tf.reduce_any(tf.not_equal(allow_categories, ""), axis=1)
        allows_category = is_listed | ~has_list[:, tf.newaxis]
        is_tag = excluded < self._num_tags
        is_taken = (
            is_first & is_tag & self._in_category(tf.where(is_tag, excluded, 0), allows_category)
        )
        num_listed = tf.reduce_sum(tf.where(allows_category, self._sizes, 0), axis=1)
        return TagRules(
            excluded=excluded,
            allows_category=allows_category,
            num_allowed=num_listed - tf.reduce_sum(tf.cast(is_taken, tf.int32), axis=1),
            is_restricted=has_list | tf.reduce_any(is_tag, axis=1),
        )

    def allows(self, rules: TagRules, rows: tf.Tensor) -> tf.Tensor:
        """Whether tags are allowed, bool [batch, n], by their rows int32 [batch, n]."""
        places = tf.searchsorted(rules.excluded, rows)
        is_excluded = tf.gather(rules.excluded, places, batch_dims=1) == rows
        return ~is_excluded & self._in_category(rows, rules.allows_category)

    def rows_of_any(self, rules: TagRules) -> tf.Tensor:
        """Rows int32 [n], ascending, of the tags whose category is allowed for any user."""
        is_any = tf.reduce_any(rules.allows_category, axis=0)
        return tf.cast(tf.where(tf.gather(is_any, self._category_of.value()))[:, 0], tf.int32)

    def allows_category_of(self, rules: TagRules, rows: tf.Tensor) -> tf.Tensor:
        """Whether the categories of the same tags, int32 [n], are allowed, bool [batch, n]."""
        return tf.gather(rules.allows_category, tf.gather(self._category_of.value(), rows), axis=1)

    def _in_category(self, rows: tf.Tensor, allows_category: tf.Tensor) -> tf.Tensor:
        return tf.gather(allows_category, tf.gather(self._category_of.value(), rows), batch_dims=1)


def _numbering(keys: Sequence, numbers: Sequence[int]) -> tf.lookup.StaticHashTable:
    initializer = tf.lookup.KeyValueTensorInitializer(
        tf.constant(list(keys), tf.string), tf.constant(list(numbers), tf.int32)
    )
    return tf.lookup.StaticHashTable(initializer, default_value=-1)
