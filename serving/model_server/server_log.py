"""The log of the server: lines with a time, which callers can neither forge nor flood."""

import contextlib
import logging
import re
import sys
import time
from collections.abc import Callable, Iterator
from typing import TextIO

# Loggers that write lines while the server runs: its own and those of its libraries.
_LOGGERS = ("tagtower", "tornado", "asyncio", "grpc", "concurrent.futures")
# Characters that control a terminal, end a line, change the writing direction, or cannot be encoded
# in UTF-8.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_MAX_LINE, _MAX_TRACEBACK = 4_000, 20_000
# Within a window of so many seconds the same line is written once, and lines of one kind at most
# `_LINES_OF_A_KIND` times; the others are counted.
WINDOW_S = 10.0
_LINES_OF_A_KIND = 20
# Lines of further kinds count together as one kind.
_MAX_KINDS = 200
_OTHERS = ("", "")


def one_line(text: str, limit: int = _MAX_LINE) -> str:
    """Turns a text into a part of a line: escapes unsafe characters, cuts a text that is long."""
    if len(text) > limit:
        text = text[:limit] + "...TRUNCATED"
    return _UNSAFE.sub(lambda match: _escaped(ord(match[0])), text)


def _escaped(code: int) -> str:
    short = {9: "\\t", 10: "\\n", 13: "\\r"}.get(code)
    return short or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


@contextlib.contextmanager
def server_log(
    stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
) -> Iterator[None]:
    """Writes the log of the server and its libraries to a stream inside a `with` block.

    Args:
      stream: Stream to write to; None: standard error.
      clock: Function that returns seconds, for the windows.
    """
    handler = _ServerHandler(stream or sys.stderr, clock)
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [(logger.level, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.propagate = False
    loggers[0].setLevel(logging.INFO)
    try:
        yield
    finally:
        for logger, (level, propagate) in zip(loggers, before, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagate
        handler.close()


class _Formatter(logging.Formatter):
    """Formats lines as `2026-11-30T12:00:00Z text`; the lines of a traceback are indented."""

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created))
        lines = [f"{stamp} {one_line(record.getMessage())}"]
        if record.exc_info and record.exc_info[0] is not None:
            traceback = self.formatException(record.exc_info)[-_MAX_TRACEBACK:]
            lines += [f"  {one_line(line)}" for line in traceback.split("\n")]
        return "\n".join(lines)


class _Seen:
    """The counts of a line or a kind within a window: how many were shown, and how many not."""

    def __init__(self, start: float, text: str):
        self.start, self.text = start, text
        self.num_shown = self.num_hidden = 0


def _kind(record: logging.LogRecord) -> tuple[str | int, ...]:
    """Returns what the lines of a flood have in common: the text before values are inserted.

    A library may log texts that have the values already; their kind is the place in the code.
    """
    if record.args:
        return (record.name, str(record.msg))
    return (record.name, record.levelno, record.pathname, record.lineno)


class _ServerHandler(logging.StreamHandler):
    """Writes lines, but limits repeated ones."""

    def __init__(self, stream: TextIO, clock: Callable[[], float]):
        super().__init__(stream)
        self.setFormatter(_Formatter())
        self._clock = clock
        # Both are in the order in which their windows began.
        self._lines: dict[tuple[str | int, ...], _Seen] = {}
        self._kinds: dict[tuple[str | int, ...], _Seen] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Writes a line, or counts it if there are too many."""
        if record.levelno < logging.WARNING:
            super().emit(record)
            return
        now = self._clock()
        self._forget(now)
        text = record.getMessage()
        kind = _kind(record)
        if kind not in self._kinds and len(self._kinds) >= _MAX_KINDS:
            kind = _OTHERS
        of_kind = self._kinds.setdefault(kind, _Seen(now, text))
        line = (*kind, text)
        same = self._lines.get(line)
        if same is not None:
            same.num_hidden += 1
        elif of_kind.num_shown >= _LINES_OF_A_KIND:
            of_kind.num_hidden += 1
        else:
            self._lines[line] = _Seen(now, text)
            of_kind.num_shown += 1
            super().emit(record)

    def close(self) -> None:
        """Writes how many lines were counted but not written, and closes the handler."""
        self._forget(float("inf"))
        super().close()

    def _forget(self, now: float) -> None:
        """Removes the windows that are over, and writes their counts."""
        for seen in (self._lines, self._kinds):
            while seen and now - (first := next(iter(seen.items())))[1].start >= WINDOW_S:
                ended = seen.pop(first[0])
                if ended.num_hidden:
                    self._count(ended)

    def _count(self, ended: _Seen) -> None:
        text = f"... {ended.num_hidden} more lines like: {ended.text}"
        record = logging.LogRecord("tagtower", logging.WARNING, "", 0, text, None, None)
        super().emit(record)
