"""Seconds and peak memory of each of several stages in one process."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator

from benchmarks.resident_process import peak_mb


@dataclasses.dataclass(frozen=True)
class Stage:
    """What a stage took.

    Attributes:
      seconds: Of the wall clock.
      peak_mb: Peak resident memory of the process in it, what was there before included.
    """

    seconds: float
    peak_mb: float


class StageMeter:
    """Measures stages, one after the other.

    Attributes:
      stages: Those that are over, by name.
    """

    def __init__(self):
        self.stages: dict[str, Stage] = {}

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measures what happens within it."""
        forget_peak()
        started = time.perf_counter()
        yield
        self.stages[name] = Stage(time.perf_counter() - started, peak_mb())


def forget_peak() -> None:
    """Lets the peak of this process begin anew, at what it holds now (Linux)."""
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")
