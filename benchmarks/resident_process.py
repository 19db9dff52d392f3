"""A fresh process that builds one object and then answers calls to it, until it is closed.

Several processes that measure in turns share the machine's busy moments, and each has its own peak
memory. They are spawned, as in `benchmarks.fresh_process`.
"""

import multiprocessing
import os
from collections.abc import Callable
from concurrent import futures
from typing import Any

# The object of this process, if it is a resident process.
_resident: Any = None


class ResidentProcess:
    """An object in a process of its own; use it in a `with` statement."""

    def __init__(self, factory: Callable[..., Any], *arguments: Any, num_cores: int | None = None):
        """Starts the process and begins to build the object there; does not wait.

        Args:
          factory: Importable function that builds the object, which stays in the process.
          *arguments: Arguments of the factory, which can be pickled.
          num_cores: Largest number of cores that the process may use; None: all.
        """
        self._executor = futures.ProcessPoolExecutor(
            1,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_limit_cores,
            initargs=(num_cores,),
        )
        self._built = self._executor.submit(_build, factory, arguments)

    def __enter__(self) -> "ResidentProcess":
        return self

    def __exit__(self, *exception: Any) -> None:
        self._executor.shutdown(cancel_futures=True)

    def wait(self) -> None:
        """Waits until the object is built.

        Raises:
          Exception: The factory raised it; `BrokenProcessPool`: the process died.
        """
        self._built.result()

    def submit(self, method: str, *arguments: Any) -> "futures.Future[Any]":
        """Calls a method of the object, after all earlier calls; does not wait."""
        return self._executor.submit(_call, method, arguments)

    def call(self, method: str, *arguments: Any) -> Any:
        """Calls a method of the object and waits for it.

        Returns:
          The result of the method.

        Raises:
          Exception: The method or the factory raised it; `BrokenProcessPool`: the process died.
        """
        self.wait()
        return self.submit(method, *arguments).result()

    def peak_mb(self) -> float:
        """Returns the peak resident memory of the process so far, in megabytes."""
        self.wait()
        return self._executor.submit(peak_mb).result()


def peak_mb() -> float:
    """Returns the peak resident memory of this process since it began, in megabytes.

    It is `VmHWM` of Linux: the value of `getrusage` would include the parent's memory at the start.
    """
    with open("/proc/self/status", encoding="ascii") as status:
        line = next(line for line in status if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024 / 1e6


def _limit_cores(num_cores: int | None) -> None:
    """Limits the cores before TensorFlow is imported, which sizes its thread pools by them."""
    if num_cores is not None:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:num_cores])


def _build(factory: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    global _resident
    _resident = factory(*arguments)


def _call(method: str, arguments: tuple[Any, ...]) -> Any:
    return getattr(_resident, method)(*arguments)
