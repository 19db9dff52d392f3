"""A Beam function that works on several elements at once.

The in-memory engine has one worker and gives it one element at a time, while most of the work here
is numpy, Arrow and zlib, which let other threads run.
"""

import collections
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import apache_beam as beam
from apache_beam import pvalue
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.timestamp import MIN_TIMESTAMP
from apache_beam.utils.windowed_value import WindowedValue


class ThreadedFn(beam.DoFn):
    """Calls `work` for each element, in threads where there are several.

    Outputs come in the order of the elements, some of them after later elements have come.
    """

    def __init__(self, num_threads: int):
        """Initializes with the number of threads; of one, work is done where it comes."""
        self.num_threads = num_threads
        self._executor: futures.ThreadPoolExecutor | None = None
        self._pending: collections.deque[futures.Future[list[Any]]] = collections.deque()

    def work(self, element: Any, *side_inputs: Any) -> Iterator[Any]:
        """What `process` of another function does; called by several threads at once."""
        raise NotImplementedError

    def setup(self) -> None:
        """Starts the threads."""
        if self.num_threads > 1:
            self._executor = futures.ThreadPoolExecutor(self.num_threads)

    def teardown(self) -> None:
        """Ends the threads."""
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)

    def start_bundle(self) -> None:
        """Forgets what a bundle that failed has left."""
        self._pending.clear()

    def process(self, element, *side_inputs):  # Beam would take hints for those of side inputs
        """Begins with an element; yields what is ready, or must be before another can begin."""
        if self._executor is None:
            yield from self.work(element, *side_inputs)
            return
        self._pending.append(self._executor.submit(lambda: list(self.work(element, *side_inputs))))
        # One more than there are threads, so that none waits for this one.
        while len(self._pending) > self.num_threads:
            yield from self._pending.popleft().result()

    def finish_bundle(self) -> Iterator[Any]:
        """Yields the rest."""
        while self._pending:
            for output in self._pending.popleft().result():
                if isinstance(output, pvalue.TaggedOutput):
                    yield pvalue.TaggedOutput(output.tag, _in_global_window(output.value))
                else:
                    yield _in_global_window(output)


def _in_global_window(value: Any) -> WindowedValue:
    return WindowedValue(value, MIN_TIMESTAMP, [GlobalWindow()])
