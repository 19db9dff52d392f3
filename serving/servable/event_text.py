"""Texts of events as the tables have them: line breaks removed, tags normalised, in the graph.

The same as `tagtower_client.line_breaks` and `trainer.contract.tag_normalization`, but for one
step: TensorFlow has no operation that composes letters and accents (Unicode's form NFC), so a
caller sends composed text.
"""

import tensorflow as tf

from trainer.contract.tag_normalization import TagNormalization

# What Python's `str.strip` removes; TensorFlow's `strip` knows the blanks of ASCII alone.
_BLANKS = (
    r"\x{09}-\x{0d}\x{1c}-\x{20}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}"
    r"\x{205f}\x{3000}"
)
_ENDS = f"^[{_BLANKS}]+|[{_BLANKS}]+$"


def one_line(text: tf.Tensor) -> tf.Tensor:
    """Removes line breaks at the ends of strings and replaces others by one blank each."""
    return tf.strings.regex_replace(
        tf.strings.regex_replace(text, "^[\r\n]+|[\r\n]+$", ""), "[\r\n]+", " "
    )


def stripped(text: tf.Tensor) -> tf.Tensor:
    """Removes white space at both ends of strings, as Python's `str.strip` does."""
    return tf.strings.regex_replace(text, _ENDS, "")


def normalized_tags(tags: tf.Tensor, normalization: TagNormalization) -> tf.Tensor:
    """Normalises composed tags as `TagNormalization.apply` does.

    Args:
      tags: string, of any shape.
      normalization: Normalisation of the version's tags.

    Returns:
      Strings of the same shape; a result may be empty.
    """
    tags = one_line(tags)
    if normalization.trim:
        tags = stripped(tags)
    if normalization.lowercase:
        # ASCII first, by itself: the other step follows the locale of the server's process, and a
        # Turkish one turns I into a dotless i.
        tags = tf.strings.lower(tf.strings.lower(tags), encoding="utf-8")
    return tags
