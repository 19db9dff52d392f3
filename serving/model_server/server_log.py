"""The log of the server: lines with a time, which callers neither forge nor flood."""

import contextlib
import logging
import re
import sys
import time
from collections.abc import Callable, Iterator
from typing import TextIO

# Whoever writes a line while the server runs: itself, and what it is made of.
_LOGGERS = ("tagtower", "tornado", "asyncio", "grpc", "concurrent.futures")
# What moves a terminal's cursor, ends a line, turns the direction of writing, or has no UTF-8.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_MAX_LINE, _MAX_TRACEBACK = 4_000, 20_000
# Within so many seconds a line comes once, those of one kind so many times; the rest is counted.
WINDOW_S = 10.0
_LINES_OF_A_KIND = 20
# Of all others together there are no more than of one kind.
_MAX_KINDS = 200
_OTHERS = ("", "")


def one_line(text: str, limit: int = _MAX_LINE) -> str:
    """A text as part of a line: what is no plain character is escaped, what is too long is cut."""
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
    """Sends what the server and its libraries have to say to a stream, while a block lasts.

    Args:
      stream: Where to; None: standard error.
      clock: Seconds, of which windows are counted.
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
    """`2026-11-30T12:00:00Z text`; the lines of a traceback begin with a space."""

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created))
        lines = [f"{stamp} {one_line(record.getMessage())}"]
        if record.exc_info and record.exc_info[0] is not None:
            traceback = self.formatException(record.exc_info)[-_MAX_TRACEBACK:]
            lines += [f"  {one_line(line)}" for line in traceback.split("\n")]
        return "\n".join(lines)


class _Seen:
    """What came within a window: how often, and what is not shown of it."""

    def __init__(self, start: float, text: str):
        self.start, self.text = start, text
        self.num_shown = self.num_hidden = 0


def _kind(record: logging.LogRecord) -> tuple:
    """What the lines of a flood have in common: the text before values are put into it.

    A library may write lines with the values in them: of those, the place that they come from.
    """
    if record.args:
        return (record.name, str(record.msg))
    return (record.name, record.levelno, record.pathname, record.lineno)


class _ServerHandler(logging.StreamHandler):
    """Writes lines, but not all of a flood."""

    def __init__(self, stream: TextIO, clock: Callable[[], float]):
        super().__init__(stream)
        self.setFormatter(_Formatter())
        self._clock = clock
        # In the order in which they began.
        self._lines: dict[tuple, _Seen] = {}
        self._kinds: dict[tuple, _Seen] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Writes the line, or counts it."""
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
        """Says what was counted and not written."""
        self._forget(float("inf"))
        super().close()

    def _forget(self, now: float) -> None:
        """Ends the windows that are over."""
        for seen in (self._lines, self._kinds):
            while seen and now - (first := next(iter(seen.items())))[1].start >= WINDOW_S:
                ended = seen.pop(first[0])
                if ended.num_hidden:
                    self._count(ended)

    def _count(self, ended: _Seen) -> None:
        text = f"... {ended.num_hidden} more lines like: {ended.text}"
        record = logging.LogRecord("tagtower", logging.WARNING, "", 0, text, None, None)
        super().emit(record)
