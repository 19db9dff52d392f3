"""The order of strings in the graph: TensorFlow sorts numbers alone.

Strings are compared eight bytes at a time, as whole numbers, and only those that are still equal.
The order of UTF-8's bytes is that of the characters, hence the order in which Python sorts strings.
"""

from typing import NamedTuple

import tensorflow as tf

_WORD = 8  # bytes of an int64


class SortedText(NamedTuple):
    """Strings as positions in their sorted distinct values.

    Attributes:
      codes: int64 [n], position of each string in `values`.
      values: string [num_distinct], ascending.
    """

    codes: tf.Tensor
    values: tf.Tensor


def stable_order(keys: tf.Tensor) -> tf.Tensor:
    """Returns the positions that sort numbers [n], int32 [n]; equal numbers keep their order."""
    return tf.argsort(keys, stable=True)


def sort_text(strings: tf.Tensor) -> SortedText:
    """Encodes strings by their order.

    Args:
      strings: string [n], UTF-8.

    Returns:
      The codes and the distinct strings.
    """
    distinct, index = tf.unique(strings, tf.int64)
    lengths = tf.strings.length(distinct)
    # Zeros stand for what a string lacks, so "a" and "a\0" stay equal: the shorter comes first.
    order = stable_order(lengths)
    distinct, lengths = tf.gather(distinct, order), tf.gather(lengths, order)
    place = tf.math.invert_permutation(order)
    longest = tf.reduce_max(tf.concat([lengths, [0]], 0))

    def has_ties(start: tf.Tensor, ranks: tf.Tensor, tied: tf.Tensor) -> tf.Tensor:
        del ranks
        return (tf.size(tied) > 1) & (start < longest)

    def refine(
        start: tf.Tensor, ranks: tf.Tensor, tied: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        strings, sizes = tf.gather(distinct, tied), tf.gather(lengths, tied)
        order, found, is_tied = _refined(tf.gather(ranks, tied), _words(strings, sizes, start))
        tied = tf.gather(tied, order)
        ranks = tf.tensor_scatter_nd_update(ranks, tied[:, tf.newaxis], found)
        return start + _WORD, ranks, tf.boolean_mask(tied, is_tied)

    count = tf.size(distinct)
    # A rank is the number of strings that are smaller, as far as they have been compared.
    state = (tf.constant(0), tf.zeros([count], tf.int32), tf.range(count))
    open_shape = tf.TensorShape([None])
    _, ranks, _ = tf.while_loop(
        has_ties, refine, state, shape_invariants=(tf.TensorShape([]), open_shape, open_shape)
    )
    order = stable_order(ranks)
    codes = tf.gather(tf.math.invert_permutation(order), tf.gather(place, index))
    return SortedText(tf.cast(codes, tf.int64), tf.gather(distinct, order))


def _words(strings: tf.Tensor, lengths: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
    """Returns eight bytes of each string, int64 [n] in the order of the bytes."""
    part = tf.strings.substr(
        strings, tf.minimum(start, lengths), tf.fill([tf.size(lengths)], _WORD)
    )
    words = tf.io.decode_raw(part, tf.int64, little_endian=False, fixed_length=_WORD)
    # Bytes have no sign: the numbers of those from 0x80 on are the greatest.
    return tf.bitwise.bitwise_xor(words[:, 0], tf.int64.min)


def _refined(ranks: tf.Tensor, words: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Orders strings of equal ranks by their next words.

    Args:
      ranks: int32 [n], ranks of strings, each of which has an equal one.
      words: int64 [n], next words of the strings.

    Returns:
      The order, int32 [n]; in this order the new ranks, int32 [n], and whether each has an equal
      one, bool [n].
    """
    order = stable_order(words)
    order = tf.gather(order, stable_order(tf.gather(ranks, order)))
    ranks, words = tf.gather(ranks, order), tf.gather(words, order)
    is_new_rank = ranks[1:] != ranks[:-1]
    is_new = is_new_rank | (words[1:] != words[:-1])
    found = ranks + _starts(is_new) - _starts(is_new_rank)
    ends = tf.constant([True])
    is_alone = tf.concat([ends, is_new], 0) & tf.concat([is_new, ends], 0)
    return order, found, ~is_alone


def _starts(is_new: tf.Tensor) -> tf.Tensor:
    """Returns where the run of each of n values begins, int32 [n].

    Args:
      is_new: bool [n - 1], whether each value after the first begins a run.
    """
    begins = tf.concat([[True], is_new], 0)
    starts = tf.cast(tf.where(begins)[:, 0], tf.int32)
    return tf.gather(starts, tf.cumsum(tf.cast(begins, tf.int32)) - 1)
