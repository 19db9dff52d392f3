"""Columns of many examples: lists of strings, by their codes, and lists of numbers.

They are what is computed of a block of users at once, and are written as they are: no object for a
value, nor for an example.
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
    """Distinct strings, and what they are written as; made once for many columns."""

    def __init__(self, given: pa.Array | np.ndarray):
        """Initializes with the strings, none null, of Arrow or of Python."""
        self._given = given

    def __len__(self) -> int:
        return len(self._given)

    @functools.cached_property
    def strings(self) -> pa.Array:
        """Arrow's strings, [n]."""
        if isinstance(self._given, np.ndarray):
            return pa.array(self._given, pa.string())
        return self._given

    @functools.cached_property
    def objects(self) -> np.ndarray:
        """Python's strings, [n]."""
        if isinstance(self._given, np.ndarray):
            return self._given
        return np.array([*self._given.to_pylist(), None], object)[:-1]

    @functools.cached_property
    def wire(self) -> pa.Array:
        """Each as an entry of a `BytesList`, binary [n]."""
        return wire_format.length_delimited(wire_format.LIST_VALUE, self.strings.cast(pa.binary()))

    @functools.cached_property
    def json(self) -> pa.Array:
        """Each as JSON, binary [n]."""
        if pc.any(pc.match_substring_regex(self.strings, _ESCAPED_IN_JSON)).as_py():
            texts = [json.dumps(text, ensure_ascii=False) for text in self.strings.to_pylist()]
            return pa.array(texts, pa.string()).cast(pa.binary())
        return wire_format.join([b'"', self.strings.cast(pa.binary()), b'"'])


@dataclasses.dataclass(frozen=True)
class TextColumn:
    """A list of strings for each example.

    Attributes:
      texts: The distinct strings.
      codes: int [num_values], positions in `texts`, the lists one after the other.
      offsets: int64 [num_examples + 1].
      is_single: Whether each example has exactly one.
    """

    texts: Texts
    codes: np.ndarray
    offsets: np.ndarray
    is_single: bool = False

    @classmethod
    def single(cls, texts: Texts, codes: np.ndarray) -> "TextColumn":
        """One string for each example."""
        return cls(texts, codes, np.arange(len(codes) + 1), is_single=True)

    def value(self, row: int) -> Any:
        """What one example has: a list of strings, or a string."""
        found = self.texts.objects[self.codes[self.offsets[row] : self.offsets[row + 1]]].tolist()
        return found[0] if self.is_single else found


@dataclasses.dataclass(frozen=True)
class NumberColumn:
    """A list of numbers for each example.

    Attributes:
      values: float32 or int64 [num_values], the lists one after the other.
      offsets: int64 [num_examples + 1].
      is_single: Whether each example has exactly one.
    """

    values: np.ndarray
    offsets: np.ndarray
    is_single: bool = False

    @classmethod
    def single(cls, values: np.ndarray) -> "NumberColumn":
        """One number for each example."""
        return cls(values, np.arange(len(values) + 1), is_single=True)

    def value(self, row: int) -> Any:
        """What one example has: a list of numbers, or a number."""
        found = self.values[self.offsets[row] : self.offsets[row + 1]].tolist()
        return found[0] if self.is_single else found


Column = TextColumn | NumberColumn
