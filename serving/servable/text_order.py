"""The order of strings in the graph: TensorFlow sorts numbers alone.

Strings are compared eight bytes at a time, as whole numbers, and only while some are still equal.
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
    count, longest = tf.size(distinct), tf.reduce_max(tf.concat([lengths, [0]], 0))

    def is_open(start: tf.Tensor, ranks: tf.Tensor, num_ranks: tf.Tensor) -> tf.Tensor:
        del ranks
        return (num_ranks < count) & (start < longest)

    def refine(
        start: tf.Tensor, ranks: tf.Tensor, num_ranks: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        del num_ranks
        ranks, last = _refined(ranks, _words(distinct, lengths, start))
        return start + _WORD, ranks, last + 1

    ranks = tf.zeros([count], tf.int32)
    start = tf.constant(0)
    _, ranks, _ = tf.while_loop(is_open, refine, (start, ranks, tf.minimum(count, 1)))
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


def _refined(ranks: tf.Tensor, words: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the ranks by (rank, word), int32 [n], and the greatest of them."""
    order = stable_order(words)
    order = tf.gather(order, stable_order(tf.gather(ranks, order)))
    ranks, words = tf.gather(ranks, order), tf.gather(words, order)
    is_new = (ranks[1:] != ranks[:-1]) | (words[1:] != words[:-1])
    found = tf.concat([[0], tf.cumsum(tf.cast(is_new, tf.int32))], 0)
    return tf.gather(found, tf.math.invert_permutation(order)), found[-1]
