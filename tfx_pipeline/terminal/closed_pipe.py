"""Quiet end of a command whose output is no longer read, as by `head`."""

import io
import os
import select
import sys
from typing import TextIO

# The status that a shell shows for a program ended by SIGPIPE.
EXIT_CLOSED_PIPE = 141


def is_of_closed_pipe(error: BaseException) -> bool:
    """Returns whether an error comes from output or error output that is no longer read."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, BrokenPipeError):
            return any(map(_is_closed, (sys.stdout, sys.stderr)))
        cause = cause.__cause__ or cause.__context__
    return False


def forget_closed_pipes() -> None:
    """Redirects closed output to nowhere, so that the process ends without an error."""
    for stream in (sys.stdout, sys.stderr):
        if _is_closed(stream):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)


def _is_closed(stream: TextIO | None) -> bool:
    try:
        descriptor = stream.fileno()  # type: ignore[union-attr]
    except (AttributeError, ValueError, io.UnsupportedOperation):
        return False
    poll = select.poll()
    poll.register(descriptor, select.POLLERR)
    return any(events & select.POLLERR for _, events in poll.poll(0))
