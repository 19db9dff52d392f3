"""Converts a column as found in a file into values of one type, and marks the cells without one.

The functions are vectorised over a batch and accept any Arrow type: a number in one file may be a
string in the next, and a caller should not have to know. A union has cells of several types: each
cell is read by its own type, so the result for a cell never depends on its neighbours. Times are in
`times`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow.compute as pc

from tagtower_client.event_times import NUMBER
from tagtower_client.id_text import LARGEST_EXACT_FLOAT, decimal_text
from tfx_pipeline.tables.list_notation import read_lists, split_vectors
from trainer.contract.arrow import pa
from trainer.contract.tag_normalization import TagNormalization

UUID_BYTES = 16
_HEX = np.frombuffer(b"0123456789abcdef", np.uint8)

Read = TypeVar("Read", bound=Callable[..., Any])


class Numbers(NamedTuple):
    """The numbers of a column, and the cells without one.

    Attributes:
      values: float64 [n], NaN where missing or invalid.
      is_missing: bool [n], whether the cell is null, NaN or an empty string.
      is_invalid: bool [n], whether the cell has a value that is no finite number.
    """

    values: np.ndarray
    is_missing: np.ndarray
    is_invalid: np.ndarray


def as_plain(column: pa.Array) -> pa.Array:
    """Unpacks dictionaries, extension types and 64-bit offsets, so that fewer types remain."""
    while True:
        if isinstance(column, pa.ExtensionArray):
            column = column.storage
        elif pa.types.is_dictionary(column.type):
            column = column.dictionary.take(column.indices)
        else:
            break
    kind = column.type
    if pa.types.is_large_string(kind):
        return column.cast(pa.string())
    if pa.types.is_large_binary(kind):
        return column.cast(pa.binary())
    if pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _as_list(column)
    return column


def _as_list(column: pa.Array) -> pa.ListArray:
    """Converts lists of any layout to 32-bit offsets; most types of values have no cast."""
    is_null = is_null_cell(column)
    offsets = np.zeros(len(column) + 1, np.int32)
    np.cumsum(np.asarray(pc.list_value_length(column).fill_null(0)), out=offsets[1:])
    # A null in place of a list's start offset makes the list null.
    starts = pa.array(offsets, mask=np.append(is_null, False))
    return pa.ListArray.from_arrays(starts, column.flatten())


def each_type(read: Read) -> Read:
    """Makes a function of a column accept unions: the cells of each type are read separately.

    Args:
      read: Function from a column [n] to a tuple of Arrow and numpy arrays [n].

    Returns:
      The function, which passes only plain columns to `read`.
    """

    @functools.wraps(read)
    def wrapped(column: pa.Array, **options: Any) -> Any:
        column = as_plain(column)
        if not pa.types.is_union(column.type):
            return read(column, **options)
        codes, offsets = np.asarray(column.type_codes), np.asarray(column.offsets)
        rows, found = [], []
        for code in range(column.type.num_fields):
            rows.append(np.flatnonzero(codes == code))
            child = column.field(code).take(pa.array(offsets[rows[-1]]))
            found.append(wrapped(child, **options))
        back = np.argsort(np.concatenate(rows))
        joined = [_join(parts, back) for parts in zip(*found, strict=True)]
        return Numbers(*joined) if isinstance(found[0], Numbers) else tuple(joined)

    return wrapped  # type: ignore[return-value]


def _join(parts: tuple[Any, ...], order: np.ndarray) -> Any:
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)[order]
    return pa.concat_arrays(parts).take(pa.array(order))


def is_null_cell(column: pa.Array) -> np.ndarray:
    """Returns which cells of a plain column are null, bool [n]."""
    return np.asarray(column.is_null(), dtype=bool)


def _blank(n: int) -> pa.Array:
    return pa.array([""] * n, pa.string())


def decode_utf8(column: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """Decodes binary [n] to string [n] ("" where undecodable); bool [n] marks undecodable cells."""
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
    # pandas writes the integer 25 as 25.0 in a column with gaps: it must become "25" again.
    values = column.to_numpy(zero_copy_only=False)  # nulls become NaN
    texts = np.full(len(values), "", dtype=object)
    is_whole = np.isfinite(values) & (np.floor(values) == values)
    is_whole &= np.abs(values) <= LARGEST_EXACT_FLOAT
    texts[is_whole] = values[is_whole].astype(np.int64).astype(str)
    is_other = ~is_whole & ~np.isnan(values)
    # The shortest text of a value in its own precision: 0.1 is "0.1" in 32 bits too.
    distinct, places = np.unique(values[is_other], return_inverse=True)
    texts[is_other] = np.array([str(value) for value in distinct], dtype=object)[places]
    return pa.array(texts, pa.string())


def _decimal_texts(column: pa.Array) -> pa.Array:
    found = column.dictionary_encode()
    texts = pa.array([decimal_text(value) for value in found.dictionary.to_pylist()], pa.string())
    return texts.take(found.indices)


def _uuid_texts(column: pa.Array) -> pa.Array:
    """Returns fixed-size binary of 16 bytes as hyphenated UUIDs, "" where null."""
    column = column.fill_null(bytes(UUID_BYTES)) if column.null_count else column
    n, first = len(column), column.offset * UUID_BYTES
    data = np.frombuffer(column.buffers()[1], np.uint8)[first : first + n * UUID_BYTES]
    data = data.reshape(n, UUID_BYTES)
    digits = np.stack([_HEX[data >> 4], _HEX[data & 15]], axis=2).reshape(n, 2 * UUID_BYTES)
    texts = np.insert(digits, (8, 12, 16, 20), ord("-"), axis=1)
    offsets = np.arange(n + 1, dtype=np.int32) * texts.shape[1]
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(texts))]
    return pa.Array.from_buffers(pa.string(), n, buffers)


def _time_texts(column: pa.Array) -> pa.Array:
    """Returns times as text in UTC without trailing zeros, the same from any unit."""
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64()).cast(pa.timestamp(column.type.unit))
    texts = pc.replace_substring_regex(column.cast(pa.string()), r"\.0+$", "")
    return pc.replace_substring_regex(texts, r"(\.[0-9]*[1-9])0+$", r"\1")


@each_type
def as_text(column: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """Converts a column of categories to strings.

    Args:
      column: [n] of any type.

    Returns:
      String array [n] without nulls, "" where the value is null or NaN; integers, whole floats and
      decimals in decimal notation without trailing zeros, booleans as `true` and `false`, times in
      UTC, binary of 16 bytes as a UUID; and bool [n], whether the cell is no single value (a list,
      a struct, undecodable bytes, a duration).
    """
    kind = column.type
    nothing_wrong = np.zeros(len(column), bool)
    if pa.types.is_null(kind):
        return _blank(len(column)), nothing_wrong
    if pa.types.is_string(kind):
        try:
            column.validate(full=True)
        except pa.ArrowInvalid:  # a Parquet file may declare bytes as text, and nothing checks it
            column = column.cast(pa.binary())
            kind = column.type
        else:
            return column.fill_null(""), nothing_wrong
    if pa.types.is_binary(kind):
        text, is_bad = decode_utf8(column)
        return text.fill_null(""), is_bad
    if pa.types.is_floating(kind):
        return _float_texts(column), nothing_wrong
    if pa.types.is_decimal(kind):
        return _decimal_texts(column).fill_null(""), nothing_wrong
    if pa.types.is_fixed_size_binary(kind) and kind.byte_width == UUID_BYTES:
        texts = _uuid_texts(column)
        return pc.if_else(column.is_valid(), texts, ""), nothing_wrong
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind) or pa.types.is_time(kind):
        texts = _time_texts(column).fill_null("")
        # Arrow's text for a time outside the range of its calendar.
        is_outside = pc.starts_with(texts, "<value out of range")
        return texts, np.asarray(is_outside, dtype=bool)
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return column.cast(pa.string()).fill_null(""), nothing_wrong
    return _blank(len(column)), ~is_null_cell(column)


@each_type
def as_id(column: pa.Array) -> tuple[pa.Array, np.ndarray, np.ndarray]:
    """Converts a column of identifiers to strings, in the form of `tagtower_client.id_text`.

    Args:
      column: [n] of any type; integers, whole floats and decimals become their decimal string,
        binary of 16 bytes a UUID.

    Returns:
      String array [n] without nulls; bool [n], whether the id is missing (null, NaN, only white
      space); and bool [n], whether the cell cannot be an id (boolean, time, fractional float,
      list).
    """
    kind = column.type
    texts, is_wrong = as_text(column)
    if pa.types.is_boolean(kind) or pa.types.is_temporal(kind):
        is_wrong = ~is_null_cell(column)
    elif pa.types.is_floating(kind):
        is_wrong = np.asarray(pc.match_substring_regex(texts, r"[^0-9\-]"), dtype=bool)
    is_missing = np.asarray(pc.equal(pc.utf8_trim_whitespace(texts), ""), dtype=bool) & ~is_wrong
    return texts, is_missing, is_wrong


@each_type
def as_numbers(column: pa.Array, *, accept_words: bool = False) -> Numbers:
    """Converts a column of numbers to float64.

    Args:
      column: [n] of any type; booleans are 0 and 1, strings are parsed.
      accept_words: Whether the strings true and false (in any case) are read as 1 and 0.

    Returns:
      The numbers, with missing and invalid cells marked.
    """
    kind = column.type
    is_missing = is_null_cell(column)
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
        is_number = pc.match_substring_regex(column.fill_null(""), NUMBER)
        column = pc.if_else(is_number, column, pa.scalar(None, pa.string())).cast(pa.float64())
    elif pa.types.is_boolean(kind):
        column = column.cast(pa.int8())
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        column = pa.nulls(len(column), pa.float64())
    if pa.types.is_float16(kind):  # for which Arrow has no cast
        column = pa.array(column.to_numpy(zero_copy_only=False).astype(np.float64))
    values = np.asarray(column.cast(pa.float64(), safe=False).fill_null(float("nan")))
    if pa.types.is_floating(kind):
        is_missing = np.isnan(values)
    is_finite = np.isfinite(values)
    return Numbers(np.where(is_finite, values, np.nan), is_missing, ~is_finite & ~is_missing)


@each_type
def as_lists(
    column: pa.Array, *, separator: str, normalization: TagNormalization
) -> tuple[pa.ListArray, np.ndarray, np.ndarray]:
    """Converts a column to lists of strings, normalised, without empty and repeated values.

    Args:
      column: [n], lists of strings or numbers, or strings that hold a list.
      separator: Separator between the values of a string, or a notation of `list_notation`.
      normalization: Normalisation of each value before values are compared.

    Returns:
      List array [n] of strings, in the order of first appearance, empty where there is no value;
      bool [n], whether the cell is neither a list nor a string; and bool [n], whether it is a
      string that is no list in the notation.
    """
    num_rows = len(column)
    is_wrong = is_malformed = np.zeros(num_rows, bool)
    if pa.types.is_binary(column.type):
        column, is_wrong = decode_utf8(column)
    if pa.types.is_string(column.type):
        column, is_malformed = read_lists(column, separator)
    if not pa.types.is_list(column.type):
        is_wrong = ~is_null_cell(column)
        column = pa.nulls(num_rows, pa.list_(pa.string()))
    lengths = np.asarray(pc.list_value_length(column).fill_null(0))
    parents = np.repeat(np.arange(num_rows), lengths)
    values, is_wrong_value = as_text(column.flatten())
    is_wrong = is_wrong.copy()
    is_wrong[parents[is_wrong_value]] = True

    # Normalised once for each distinct value: a tag occurs in many rows.
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
    return pa.ListArray.from_arrays(pa.array(offsets), values), is_wrong, is_malformed


@each_type
def as_number_lists(column: pa.Array, *, separator: str) -> tuple[pa.ListArray, np.ndarray]:
    """Converts a column to lists of numbers.

    Args:
      column: [n], lists of numbers or numeric strings, or strings that hold a list.
      separator: Separator between the values of a string without brackets, or a notation of
        `list_notation`.

    Returns:
      List array [n] of float64, NaN where a value is no number, empty where there is no list; and
      bool [n], whether the cell is neither a list nor a string.
    """
    is_wrong = np.zeros(len(column), bool)
    if pa.types.is_binary(column.type):
        column, is_wrong = decode_utf8(column)
    if pa.types.is_string(column.type):
        texts = split_vectors(column, separator)
        is_blank = pc.equal(pc.utf8_trim_whitespace(column.fill_null("")), "")
        column = pc.if_else(is_blank, pa.scalar([], texts.type), texts)
    if not pa.types.is_list(column.type):
        is_wrong = ~is_null_cell(column)
        column = pa.nulls(len(column), pa.list_(pa.string()))
    offsets = np.zeros(len(column) + 1, np.int32)
    np.cumsum(np.asarray(pc.list_value_length(column).fill_null(0)), out=offsets[1:])
    numbers = as_numbers(column.flatten()).values
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(numbers)), is_wrong
