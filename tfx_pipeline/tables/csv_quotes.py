"""Passes the bytes of a CSV file to Arrow's reader and watches for a quote that is not closed.

Arrow closes an open quote at the end of the file and reads the rows after it as one cell, so that
they would be lost unnoticed. Its rules are those of RFC 4180, read leniently. A quote opens a value
only at the value's start, two quotes within a quoted value are one quote of the text, and text
between a closing quote and the next comma belongs to the value. So an open quote also ends at the
next quote of a later row, in the middle of a value: text right after the end of a value of several
lines reveals it.

Blocks never end between a carriage return and its line feed: Arrow would drop that line feed within
quotes, as it does between lines.
"""

from __future__ import annotations

import codecs
import re
import threading
from typing import BinaryIO

import numpy as np

_QUOTE, _COMMA, _LF, _CR = b'",\n\r'
# Bytes after a value, or before a quote that opens one; b"" at the end of the file.
_ENDS = (b",", b"\n", b"\r", b"")
_IS_TIDY = np.zeros(256, bool)
_IS_TIDY[[_QUOTE, _COMMA, _LF, _CR]] = True
# The rest of a quoted value, whose group is empty if the quote is open; and a value with the byte
# before it.
_REST_OF_QUOTED = rb'[^"]*(?:""[^"]*)*("?)'
_QUOTED = re.compile(rb'[,\r\n]"' + _REST_OF_QUOTED)
_REST = re.compile(_REST_OF_QUOTED)
_LINE_END_OR_QUOTED = re.compile(rb'[\r\n]|(?<=,)"' + _REST_OF_QUOTED)


# Far longer than the time between two reads of a thread.
_NEXT_READ_S = 0.5


class QuoteWatch:
    """Tracks the quotes of a CSV file, block by block.

    Attributes:
      opened_in: 1-based line in which the currently open quote begins; None: none is open.
      unclosed_in: 1-based line of the first quote that was closed by the quote of another value;
        None: there was none.
    """

    def __init__(self) -> None:
        """Initializes at the first byte of a file."""
        self.opened_in: int | None = None
        self.unclosed_in: int | None = None
        self._line = 1
        self._last = b"\n"  # a value begins at the start of the file

    @property
    def line(self) -> int:
        """The 1-based line in which the last block ends."""
        return self._line

    def scan(self, block: bytes) -> None:
        """Processes the next bytes of the file.

        Args:
          block: Next bytes, not empty. It ends with a quote only at the end of the file.
        """
        if b'"' in block:
            text = self._last + block
            if not self._scan_tidy(text):
                self._scan_any(text)
        self._line += block.count(b"\n")
        self._last = block[-1:]

    def _scan_tidy(self, text: bytes) -> bool:
        """Processes a block in which quotes are only at the starts and ends of values.

        Args:
          text: The block, with the byte before it.

        Returns:
          Whether the block has that form; otherwise nothing is recorded.
        """
        data = np.frombuffer(text, np.uint8)
        quotes = np.flatnonzero(data[1:] == _QUOTE) + 1
        was_open = self.opened_in is not None
        openings, closings = quotes[int(was_open) :: 2], quotes[int(not was_open) :: 2]
        # Two quotes in a row count here as a closing and an opening one, with the same result.
        if not _IS_TIDY[data[openings - 1]].all():
            return False
        if len(closings) and closings[-1] == len(data) - 1:
            closings = closings[:-1]
        if not _IS_TIDY[data[closings + 1]].all():
            return False
        if (len(quotes) + was_open) % 2 == 0:
            self.opened_in = None
            return True
        last = len(quotes) - 1
        while last > 0 and quotes[last - 1] == quotes[last] - 1:
            last -= 2
        if last >= 0:
            self.opened_in = self._line_at(text, int(quotes[last]))
        return True

    def _scan_any(self, text: bytes) -> None:
        position = 0  # the byte before the block
        if self.opened_in is not None:
            rest = _REST.match(text, 1)
            assert rest is not None  # the pattern matches any text
            position = rest.end()
            self._note(text, 1, self.opened_in, rest)
        for quoted in _QUOTED.finditer(text, position):
            # Most values end properly; the others are open or end in the middle of a value.
            if not (quoted[1] and text[quoted.end() : quoted.end() + 1] in _ENDS):
                self._note(text, quoted.start() + 1, None, quoted)

    def _note(self, text: bytes, start: int, line: int | None, quoted: re.Match[bytes]) -> None:
        """Records how a quoted value ended.

        Args:
          text: The block, with the byte before it.
          start: Position in `text` at which the value begins.
          line: Line in which the value begins; None: the line of `start`.
          quoted: Match that ends with the value.
        """
        if not quoted[1]:
            self.opened_in = line or self._line_at(text, start)
            return
        self.opened_in = None
        end = quoted.end()
        if self.unclosed_in is not None or text[end : end + 1] in _ENDS:
            return
        line = line or self._line_at(text, start)
        if line < self._line_at(text, end):
            self.unclosed_in = line

    def _line_at(self, text: bytes, position: int) -> int:
        return self._line + text.count(b"\n", 1, position)


class WatchedCsv:
    """File object through which Arrow reads a CSV file with its quotes watched, see the module.

    A row that is too long ends the file, before Arrow reads it.

    Attributes:
      watch: State of the quotes so far.
      too_long_in: 1-based line of the row that is too long; None: none is known.
    """

    closed = False

    def __init__(self, stream: BinaryIO, row_bytes: int = 4 << 20):
        """Initializes with the stream of the file.

        Args:
          stream: Stream at the start of the file.
          row_bytes: Largest size of a row in bytes; approximate, as rows are measured by blocks.
        """
        self.watch = QuoteWatch()
        self.too_long_in: int | None = None
        self._row_bytes = 0  # bytes of the row at the end of the last block
        self._most_row_bytes = row_bytes
        self._is_idle = threading.Event()
        self._is_idle.set()
        self._is_over = threading.Event()
        self._is_at_end = self._is_stopped = False
        self._stream = stream
        self._begin = stream.read(len(codecs.BOM_UTF8)).removeprefix(codecs.BOM_UTF8)

    def read(self, num_bytes: int) -> bytes:
        """Returns the next bytes, about `num_bytes`; none at the end or after `stop`."""
        self._is_idle.clear()
        try:
            block = b"" if self._is_stopped else self._read(num_bytes)
        finally:
            self._is_idle.set()
        if not block:
            self._is_over.set()
        return block

    def _read(self, num_bytes: int) -> bytes:
        pieces = [self._begin, self._stream.read(max(num_bytes - len(self._begin), 1))]
        self._begin = b""
        # The byte after a quote or a carriage return decides what it means.
        while pieces[-1].endswith((b'"', b"\r")):
            pieces.append(self._stream.read(1))
        block = b"".join(pieces)
        if block:
            self._scan(block)
        if self.too_long_in is not None:
            self._is_stopped = True
            return b""
        self._is_at_end = not block
        return block

    def _scan(self, block: bytes) -> None:
        opened_in = self.watch.opened_in
        self.watch.scan(block)
        is_quoted = opened_in is not None and self.watch.opened_in == opened_in
        end_of_line = -1 if is_quoted else block.rfind(b"\n")
        if end_of_line < 0:
            self._row_bytes += len(block)
        else:
            self._row_bytes = len(block) - end_of_line - 1
        if self._row_bytes > self._most_row_bytes:
            self.too_long_in = self.watch.opened_in or self.watch.line

    def stop(self) -> None:
        """Ends the file here for a reader that still reads ahead."""
        self._is_stopped = True

    def wait_for_last_read(self, timeout_s: float) -> None:
        """Waits until a reader that reads ahead has stopped reading, after `stop`.

        Args:
          timeout_s: Longest wait in seconds, in case a running read does not end.
        """
        self._is_idle.wait(timeout_s)
        # The reader may be about to read, or may not read again.
        self._is_over.wait(min(timeout_s, _NEXT_READ_S))

    @property
    def unclosed_in(self) -> int | None:
        """The line of the first quote known to be unclosed; None: none is known."""
        if self.watch.unclosed_in is None and self._is_at_end:
            return self.watch.opened_in
        return self.watch.unclosed_in


def first_record(text: bytes) -> tuple[bytes, bytes]:
    """Splits off the first row that is not empty.

    Args:
      text: Bytes of a CSV file from its start, without byte order mark.

    Returns:
      The row without its line end, and the rest, which begins with the line end.

    Raises:
      ValueError: A quote in the row is not closed.
    """
    text = b"," + text.lstrip(b"\r\n")  # so that a comma precedes the first value too
    for found in _LINE_END_OR_QUOTED.finditer(text):
        end = found.end()
        if found[0] in (b"\r", b"\n"):
            return text[1 : end - 1], text[end - 1 :]
        is_odd = text[end : end + 1] not in _ENDS
        if not found[1] or (is_odd and b"\n" in found[0]):
            raise ValueError("must close every quote. Received: an open one in the header.")
    return text[1:], b""
