"""The form of the table of signatures: what a row says of a tensor and of a signature.

The rows are in `tagtower_client.signature_table`. No TensorFlow is imported: the client, which
does without it, reads them as well.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Collection, Iterator, Mapping

# What a dimension is whose name stands in a shape; a dimension that is a number has this size.
DIMENSIONS = {
    "batch": "the users of a request",
    "k": "`index.k`, or the number of tags where that is smaller",
    "N": "`ranking.num_candidates`, or the number of tags where that is smaller",
    "d": "the dimension of the vectors of users and tags",
    "v": "the dimension of the vectors of `data.tag_vectors`",
    "num_tags": "the tags of the version",
    "n": "any number: the longest list of the request",
    "m": "any number: the most tags or items that the request names for a user",
    "c": "any number: the most categories that the request names for a user",
    "e": "any number: the most events of a user in the request",
    "t": "any number: the most tags of an event in the request",
    "events": "the events of all users of a request, one user after the other",
    "values": "the tags of all these events, one event after the other",
    "F": "the profile features and domains of the model",
}

# What a model must have for a tensor or a signature to exist.
WITH_CLICK_LOSS = "with a click loss"
WITH_MEMORY = "with memory"
WITH_TAG_VIEWS = "with views of the tags"
WITH_VECTOR_VIEW = "with the view `vectors`"
WITH_DOMAINS = "with domains"
WITH_CATEGORIES = "with a domain of categories"
WITH_EVENT_WEIGHTS = "with a domain of `weighting: recency`"


class Export(enum.Enum):
    """A SavedModel that has signatures."""

    TOWERS = "towers"
    SERVABLE = "servable"


class Kind(enum.Enum):
    """How many tensors a row stands for."""

    ONE = "one"
    EACH_FEATURE = "one for each raw feature, by its name and with its type"
    EACH_PROFILE = "one for each profile feature, by its name and with its type"
    EACH_LIST = "one for each list of the users: each domain, and each profile feature that is one"


@dataclasses.dataclass(frozen=True)
class TensorRow:
    """A tensor of a signature, or a group of tensors that depends on the model's features.

    Attributes:
      name: Name for callers; in a row for each list, `<domain>` stands for the list's name.
      dtype: `string`, `float32`, `float64`, `int32`, `int64` or `bool`; `""` for each feature.
      shape: Names of `DIMENSIONS`, or sizes; empty for each feature.
      meaning: What its values are.
      kind: How many tensors the row stands for.
      only: What the model must have for the tensor to exist, `WITH_...`; `""`: nothing.
      is_new: Whether callers read the answers of older versions, which lack the tensor.
    """

    name: str
    dtype: str
    shape: tuple[str, ...]
    meaning: str
    kind: Kind = Kind.ONE
    only: str = ""
    is_new: bool = False

    def name_of(self, listed: str) -> str:
        """Returns the name of the tensor for a list of the users, in a row for each list.

        Args:
          listed: Name of the domain or of the profile feature.
        """
        return self.name.replace("<domain>", listed)

    def sizes(self, sizes: Mapping[str, int]) -> list[int | None]:
        """Returns the shape as numbers.

        Args:
          sizes: Sizes of the dimensions that a model fixes, by name.

        Returns:
          The size of each dimension; None: any.
        """
        return [int(name) if name.isdigit() else sizes.get(name) for name in self.shape]


@dataclasses.dataclass(frozen=True)
class SignatureRow:
    """A signature of one export, or of both where they have the same.

    Attributes:
      name: Name for callers.
      exports: SavedModels that have it.
      meaning: What it answers.
      inputs: Its inputs, in the order in which they are given.
      outputs: Its outputs.
      only: What the model must have for the signature to exist, `WITH_...`; `""`: nothing.
    """

    name: str
    exports: tuple[Export, ...]
    meaning: str
    inputs: tuple[TensorRow, ...]
    outputs: tuple[TensorRow, ...]
    only: str = ""

    @property
    def own_inputs(self) -> tuple[TensorRow, ...]:
        """Returns the inputs that do not depend on the model's features."""
        return tuple(row for row in self.inputs if row.kind is Kind.ONE)


def present(rows: Collection[TensorRow], properties: Collection[str]) -> Iterator[TensorRow]:
    """Yields the rows that a model has.

    Args:
      rows: Inputs or outputs of a signature.
      properties: What the model has, `WITH_...`.

    Yields:
      Rows without a condition, and those whose condition the model meets.
    """
    return (row for row in rows if not row.only or row.only in properties)
