"""Rules for allowed tags: exclusions and an allow-list of categories, in stock TensorFlow ops.

The rules of a batch are sorted exclusions and one bit per category, never a matrix of users by
tags, which with a million tags would cost more than the search.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from trainer.contract.config_loader import require


@dataclasses.dataclass(frozen=True)
class TagRules:
    """The rules for each user of a batch.

    Attributes:
      excluded: int32 [batch, m + 1], rows of excluded tags, ascending, then the number of tags at
        least once as padding.
      allows_category: bool [batch, num_categories], whether a category is allowed.
      num_allowed: int32 [batch], number of allowed tags.
      is_restricted: bool [batch], whether there is any rule; an unknown tag excludes nothing, but
        an allow-list of unknown categories allows nothing.
    """

    excluded: tf.Tensor
    allows_category: tf.Tensor
    num_allowed: tf.Tensor
    is_restricted: tf.Tensor

    def take(self, users: tf.Tensor) -> "TagRules":
        """Returns the rules of some users, given by their places int [n] in the batch."""
        return TagRules(
            *(tf.gather(getattr(self, f.name), users) for f in dataclasses.fields(self))
        )


class TagFilter(tf.Module):
    """The tags and their categories as lookup tables."""

    def __init__(
        self, tags: np.ndarray, categories: Sequence[str] | None = None, name: str | None = None
    ):
        """Builds the lookup tables.

        Args:
          tags: bytes [num_tags], names of the tags.
          categories: Category of each tag, "" if it has none; None: no tag has one.
          name: Name of the module.

        Raises:
          ValueError: The numbers of categories and tags differ.
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
        # Tags without a category have the last number, which belongs to no name.
        category_of = np.array([number.get(c, len(names)) for c in categories], np.int32)
        self._num_tags, self._num_categories = len(tags), len(names) + 1
        self._category_of = tf.Variable(category_of, trainable=False, name="category_of")
        sizes = np.bincount(category_of, minlength=self._num_categories).astype(np.int32)
        self._sizes = tf.Variable(sizes, trainable=False, name="category_sizes")
        self._rows = _numbering(list(tags), range(len(tags)))
        # The padding "" is a key, so that the table is never empty.
        self._numbers = _numbering([*names, ""], [*range(len(names)), -1])

    def rows(self, tags: tf.Tensor) -> tf.Tensor:
        """Looks up the rows of tags, int32 of the same shape; -1 for an unknown tag."""
        return self._rows.lookup(tags)

    def rules(self, exclude_tags: tf.Tensor, allow_categories: tf.Tensor) -> TagRules:
        """Reads the rules of a request.

        Args:
          exclude_tags: string [batch, m], excluded tags, padded with ""; unknown and repeated tags
            have no effect.
          allow_categories: string [batch, c], allowed categories, padded with ""; a row that holds
            only "" allows every category, and tags without a category.

        Returns:
          The rules of each user.
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
        """Returns whether tags are allowed, bool [batch, n], by their rows int32 [batch, n]."""
        places = tf.searchsorted(rules.excluded, rows)
        is_excluded = tf.gather(rules.excluded, places, batch_dims=1) == rows
        return ~is_excluded & self._in_category(rows, rules.allows_category)

    def rows_of_any(self, rules: TagRules) -> tf.Tensor:
        """Returns the rows of tags whose category is allowed for any user, int32 [n], ascending."""
        is_any = tf.reduce_any(rules.allows_category, axis=0)
        return tf.cast(tf.where(tf.gather(is_any, self._category_of.value()))[:, 0], tf.int32)

    def allows_category_of(self, rules: TagRules, rows: tf.Tensor) -> tf.Tensor:
        """Returns whether the categories of the tags int32 [n] are allowed, bool [batch, n]."""
        return tf.gather(rules.allows_category, tf.gather(self._category_of.value(), rows), axis=1)

    def _in_category(self, rows: tf.Tensor, allows_category: tf.Tensor) -> tf.Tensor:
        return tf.gather(allows_category, tf.gather(self._category_of.value(), rows), batch_dims=1)


def _numbering(keys: Sequence[str], numbers: Sequence[int]) -> tf.lookup.StaticHashTable:
    initializer = tf.lookup.KeyValueTensorInitializer(
        tf.constant(list(keys), tf.string), tf.constant(list(numbers), tf.int32)
    )
    return tf.lookup.StaticHashTable(initializer, default_value=-1)
