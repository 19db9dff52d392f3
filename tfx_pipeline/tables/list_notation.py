"""Notations of a list of values in one text: with a separator, in JSON, or as Python prints it.

The configuration names the notation (`data.list_separator`), and nothing is guessed here;
`undeclared_lists` checks how texts look where no notation is declared.
"""

from __future__ import annotations

import ast
import json
import math
import re
from typing import Any

import numpy as np
import pyarrow.compute as pc

from tagtower_client.id_text import LARGEST_EXACT_FLOAT
from trainer.contract.arrow import pa

# Words that name a notation in place of a separator.
JSON = "json"
PYTHON = "python"

# numpy prints blanks between the values, Python prints commas.
_PYTHON_VALUE = re.compile(
    r"""([bu]?'(?:[^'\\]|\\.)*'|[bu]?"(?:[^"\\]|\\.)*"|[^\s,'"#()\[\]{}]+)(\s*,\s*|\s+|$)""",
    re.DOTALL,
)
_PYTHON_BRACKETS = {"[": "]", "(": ")", "{": "}"}
_MISSING = ("None", "nan", "NaN", "<NA>")


def parse_list(text: str, notation: str) -> list[str | None] | None:
    """Parses a list in JSON or as Python prints it.

    Args:
      text: Text of the cell; blank or `null`: no value.
      notation: `JSON` or `PYTHON` (lists, tuples, sets and numpy's arrays).

    Returns:
      The values as strings, None where one is missing: numbers in decimal, whole ones without a
      fraction, booleans as `true` and `false`. None: the text is no list of single values in the
      notation.
    """
    text = text.strip()
    if not text:
        return []
    try:
        values = _json_values(text) if notation == JSON else _python_values(text)
        return [_as_text(value) for value in values]
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None


def read_lists(texts: pa.StringArray, notation: str) -> tuple[pa.ListArray, np.ndarray]:
    """Reads a column of texts as lists of strings.

    Args:
      texts: string [n], texts that hold lists.
      notation: `JSON`, `PYTHON`, or the separator between the values.

    Returns:
      Lists of strings [n]; and bool [n], whether a text is no list in the notation.
    """
    if notation not in (JSON, PYTHON):
        return pc.split_pattern(texts, notation), np.zeros(len(texts), bool)
    # Parsed once for each distinct text.
    found = texts.dictionary_encode()
    lists = [parse_list(text, notation) for text in found.dictionary.to_pylist()]
    is_bad = pa.array([values is None for values in lists], pa.bool_())
    is_malformed = np.asarray(is_bad.take(found.indices).fill_null(False), dtype=bool)
    read = pa.array([values or [] for values in lists], pa.list_(pa.string()))
    return read.take(found.indices), is_malformed


def split_vectors(texts: pa.StringArray, notation: str) -> pa.ListArray:
    """Reads a column of texts as lists of numbers, which are still strings.

    No number begins with a bracket, so a text that does is a list in the notation of JSON, Python
    or numpy, whatever separates the tags of an item.

    Args:
      texts: string [n], texts that hold lists.
      notation: Notation of texts without brackets.

    Returns:
      Lists of strings [n]. A text that is no list becomes a list of itself, which is no number.
    """
    has_brackets = pc.any(pc.match_substring_regex(texts, r"^\s*[\[(]")).as_py()
    if notation not in (JSON, PYTHON) and not has_brackets:
        return pc.split_pattern(texts, notation)
    lists: list[list[str | None] | None] = []
    for text in texts.to_pylist():
        if text is None:
            lists.append(None)
            continue
        is_bracketed = text.lstrip().startswith(("[", "("))
        values = _split(text, PYTHON if is_bracketed else notation)
        lists.append([text] if values is None else values)
    return pa.array(lists, pa.list_(pa.string()))


def _split(text: str, notation: str) -> list[str | None] | None:
    return parse_list(text, notation) if notation in (JSON, PYTHON) else [*text.split(notation)]


def _json_values(text: str) -> list[Any]:
    values = json.loads(text, parse_constant=_json_constant)
    if values is None:
        return []
    if not isinstance(values, list):
        raise ValueError(text)
    return values


def _json_constant(name: str) -> None:
    if name != "NaN":  # pandas writes a missing value as NaN
        raise ValueError(name)


def _python_values(text: str) -> list[Any]:
    if text in (*_MISSING, "set()"):
        return []
    if len(text) < 2 or _PYTHON_BRACKETS.get(text[0]) != text[-1]:
        raise ValueError(text)
    body, position, values = text[1:-1].strip(), 0, []
    while position < len(body):
        # Not one `literal_eval` of the whole text: Python reads numpy's ['a' 'b'] as the one text
        # "ab".
        found = _PYTHON_VALUE.match(body, position)
        if found is None:
            raise ValueError(text)
        values.append(None if found[1] in _MISSING else ast.literal_eval(found[1]))
        position = found.end()
    return values


def _as_text(value: Any) -> str | None:
    if isinstance(value, bytes):
        value = value.decode("utf-8")
    if isinstance(value, str):
        value.encode("utf-8")  # half a surrogate pair cannot be encoded
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(value)
    if isinstance(value, float) and value.is_integer() and abs(value) <= LARGEST_EXACT_FLOAT:
        return str(int(value))
    if value is None or isinstance(value, int | float):
        return None if value is None else str(value)
    raise ValueError(value)
