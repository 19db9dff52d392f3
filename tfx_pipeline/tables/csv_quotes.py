"""The bytes of a CSV file on their way to Arrow's reader, watched for a quote that is not closed.

Arrow closes an open quote at the end of the file, and the rows behind it are one cell: nobody would
miss them. Its rules are those of RFC 4180, read leniently. A quote opens a value only where the
value begins, two within quotes are one of the text, and what stands between a closing quote and the
next comma belongs to the value. So an open quote also ends at the next quote of a later row, in the
middle of a value: text right behind the end of a value of several lines gives it away.

Blocks never end between a carriage return and its line feed: of those within quotes Arrow would
drop the line feed, as it does between lines.
"""

from __future__ import annotations

import codecs
import re
import threading
from typing import BinaryIO

import numpy as np

_QUOTE, _COMMA, _LF, _CR = b'",\n\r'
# What comes after a value, or before a quote that opens one; b"" at the end of the file.
_ENDS = (b",", b"\n", b"\r", b"")
_IS_TIDY = np.zeros(256, bool)
_IS_TIDY[[_QUOTE, _COMMA, _LF, _CR]] = True
# The rest of a value in quotes, its group empty if it is open; and one with the byte before it.
_REST_OF_QUOTED = rb'[^"]*(?:""[^"]*)*("?)'
_QUOTED = re.compile(rb'[,\r\n]"' + _REST_OF_QUOTED)
_REST = re.compile(_REST_OF_QUOTED)
_LINE_END_OR_QUOTED = re.compile(rb'[\r\n]|(?<=,)"' + _REST_OF_QUOTED)


# Far longer than a thread takes from one read to the next.
_NEXT_READ_S = 0.5


class QuoteWatch:
    """Follows the quotes of a CSV file, block by block.

    Attributes:
      opened_in: 1-based line in which the quote begins that is open now; None: none is.
      unclosed_in: line of the first quote that was closed by one of another value; None: none was.
    """

    def __init__(self) -> None:
        """Begins at the first byte of a file."""
        self.opened_in: int | None = None
        self.unclosed_in: int | None = None
        self._line = 1
        self._last = b"\n"  # a value begins at the beginning of the file

    @property
    def line(self) -> int:
        """1-based line in which the last block ends."""
        return self._line

    def scan(self, block: bytes) -> None:
        """Goes on over the next bytes.

        Args:
          block: Not empty. It ends with a quote at the end of the file alone.
        """
        if b'"' in block:
            text = self._last + block
            if not self._scan_tidy(text):
                self._scan_any(text)
        self._line += block.count(b"\n")
        self._last = block[-1:]

    def _scan_tidy(self, text: bytes) -> bool:
        """Goes over a block in which values begin and end with quotes and have none in between.

        Args:
          text: The block, with the byte before it.

        Returns:
          Whether it is such a block; of any other nothing is noted.
        """
        data = np.frombuffer(text, np.uint8)
        quotes = np.flatnonzero(data[1:] == _QUOTE) + 1
        was_open = self.opened_in is not None
        openings, closings = quotes[int(was_open) :: 2], quotes[int(not was_open) :: 2]
        # Two in a row within quotes are a closing one and an opening one here, to the same end.
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
        position = 0  # of the byte before the first
        if self.opened_in is not None:
            rest = _REST.match(text, 1)
            assert rest is not None  # the pattern takes anything
            position = rest.end()
            self._note(text, 1, self.opened_in, rest)
        for quoted in _QUOTED.finditer(text, position):
            # Most of them; what is left is open or odd.
            if not (quoted[1] and text[quoted.end() : quoted.end() + 1] in _ENDS):
                self._note(text, quoted.start() + 1, None, quoted)

    def _note(self, text: bytes, start: int, line: int | None, quoted: re.Match[bytes]) -> None:
        """Notes how a value in quotes ended.

        Args:
          text: The block, with the byte before it.
          start: Where in it the value begins.
          line: Line in which it begins; None: that of `start`.
          quoted: Up to its end.
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
    """A CSV file as Arrow reads from it, see the module.

    A row that is too long ends the file, before Arrow meets it.

    Attributes:
      watch: What is known of its quotes so far.
      too_long_in: 1-based line of the row that is too long; None: none is known to be.
    """

    closed = False

    def __init__(self, stream: BinaryIO, row_bytes: int = 4 << 20):
        """Initializes the file.

        Args:
          stream: The file from its beginning.
          row_bytes: Size of a row, at most; about, as rows are told by blocks.
        """
        self.watch = QuoteWatch()
        self.too_long_in: int | None = None
        self._row_bytes = 0  # of the row that a block ends with
        self._most_row_bytes = row_bytes
        self._is_idle = threading.Event()
        self._is_idle.set()
        self._is_over = threading.Event()
        self._is_at_end = self._is_stopped = False
        self._stream = stream
        self._begin = stream.read(len(codecs.BOM_UTF8)).removeprefix(codecs.BOM_UTF8)

    def read(self, num_bytes: int) -> bytes:
        """The next bytes, about as many; none at the end of the file, or once nobody wants any."""
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
        # What a quote or a carriage return means is known by the byte after it.
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
        """Waits until a reader that reads ahead, after `stop`, reads no more.

        Args:
          timeout_s: At most so long, where a read under way does not end.
        """
        self._is_idle.wait(timeout_s)
        # It may be about to read; or not be going to.
        self._is_over.wait(min(timeout_s, _NEXT_READ_S))

    @property
    def unclosed_in(self) -> int | None:
        """Line of the first quote that is known not to be closed; None: of none it is known."""
        if self.watch.unclosed_in is None and self._is_at_end:
            return self.watch.opened_in
        return self.watch.unclosed_in


def first_record(text: bytes) -> tuple[bytes, bytes]:
    """The first row that is not empty, and what comes after it.

    Args:
      text: A CSV file from its beginning, without byte order mark.

    Returns:
      The row without its line end, and the rest with it.

    Raises:
      ValueError: A quote in the row is not closed.
    """
    text = b"," + text.lstrip(b"\r\n")  # so that the first value, too, comes after a comma
    for found in _LINE_END_OR_QUOTED.finditer(text):
        end = found.end()
        if found[0] in (b"\r", b"\n"):
            return text[1 : end - 1], text[end - 1 :]
        is_odd = text[end : end + 1] not in _ENDS
        if not found[1] or (is_odd and b"\n" in found[0]):
            raise ValueError("must close every quote. Received: an open one in the header.")
    return text[1:], b""
