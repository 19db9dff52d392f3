"""Calls a function in a process of its own: what was measured before has left no memory in use.

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
    """Calls `function(*arguments)` and waits for it, telling from time to time that it still runs.

    Args:
      progress: Where that goes.
      title: What the call does, in words.
      function: Importable.
      *arguments: Can be pickled.

    Returns:
      What the function returned.

    Raises:
      Exception: What the function raised; `BrokenProcessPool` if its process died.
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
                if future.done():  # the function's own
                    raise
                progress(f"{title}: {time.monotonic() - started:.0f} s so far")
