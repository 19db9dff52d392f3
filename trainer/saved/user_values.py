"""The features of a batch of users as ids, in the form that the served graph computes with.

The values of all lists of all users are one sequence. So an operation of the graph handles all
domains at once, and the size of the graph does not grow with their number.
"""

import dataclasses
from typing import NamedTuple

import tensorflow as tf

from trainer.contract.features import FeatureSpec


class UserValues(NamedTuple):
    """The ids of the features of some users.

    Attributes:
      singles: int64 [batch, S], ids of the profile features with one value, in the order of
        `FeatureSpec.singles`.
      users: int64 [n], the user of each list value, as a place in the batch.
      lists: int64 [n], the list of each value, as a place in `FeatureSpec.lists`.
      ids: int64 [n], the id of each value in the vocabulary of its list.
      weights: float32 [n], the weight of each value; 1 in a list without weights.
    """

    singles: tf.Tensor
    users: tf.Tensor
    lists: tf.Tensor
    ids: tf.Tensor
    weights: tf.Tensor

    @property
    def num_users(self) -> tf.Tensor:
        """Number of users, int64 scalar."""
        return tf.shape(self.singles, tf.int64)[0]


def signature(spec: FeatureSpec) -> UserValues:
    """Returns the tensor specifications of the values of some users."""
    ids = tf.TensorSpec([None], tf.int64)
    singles = tf.TensorSpec([None, len(spec.singles)], tf.int64)
    return UserValues(singles, ids, ids, ids, tf.TensorSpec([None], tf.float32))


@dataclasses.dataclass(frozen=True)
class Segments:
    """The lists of a batch: each pair of user and list is a segment of the sequence of values.

    Attributes:
      ids: int64 [n], the segment of each value, `user * L + list`.
      num: int64 scalar, number of segments.
      num_lists: L, number of lists.
    """

    ids: tf.Tensor
    num: tf.Tensor
    num_lists: int

    @classmethod
    def of(cls, values: UserValues, num_lists: int) -> "Segments":
        """Returns the segments of the values of some users."""
        size = tf.constant(num_lists, tf.int64)
        return cls(values.users * size + values.lists, values.num_users * size, num_lists)

    def sum(self, values: tf.Tensor) -> tf.Tensor:
        """Adds up values [n, ...] by segment, [batch * L, ...]."""
        return tf.math.unsorted_segment_sum(values, self.ids, self.num)

    def by_user(self, column: tf.Tensor) -> tf.Tensor:
        """Reshapes a number for each segment [batch * L] to [batch, L]."""
        return tf.reshape(column, [-1, self.num_lists])


def segment_of(ends: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    """Returns the segment that each place lies in.

    One operation, where `tf.repeat` and `tf.searchsorted` make some twenty.

    Args:
      ends: int [m], place after the last one of each segment, ascending.
      places: int [n], places below the last end.

    Returns:
      int64 [n], numbers of segments.
    """
    found = tf.raw_ops.UpperBound(
        sorted_inputs=ends[tf.newaxis], values=places[tf.newaxis], out_type=tf.int64
    )
    return found[0]


def weighted_rows(
    places: tf.Tensor, coefficients: tf.Tensor, size: tf.Tensor, table: tf.Variable
) -> tf.Tensor:
    """Adds up rows of a table, each times its coefficient.

    No row is copied: a request may have millions of values.

    Args:
      places: int64 [n, 2], row of the sum and row of the table for each value, in any order.
      coefficients: float32 [n], coefficient of each value.
      size: int64 scalar, number of sums.
      table: float32 [V, E], the table.

    Returns:
      float32 [size, E], sums; zeros where there is no value.
    """
    return tf.raw_ops.SparseTensorDenseMatMul(
        a_indices=places,
        a_values=coefficients,
        a_shape=tf.stack([size, tf.constant(table.shape[0], tf.int64)]),
        b=table,
    )
