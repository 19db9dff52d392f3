"""Calls a function in a process of its own, so that no memory of earlier measurements is in use.

The process is spawned, not forked: a fork would share the parent's memory, and the libraries'
threads would not survive it.
"""

import multiprocessing
import time
from collections.abc import Callable
from concurrent import futures
from typing import Any, TypeVar

from benchmarks.registry import Progress

T = TypeVar("T")

_REMINDER_S = 15.0


def call_in_fresh_process(
    progress: Progress, title: str, function: Callable[..., T], *arguments: Any
) -> T:
    """Calls `function(*arguments)` and waits for it; reports from time to time that it still runs.

    Args:
      progress: Function that shows a line.
      title: Description of the call for people.
      function: An importable function.
      *arguments: Arguments that can be pickled.

    Returns:
      The result of the function.

    Raises:
      Exception: The function raised it; `BrokenProcessPool`: its process died.
    """
    started = time.monotonic()
    progress(f"{title} ...")
    context = multiprocessing.get_context("spawn")
    with futures.ProcessPoolExecutor(1, mp_context=context) as executor:
        future = executor.submit(function, *arguments)
        while True:
            try:
                return future.result(timeout=_REMINDER_S)
            except futures.TimeoutError:
                if future.done():  # the function raised it
                    raise
                progress(f"{title}: {time.monotonic() - started:.0f} s so far")
