"""Peak memory of this process and of all processes it started, by sampling."""

import itertools
import threading
from collections.abc import Callable, Iterable

import psutil

_INTERVAL_S = 0.25
# Listing the processes started costs more than all else: it reads every process of the machine. Of
# a small run on a busy machine it was 7%, when it was done for each sample.
_SAMPLES_PER_LISTING = 4


class PeakMemory:
    """Context manager that measures the peak of the sum of resident sizes, `peak_mb`, in megabytes.

    Pages shared between processes are counted in each: the figure is an upper bound.
    """

    def __init__(self, others: Callable[[], Iterable[psutil.Process]] = tuple):
        """Initializes with the processes to measure.

        Args:
          others: Function that returns further processes to count, which this one did not start.
        """
        self.peak_mb = 0.0
        self._others = others
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "PeakMemory":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _watch(self) -> None:
        process = psutil.Process()
        started: list[psutil.Process] = []
        for number in itertools.count():
            if number % _SAMPLES_PER_LISTING == 0:
                started = process.children(recursive=True)
            total = 0
            for one in [process, *started, *self._others()]:
                try:
                    total += one.memory_info().rss
                except psutil.NoSuchProcess:  # it ended after it was listed
                    continue
            self.peak_mb = max(self.peak_mb, total / 1e6)
            if self._stopping.wait(_INTERVAL_S):
                return
