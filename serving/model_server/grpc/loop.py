"""The event loop of gRPC's servers, in a thread of its own."""

import asyncio
import logging
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")

# One loop for all servers of the process: gRPC has one queue of events for all loops, and each
# would be woken for what is another's.
_loop: asyncio.AbstractEventLoop | None = None
_loop_lock = threading.Lock()


def event_loop() -> asyncio.AbstractEventLoop:
    """The loop; its thread is started with the first server."""
    global _loop
    with _loop_lock:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            logging.getLogger("grpc._cython.cygrpc").addFilter(_is_of_interest)
            threading.Thread(target=_loop.run_forever, name="grpc-server", daemon=True).start()
        return _loop


def _is_of_interest(record: logging.LogRecord) -> bool:
    """Whether the library reports more than a caller that went before its answer was written."""
    error = record.exc_info[1] if record.exc_info else None
    return type(error).__name__ != "ExecuteBatchError"


def run_on_loop(task: Coroutine[Any, Any, _T]) -> _T:
    """Runs a task on the loop; waits for its result."""
    return asyncio.run_coroutine_threadsafe(task, event_loop()).result()
