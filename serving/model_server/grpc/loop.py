"""The event loop of the gRPC servers, which runs in its own thread."""

import asyncio
import logging
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")

# One loop for all servers of the process: gRPC has one queue of events for all loops, and each
# loop would be woken for the events of the others.
_loop: asyncio.AbstractEventLoop | None = None
_loop_lock = threading.Lock()


def event_loop() -> asyncio.AbstractEventLoop:
    """Returns the loop; its thread is started with the first server."""
    global _loop
    with _loop_lock:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            logging.getLogger("grpc._cython.cygrpc").addFilter(_is_of_interest)
            threading.Thread(target=_loop.run_forever, name="grpc-server", daemon=True).start()
        return _loop


def _is_of_interest(record: logging.LogRecord) -> bool:
    """Returns whether a log record is not just about a caller who left before the answer."""
    error = record.exc_info[1] if record.exc_info else None
    return type(error).__name__ != "ExecuteBatchError"


def run_on_loop(task: Coroutine[Any, Any, _T]) -> _T:
    """Runs a task on the loop and waits for its result."""
    return asyncio.run_coroutine_threadsafe(task, event_loop()).result()
