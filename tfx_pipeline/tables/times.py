"""Converts a column of times as found in a file to seconds since 1970, UTC.

A number's size decides its unit (`tagtower_client.event_times`), Arrow's timestamps and dates have
their own unit, and text is read as a number or as ISO 8601. Each cell is read separately: no format
is guessed from a column.
"""

from __future__ import annotations

import numpy as np
import pyarrow.compute as pc

from tagtower_client.event_times import ISO_8601, seconds_of_numbers, zone_offset
from tfx_pipeline.tables.cells import (
    Numbers,
    as_numbers,
    as_text,
    decode_utf8,
    each_type,
    is_null_cell,
)
from trainer.contract.arrow import pa

# The accepted forms of a time, for messages.
TIMES = "be seconds (or ms, us, ns) since 1970, or ISO 8601 such as 2026-10-22 07:27:04, UTC"

_UNITS_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_SECONDS_PER_DAY = 86_400
# Integers that certainly fit into 64 bits: nanoseconds have 19 digits, too many for a float.
_INTEGER = r"^-?([0-8][0-9]{18}|[0-9]{1,18})$"
_FEW_DIGITS = 18
# The usual forms, whose first 19 characters Arrow parses itself, ten times as fast.
_DATE = "[1-9][0-9]{3}-[0-9]{2}-[0-9]{2}"
_PLAIN = rf"^{_DATE}[T ][0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}}([.,][0-9]+)?(Z|\+00:?00| UTC)?$"
_PLAIN_LENGTH = 19


@each_type
def as_seconds(column: pa.Array) -> Numbers:
    """Converts a column of times to whole seconds since 1970, UTC, rounded down.

    Args:
      column: [n]; numbers and numeric strings are seconds, ms, us or ns by their size; other
        strings are ISO 8601; Arrow timestamps and dates have their unit; a time without a zone is
        UTC. Other values are invalid.

    Returns:
      The seconds, with missing and invalid cells marked.
    """
    kind = column.type
    is_missing = is_null_cell(column)
    if pa.types.is_timestamp(kind) or pa.types.is_date64(kind):
        unit = "ms" if pa.types.is_date64(kind) else kind.unit
        stored = np.asarray(column.cast(pa.int64()).fill_null(0))
        return _known(stored // _UNITS_PER_SECOND[unit], is_missing)
    if pa.types.is_date32(kind):
        days = np.asarray(column.cast(pa.int32()).fill_null(0)).astype(np.int64)
        return _known(days * _SECONDS_PER_DAY, is_missing)
    if pa.types.is_binary(kind):
        column, _ = decode_utf8(column)
        return _seconds_of_texts(column, is_missing)
    if pa.types.is_string(kind):
        return _seconds_of_texts(column, is_missing)
    if pa.types.is_boolean(kind):
        return Numbers(np.full(len(column), np.nan), is_missing, ~is_missing)
    if pa.types.is_integer(kind) or pa.types.is_decimal(kind):
        whole = pc.floor(column) if pa.types.is_decimal(kind) else column
        try:
            seconds = seconds_of_numbers(np.asarray(whole.cast(pa.int64()).fill_null(0)))
        except pa.ArrowInvalid:  # one of them is too large for 64 bits
            return _seconds_of_texts(as_text(whole)[0], is_missing)
    else:
        numbers = as_numbers(column)
        is_missing = numbers.is_missing
        seconds = seconds_of_numbers(numbers.values)
    return Numbers(
        np.where(is_missing, np.nan, seconds), is_missing, np.isnan(seconds) & ~is_missing
    )


def _known(seconds: np.ndarray, is_missing: np.ndarray) -> Numbers:
    values = np.where(is_missing, np.nan, seconds.astype(np.float64))
    return Numbers(values, is_missing, np.zeros(len(values), bool))


def _seconds_of_texts(column: pa.StringArray, is_null: np.ndarray) -> Numbers:
    texts = pc.utf8_trim_whitespace(column.fill_null(""))
    is_missing = is_null | np.asarray(pc.equal(texts, ""), dtype=bool)
    seconds = np.full(len(texts), np.nan)
    rest = np.flatnonzero(~is_missing)
    for read in (_of_integers, _of_plain, _of_iso_8601, _of_other_numbers):
        if len(rest):
            found = texts if len(rest) == len(texts) else texts.take(pa.array(rest))
            seconds[rest] = read(found)
            rest = rest[np.isnan(seconds[rest])]
    return Numbers(seconds, is_missing, np.isnan(seconds) & ~is_missing)


def _of_integers(texts: pa.StringArray) -> np.ndarray:
    is_integer = pc.ascii_is_decimal(texts)  # enough for most columns, faster than the pattern
    if not pc.all(is_integer).as_py() or pc.max(pc.binary_length(texts)).as_py() > _FEW_DIGITS:
        is_integer = pc.match_substring_regex(texts, _INTEGER)
    integers = pc.if_else(is_integer, texts, "0").cast(pa.int64())
    seconds = seconds_of_numbers(np.asarray(integers))
    return np.where(np.asarray(is_integer, dtype=bool), seconds, np.nan)


def _of_other_numbers(texts: pa.StringArray) -> np.ndarray:
    return seconds_of_numbers(as_numbers(texts).values)


def _of_plain(texts: pa.StringArray) -> np.ndarray:
    is_plain = pc.match_substring_regex(texts, _PLAIN)
    times = pc.if_else(is_plain, pc.utf8_slice_codeunits(texts, 0, _PLAIN_LENGTH), "1970-01-01")
    try:
        seconds = np.asarray(times.cast(pa.timestamp("s")).cast(pa.int64()))
    except pa.ArrowInvalid:  # an impossible date, e.g. 2026-02-30, is among them
        return np.full(len(texts), np.nan)
    return np.where(np.asarray(is_plain, dtype=bool), seconds, np.nan)


def _of_iso_8601(texts: pa.StringArray) -> np.ndarray:
    fields = pc.extract_regex(texts, ISO_8601)
    is_time = np.asarray(fields.is_valid(), dtype=bool)

    def field(name: str, default: str = "00") -> np.ndarray:
        column = fields.field(name).fill_null("")
        found = pc.if_else(pc.equal(column, ""), default, column)
        return np.asarray(found.cast(pa.int32())).astype(np.int64)

    year, month, day = field("year", "1970"), field("month", "01"), field("day", "01")
    hour, minute, second = field("hour"), field("minute"), field("second")
    months = (year - 1970) * 12 + month - 1
    first = months.astype("datetime64[M]").astype("datetime64[D]")
    date = first + (day - 1)
    is_time &= (month >= 1) & (month <= 12) & (day >= 1)
    is_time &= date.astype("datetime64[M]").astype(np.int64) == months
    is_time &= (hour <= 23) & (minute <= 59) & (second <= 59)
    seconds = date.astype(np.int64) * _SECONDS_PER_DAY + hour * 3600 + minute * 60 + second
    zones = fields.field("zone").fill_null("").dictionary_encode()
    offsets = np.array([zone_offset(zone) for zone in zones.dictionary.to_pylist()], np.float64)
    return np.where(is_time, seconds - offsets[np.asarray(zones.indices)], np.nan)
