"""The candidates of the first stage, which the second stage ranks."""

import dataclasses

import tensorflow as tf

from serving.servable.tag_memory import History


@dataclasses.dataclass(frozen=True)
class Candidates:
    """The candidates of the first stage, best first.

    Attributes:
      rows: int32 [batch, N], rows in the tag tables; 0 where nothing was found.
      is_found: bool [batch, N], whether a place holds a candidate; an approximate index may find
        fewer than N.
      logits: float32 [batch, N], exact multi-class logits; -inf where nothing was found.
      log_normalizer: float32 [batch, 1], logarithm of the sum of the logits' exponentials; with
        memory and a separate ranking score [batch, 2], the second one of the ranking score.
    """

    rows: tf.Tensor
    is_found: tf.Tensor
    logits: tf.Tensor
    log_normalizer: tf.Tensor


def columns(parts: Candidates | History) -> tuple[tf.Tensor, ...]:
    """Returns the tensors of candidates or of a history, in order of the attributes."""
    return tuple(getattr(parts, field.name) for field in dataclasses.fields(parts))
