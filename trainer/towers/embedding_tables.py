"""Describes an embedding table by the vocabulary that its rows stand for."""

import dataclasses

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class EmbeddingTable:
    """One embedding table of the user tower.

    Attributes:
      variable: float [rows, size], the table.
      vocabulary: Name of the vocabulary whose ids number the rows
        (`features.profile_vocabulary_name` for profile features); None: the table's one row belongs
        to no value.
      first_id: Id of the first row; above 0 if smaller ids have their rows in a shared table.
    """

    variable: tf.Variable
    vocabulary: str | None
    first_id: int = 0
