"""Measures seconds and peak memory of each of several stages in one process."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator

from benchmarks.resident_process import peak_mb


@dataclasses.dataclass(frozen=True)
class Stage:
    """Time and memory of a stage.

    Attributes:
      seconds: Wall-clock seconds.
      peak_mb: Peak resident memory of the process in the stage, with what it held before.
    """

    seconds: float
    peak_mb: float


class StageMeter:
    """Measures stages, one after the other.

    Attributes:
      stages: Finished stages by name.
    """

    def __init__(self) -> None:
        self.stages: dict[str, Stage] = {}

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measures the stage that runs within the context."""
        forget_peak()
        started = time.perf_counter()
        yield
        self.stages[name] = Stage(time.perf_counter() - started, peak_mb())


def forget_peak() -> None:
    """Resets the peak memory of this process to what it holds now (Linux)."""
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")
