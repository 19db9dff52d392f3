"""Error messages for files that cannot be read, whatever their format."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Iterator

from trainer.contract.arrow import pa

UNREADABLE = (OSError, EOFError, zlib.error)


def printable(text: str) -> str:
    """Escapes control characters in a text of a damaged file, which a terminal would obey."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def first_line(error: BaseException) -> str:
    """Returns the first line of an error, with a full stop."""
    lines = str(error).strip().splitlines()
    text = printable(lines[0]) if lines else type(error).__name__
    return text if text.endswith(".") else text + "."


def unreadable(path: str, error: BaseException) -> ValueError:
    """Returns the error for a file that cannot be read to its end."""
    return ValueError(
        f"{path} cannot be read: {first_line(error)} Check that it is complete and readable."
    )


@contextlib.contextmanager
def readable(path: str) -> Iterator[None]:
    """Turns errors of reading a damaged file within the context into errors of one line."""
    try:
        yield
    except (pa.ArrowException, MemoryError, *UNREADABLE) as error:
        if isinstance(error, ValueError) and not isinstance(error, pa.ArrowException):
            raise
        raise unreadable(path, error) from error
