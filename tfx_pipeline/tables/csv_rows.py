"""Reads CSV as Arrow batches of strings; a faulty row is rejected, not the whole file."""

from __future__ import annotations

import codecs
import csv
import ctypes
import json
import re
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import pyarrow.csv

from tfx_pipeline.tables import schema
from tfx_pipeline.tables.cells import decode_utf8
from tfx_pipeline.tables.csv_quotes import WatchedCsv, first_record
from tfx_pipeline.tables.read_limits import ReadLimits, has_text
from tfx_pipeline.tables.row_batches import FileBatch, rejected_rows
from tfx_pipeline.tables.unreadable import first_line
from trainer.contract.arrow import pa

# The parser counts the header as row 1.
_UNDECODABLE_ROW = re.compile(r"CSV parse error: Row #(\d+): Expected \d+ columns")
# Longest wait for a thread that reads ahead, however slow the store is.
_LAST_READ_S = 30.0
_CONVERT = "Convert it, as by `iconv -f UTF-16 -t UTF-8`."


def block_bytes(limits: ReadLimits) -> int:
    """Returns the bytes of a block that Arrow parses at once, within which a row must end."""
    return limits.row_bytes


class HeaderError(ValueError):
    """A fault of a header, in words that follow the file's name."""


def read_header(stream: BinaryIO, limits: ReadLimits) -> tuple[list[str], bool]:
    """Reads the header of a CSV file.

    Args:
      stream: Stream at the start of the file.
      limits: Limits on the length of a row.

    Returns:
      The column names, [] for an empty file; and whether a row follows them.

    Raises:
      HeaderError: The header cannot be read; the message follows the file's name.
    """
    text = stream.read(block_bytes(limits))
    if text.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise HeaderError(f"must be UTF-8 text. Received: UTF-16. {_CONVERT}")
    try:
        record, rest = first_record(text.removeprefix(codecs.BOM_UTF8))
    except ValueError as error:
        raise HeaderError(*error.args) from error
    if b"\0" in record:
        raise HeaderError(
            f"must be UTF-8 text. Received: a header with NUL bytes, as UTF-16 has them. {_CONVERT}"
        )
    if rest.startswith(b"\r") and len(rest) > 1 and not rest.startswith(b"\r\n"):
        raise HeaderError(
            "must end its lines with a line feed. Received: a header that ends with a carriage "
            "return alone. Convert it, as by `tr '\\r' '\\n'`."
        )
    try:
        header = next(csv.reader([record.decode("utf-8")]), [])
    except UnicodeDecodeError as error:
        raise HeaderError(f"must be UTF-8 text. Its header is not: {error}.") from error
    except csv.Error as error:
        raise HeaderError(f"must have column names in its first line ({error}).") from error
    has_rows = bool(rest.strip()) or has_text(stream)
    return header, has_rows


class _SkippedRows:
    """Collects the rows that the parser reports as malformed."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.texts: list[str] = []
        self.num_taken = 0

    def __call__(self, row: pyarrow.csv.InvalidRow) -> str:
        self.numbers.append(row.number - 1)  # The parser counts the header as row 1.
        self.texts.append(row.text)
        return "skip"

    def take_new(self) -> tuple[list[int], list[str]]:
        """The numbers and texts of those since the last call."""
        new = slice(self.num_taken, len(self.numbers))
        self.num_taken = new.stop
        return self.numbers[new], self.texts[new]


def _number_rows(num_good: int, num_rows: int, skipped: np.ndarray) -> np.ndarray:
    """Returns file row numbers of the valid rows after the first `num_good`, int64 [num_rows]."""
    # The j-th skipped row (from 0) has `skipped[j] - 1 - j` valid rows before it.
    num_before = skipped - 1 - np.arange(len(skipped))
    ranks = np.arange(num_good, num_good + num_rows)
    return ranks + 1 + np.searchsorted(num_before, ranks, side="right")


def read_csv(
    stream: BinaryIO,
    columns: list[str],
    *,
    table: str,
    file: str,
    batch_rows: int,
    limits: ReadLimits,
) -> Iterator[FileBatch]:
    """Reads columns of a CSV file as strings.

    A row with another number of columns than the header, or with undecodable bytes (not UTF-8) in
    the columns that are read, is rejected with the reason `malformed_row`.

    Args:
      stream: Stream at the start of the file.
      columns: Names of the columns to read.
      table: Name of the table.
      file: Path of the file, for messages.
      batch_rows: Largest number of rows in a batch.
      limits: Limits on the length of a row.

    Yields:
      Batches with the columns as strings.

    Raises:
      ValueError: A quote is not closed, or a row is too long.
    """
    # No row may be longer than a block.
    watched = WatchedCsv(stream, limits.row_bytes)
    skipped = _SkippedRows()
    num_good = 0
    reader = None
    try:
        reader = _open_csv(watched, columns, skipped, limits)
        for block in reader:
            _check(watched, file, limits)
            for start in range(0, max(block.num_rows, 1), batch_rows):
                part = block.slice(start, batch_rows)
                numbers = _number_rows(num_good, part.num_rows, np.array(skipped.numbers, np.int64))
                num_good += part.num_rows
                yield _file_batch(part, numbers, table, file, *skipped.take_new())
        _check(watched, file, limits)
        last_numbers, last_texts = skipped.take_new()
        if last_numbers:
            empty = pa.RecordBatch.from_arrays(
                [pa.array([], pa.binary()) for _ in columns], names=columns
            )
            none = np.zeros(0, np.int64)
            yield _file_batch(empty, none, table, file, last_numbers, last_texts)
    except pa.ArrowInvalid as error:
        _check(watched, file, limits)
        # Text that fills a block without ending a row is most likely after an open quote.
        _check_quotes(watched.watch.opened_in, file)
        raise _unparsable(error, file, num_good + skipped.num_taken + 1, limits) from error
    finally:
        watched.stop()
        if reader is not None:
            _bring_to_its_end(reader, watched)


def _open_csv(
    watched: WatchedCsv, columns: list[str], skipped: _SkippedRows, limits: ReadLimits
) -> pyarrow.csv.CSVStreamingReader:
    return pyarrow.csv.open_csv(
        watched,
        read_options=pyarrow.csv.ReadOptions(use_threads=False, block_size=block_bytes(limits)),
        parse_options=pyarrow.csv.ParseOptions(
            newlines_in_values=True, invalid_row_handler=skipped
        ),
        # Bytes rather than strings: one undecodable cell must not fail the file.
        convert_options=pyarrow.csv.ConvertOptions(
            include_columns=columns,
            column_types={name: pa.binary() for name in columns},
        ),
    )


def _unparsable(error: pa.ArrowInvalid, file: str, row: int, limits: ReadLimits) -> ValueError:
    """What Arrow's error says of a file, in our words; `row` is near where it was read."""
    if found := _UNDECODABLE_ROW.search(str(error)):
        # Arrow makes a text of a row before it asks what is to become of it.
        return ValueError(
            f"{file} must have one value for each column, in UTF-8. Received: row "
            f"{int(found[1]) - 1}, which has more or fewer values, and bytes that are not UTF-8. "
            "Mend the row."
        )
    return ValueError(
        f"{file} cannot be read as CSV near row {row}: "
        f"{first_line(error)} "
        f"No row may be longer than {limits.row_bytes >> 20} MB: write the table as Parquet."
    )


def _bring_to_its_end(reader: pyarrow.csv.CSVStreamingReader, watched: WatchedCsv) -> None:
    """Makes a reader that was not read to its end safe to destroy, once its file has stopped.

    Arrow reads ahead in its own thread, which needs Python's lock for every read. Destroying the
    reader waits for that thread while holding the lock: both would wait forever.
    """
    try:
        for _ in reader:
            pass
    except Exception:  # the error of reading the file, raised again
        # It is unknown whether the thread has finished, so the reader is never destroyed; the run
        # ends anyway. The process must not end while the thread reads: without an interpreter it
        # would abort.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(reader))
        watched.wait_for_last_read(_LAST_READ_S)


def _check(watched: WatchedCsv, file: str, limits: ReadLimits) -> None:
    _check_quotes(watched.unclosed_in, file)
    if watched.too_long_in is not None:
        _check_quotes(watched.watch.opened_in, file)
        raise limits.too_long(file, f"line {watched.too_long_in}")


def _check_quotes(unclosed_in: int | None, file: str) -> None:
    if unclosed_in is not None:
        raise ValueError(
            f"{file} must close every quote. Received: one that begins in line {unclosed_in} and "
            "is not closed before the next value. Close it, or double it where it is text."
        )


def _file_batch(
    part: pa.RecordBatch,
    numbers: np.ndarray,
    table: str,
    file: str,
    skipped_numbers: list[int],
    skipped_texts: list[str],
) -> FileBatch:
    decoded = [decode_utf8(column) for column in part.columns]
    rows = pa.RecordBatch.from_arrays([text for text, _ in decoded], names=part.schema.names)
    is_bad = np.zeros(part.num_rows, bool)
    for _, is_undecodable in decoded:
        is_bad |= is_undecodable
    bad = np.flatnonzero(is_bad)
    bad_values = [
        json.dumps(
            {
                name: column[int(i)].as_py().decode("utf-8", "replace")
                for name, column in zip(part.schema.names, part.columns, strict=True)
            },
            ensure_ascii=False,
        )
        for i in bad
    ]
    values = [json.dumps(text, ensure_ascii=False) for text in skipped_texts]
    rejected = rejected_rows(
        table,
        file,
        [*skipped_numbers, *numbers[bad].tolist()],
        [schema.MALFORMED_ROW] * (len(values) + len(bad)),
        values + bad_values,
    )
    if len(bad):
        rows, numbers = rows.filter(pa.array(~is_bad)), numbers[~is_bad]
    return FileBatch(table, file, rows, numbers, rejected)
