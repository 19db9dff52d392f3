"""Columns of many examples: lists of strings, stored as codes, and lists of numbers.

They are computed for a block of users at once and written as they are, without a Python object per
value or per example.
"""

import dataclasses
import functools
import json
from typing import Any

import numpy as np
import pyarrow.compute as pc

from tfx_pipeline.examples import wire_format
from trainer.contract.arrow import pa

_ESCAPED_IN_JSON = r'[\x00-\x1f"\\]'


class Texts:
    """Distinct strings and their encodings, each encoded once for many columns."""

    def __init__(self, given: pa.Array | np.ndarray):
        """Initializes with the strings, an array of Arrow or of Python objects, none null."""
        self._given = given

    def __len__(self) -> int:
        return len(self._given)

    @functools.cached_property
    def strings(self) -> pa.Array:
        """The strings as an Arrow array, [n]."""
        if isinstance(self._given, np.ndarray):
            return pa.array(self._given, pa.string())
        return self._given

    @functools.cached_property
    def objects(self) -> np.ndarray:
        """The strings as Python objects, [n]."""
        if isinstance(self._given, np.ndarray):
            return self._given
        return np.array([*self._given.to_pylist(), None], object)[:-1]

    @functools.cached_property
    def wire(self) -> pa.Array:
        """Each string as an entry of a `BytesList`, binary [n]."""
        return wire_format.length_delimited(wire_format.LIST_VALUE, self.strings.cast(pa.binary()))

    @functools.cached_property
    def json(self) -> pa.Array:
        """Each string as JSON, binary [n]."""
        if pc.any(pc.match_substring_regex(self.strings, _ESCAPED_IN_JSON)).as_py():
            texts = [json.dumps(text, ensure_ascii=False) for text in self.strings.to_pylist()]
            return pa.array(texts, pa.string()).cast(pa.binary())
        return wire_format.join([b'"', self.strings.cast(pa.binary()), b'"'])


@dataclasses.dataclass(frozen=True)
class TextColumn:
    """A list of strings for each example.

    Attributes:
      texts: The distinct strings.
      codes: int [num_values], positions in `texts`, list after list.
      offsets: int64 [num_examples + 1], bounds of each example's list in `codes`.
      is_single: Whether each example has exactly one value.
    """

    texts: Texts
    codes: np.ndarray
    offsets: np.ndarray
    is_single: bool = False

    @classmethod
    def single(cls, texts: Texts, codes: np.ndarray) -> "TextColumn":
        """Returns a column with one string for each example."""
        return cls(texts, codes, np.arange(len(codes) + 1), is_single=True)

    def value(self, row: int) -> Any:
        """Returns the value of one example: a list of strings, or a string."""
        found = self.texts.objects[self.codes[self.offsets[row] : self.offsets[row + 1]]].tolist()
        return found[0] if self.is_single else found


@dataclasses.dataclass(frozen=True)
class NumberColumn:
    """A list of numbers for each example.

    Attributes:
      values: float32 or int64 [num_values], the numbers, list after list.
      offsets: int64 [num_examples + 1], bounds of each example's list in `values`.
      is_single: Whether each example has exactly one value.
    """

    values: np.ndarray
    offsets: np.ndarray
    is_single: bool = False

    @classmethod
    def single(cls, values: np.ndarray) -> "NumberColumn":
        """Returns a column with one number for each example."""
        return cls(values, np.arange(len(values) + 1), is_single=True)

    def value(self, row: int) -> Any:
        """Returns the value of one example: a list of numbers, or a number."""
        found = self.values[self.offsets[row] : self.offsets[row + 1]].tolist()
        return found[0] if self.is_single else found


Column = TextColumn | NumberColumn
