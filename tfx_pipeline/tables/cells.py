"""One column as found in a file -> values of one type, and which cells have no such value.

Vectorised over a batch. Every function takes any Arrow type: what was a number in one file may be
a string in the next, and the caller should not have to know.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from trainer.tag_normalization import TagNormalization

# Bounded digits and exponent, so that every match has a finite value.
_NUMBER = r"^-?([0-9]{1,40}(\.[0-9]{0,40})?|\.[0-9]{1,40})([eE][+-]?[0-9]{1,2})?$"
_UNITS_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_SECONDS_PER_DAY = 86_400
_LARGEST_EXACT_FLOAT = 2.0**53


@dataclasses.dataclass(frozen=True)
class Numbers:
    """A column of numbers.

    Attributes:
      values: float64 [n], NaN where missing or invalid.
      is_missing: bool [n], null, NaN or an empty string.
      is_invalid: bool [n], something that is no finite number.
    """

    values: np.ndarray
    is_missing: np.ndarray
    is_invalid: np.ndarray


def as_plain(column: pa.Array) -> pa.Array:
    """Unpacks dictionaries, extension types and 64-bit offsets, so that fewer types remain."""
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_large_string(column.type):
        column = column.cast(pa.string())
    if pa.types.is_large_binary(column.type):
        column = column.cast(pa.binary())
    if pa.types.is_large_list(column.type):
        column = column.cast(pa.list_(column.type.value_type))
    return column


def _is_null(column: pa.Array) -> np.ndarray:
    return np.asarray(column.is_null(), dtype=bool)


def _blank(n: int) -> pa.Array:
    return pa.array([""] * n, pa.string())


def decode_utf8(column: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """Binary [n] -> string [n] ("" where undecodable), and bool [n] where it was undecodable."""
    try:
        return column.cast(pa.string()), np.zeros(len(column), bool)
    except pa.ArrowInvalid:
        texts: list[str | None] = []
        is_bad = np.zeros(len(column), bool)
        for i, cell in enumerate(column.to_pylist()):
            try:
                texts.append(None if cell is None else cell.decode("utf-8"))
            except UnicodeDecodeError:
                texts.append("")
                is_bad[i] = True
        return pa.array(texts, pa.string()), is_bad


def _float_texts(column: pa.Array) -> pa.Array:
    # 25.0 is how pandas writes the integer 25 in a column with gaps: it must be "25" again.
    values = np.asarray(column.fill_null(float("nan")).cast(pa.float64()))
    texts = np.full(len(values), "", dtype=object)
    is_whole = np.isfinite(values) & (np.floor(values) == values)
    is_whole &= np.abs(values) <= _LARGEST_EXACT_FLOAT
    texts[is_whole] = values[is_whole].astype(np.int64).astype(str)
    for i in np.flatnonzero(~is_whole & ~np.isnan(values)):
        texts[i] = repr(float(values[i]))
    return pa.array(texts, pa.string())


def as_text(column: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """A column of categories as strings.

    Args:
      column: [n] of any type.

    Returns:
      String array [n] without nulls, "" where the value is null or NaN; integers and whole floats
      in decimal, booleans as `true` and `false`; and bool [n], True where the cell is no single
      value (a list, a struct, undecodable bytes).
    """
    column = as_plain(column)
    kind = column.type
    nothing_wrong = np.zeros(len(column), bool)
    if pa.types.is_null(kind):
        return _blank(len(column)), nothing_wrong
    if pa.types.is_string(kind):
        return column.fill_null(""), nothing_wrong
    if pa.types.is_binary(kind):
        text, is_bad = decode_utf8(column)
        return text.fill_null(""), is_bad
    if pa.types.is_floating(kind):
        return _float_texts(column), nothing_wrong
    if pa.types.is_nested(kind):
        return _blank(len(column)), ~_is_null(column)
    return column.cast(pa.string()).fill_null(""), nothing_wrong


def as_id(column: pa.Array) -> tuple[pa.Array, np.ndarray, np.ndarray]:
    """A column of identifiers as strings.

    Args:
      column: [n] of any type; integers (and whole floats) become their decimal string.

    Returns:
      String array [n] without nulls; bool [n] where the id is missing (null, NaN, only white
      space); bool [n] where it cannot be an id (boolean, time, fraction, list).
    """
    column = as_plain(column)
    kind = column.type
    texts, is_wrong = as_text(column)
    if pa.types.is_boolean(kind) or pa.types.is_temporal(kind):
        is_wrong = ~_is_null(column)
    elif pa.types.is_floating(kind):
        is_wrong = np.asarray(pc.match_substring_regex(texts, r"[^0-9\-]"), dtype=bool)
    is_missing = np.asarray(pc.equal(pc.utf8_trim_whitespace(texts), ""), dtype=bool) & ~is_wrong
    return texts, is_missing, is_wrong


def as_numbers(column: pa.Array, *, accept_words: bool = False) -> Numbers:
    """A column of numbers as float64.

    Args:
      column: [n] of any type; booleans are 0 and 1, strings are parsed.
      accept_words: take the strings true and false (any case) for 1 and 0.

    Returns:
      The numbers.
    """
    column = as_plain(column)
    kind = column.type
    is_missing = _is_null(column)
    if pa.types.is_null(kind):
        return Numbers(np.full(len(column), np.nan), is_missing, np.zeros(len(column), bool))
    if pa.types.is_binary(kind):
        column, _ = decode_utf8(column)
        kind = column.type
    if pa.types.is_string(kind):
        column = pc.utf8_trim_whitespace(column)
        if accept_words:
            column = pc.replace_substring_regex(column, r"(?i)^true$", "1")
            column = pc.replace_substring_regex(column, r"(?i)^false$", "0")
        is_missing = np.asarray(pc.equal(column.fill_null(""), ""), dtype=bool)
        is_number = pc.match_substring_regex(column.fill_null(""), _NUMBER)
        column = pc.if_else(is_number, column, pa.scalar(None, pa.string())).cast(pa.float64())
    elif pa.types.is_boolean(kind):
        column = column.cast(pa.int8())
    elif pa.types.is_nested(kind) or pa.types.is_temporal(kind):
        column = pa.nulls(len(column), pa.float64())
    values = np.asarray(column.cast(pa.float64(), safe=False).fill_null(float("nan")))
    if pa.types.is_floating(kind):
        is_missing = np.isnan(values)
    is_finite = np.isfinite(values)
    return Numbers(np.where(is_finite, values, np.nan), is_missing, ~is_finite & ~is_missing)


def as_seconds(column: pa.Array) -> Numbers:
    """A column of times as seconds since 1970, UTC, whole seconds (rounded down).

    Args:
      column: [n]; numbers and numeric strings are seconds; Arrow timestamps and dates carry their
        unit (one without a zone is UTC). A boolean is no time, and neither is any other string.

    Returns:
      The seconds.
    """
    column = as_plain(column)
    kind = column.type
    is_missing = _is_null(column)
    if pa.types.is_timestamp(kind) or pa.types.is_date32(kind):
        if pa.types.is_date32(kind):
            days = np.asarray(column.cast(pa.int32()).fill_null(0)).astype(np.int64)
            seconds = days * _SECONDS_PER_DAY
        else:
            stored = np.asarray(column.cast(pa.int64()).fill_null(0))
            seconds = stored // _UNITS_PER_SECOND[kind.unit]
        values = np.where(is_missing, np.nan, seconds.astype(np.float64))
        return Numbers(values, is_missing, np.zeros(len(column), bool))
    if pa.types.is_boolean(kind):
        return Numbers(np.full(len(column), np.nan), is_missing, ~is_missing)
    numbers = as_numbers(column)
    return dataclasses.replace(numbers, values=np.floor(numbers.values))


def as_lists(
    column: pa.Array, *, separator: str, normalization: TagNormalization
) -> tuple[pa.ListArray, np.ndarray]:
    """A column of lists of strings, normalised, without empty and repeated values.

    Args:
      column: [n]; lists of strings or numbers, or strings that hold a list.
      separator: what stands between the values of a string.
      normalization: applied to each value before it is compared.

    Returns:
      List array [n] of strings, in the order of first appearance, empty where there is no value;
      and bool [n], True where the cell is neither a list nor a string.
    """
    column = as_plain(column)
    num_rows = len(column)
    is_wrong = np.zeros(num_rows, bool)
    if pa.types.is_binary(column.type):
        column, is_wrong = decode_utf8(column)
    if pa.types.is_string(column.type):
        column = pc.split_pattern(column, separator)
    if not pa.types.is_list(column.type):
        is_wrong = ~_is_null(column)
        column = pa.nulls(num_rows, pa.list_(pa.string()))
    lengths = np.asarray(pc.list_value_length(column).fill_null(0))
    parents = np.repeat(np.arange(num_rows), lengths)
    values, is_wrong_value = as_text(column.flatten())
    is_wrong[parents[is_wrong_value]] = True

    # Once for each distinct value: a tag stands in many rows.
    found = values.dictionary_encode()
    normalized = pa.array(normalization.apply(found.dictionary.to_pylist()), pa.string())
    values = normalized.take(found.indices)
    keep = np.asarray(pc.not_equal(values, ""), dtype=bool) & ~is_wrong[parents]
    values, parents = values.filter(pa.array(keep)), parents[keep]
    if len(values):
        encoded = values.dictionary_encode()
        codes = np.asarray(encoded.indices).astype(np.int64)
        _, first = np.unique(parents * len(encoded.dictionary) + codes, return_index=True)
        first.sort()
        values, parents = values.take(pa.array(first)), parents[first]
    offsets = np.zeros(num_rows + 1, np.int32)
    np.cumsum(np.bincount(parents, minlength=num_rows), out=offsets[1:])
    return pa.ListArray.from_arrays(pa.array(offsets), values), is_wrong
