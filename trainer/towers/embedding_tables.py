"""What the rows of an embedding table stand for."""

import dataclasses

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class EmbeddingTable:
    """One table of the user tower.

    Attributes:
      variable: float [rows, size].
      vocabulary: Name of the vocabulary whose ids number the rows
        (`features.profile_vocabulary_name` for profile features); None: its one row belongs to no
        value.
      first_id: Id of the first row; above 0 where other ids have their rows in a shared table.
    """

    variable: tf.Variable
    vocabulary: str | None
    first_id: int = 0
