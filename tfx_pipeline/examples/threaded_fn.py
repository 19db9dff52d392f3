"""A Beam function that processes several elements at once.

The in-memory engine has one worker and gives it one element at a time, while most of the work here
is in numpy, Arrow and compression, which release the interpreter lock.
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
    """Beam function that calls `work` for each element, in threads where there are several.

    Outputs are yielded in the order of the elements, some of them after later elements have
    arrived.
    """

    def __init__(self, num_threads: int):
        """Initializes with the number of threads; with one, `process` itself calls `work`."""
        self.num_threads = num_threads
        self._executor: futures.ThreadPoolExecutor | None = None
        self._pending: collections.deque[futures.Future[list[Any]]] = collections.deque()

    def work(self, element: Any, *side_inputs: Any) -> Iterator[Any]:
        """Yields the outputs for one element; several threads call it at once."""
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
        """Discards the pending work of a bundle that failed."""
        self._pending.clear()

    # Without types: Beam would apply them to side inputs.
    def process(self, element, *side_inputs):  # type: ignore[no-untyped-def]
        """Starts an element; yields finished outputs, and waits if too many are pending."""
        if self._executor is None:
            yield from self.work(element, *side_inputs)
            return
        self._pending.append(self._executor.submit(lambda: list(self.work(element, *side_inputs))))
        # One more than there are threads, so that no thread waits for this one.
        while len(self._pending) > self.num_threads:
            yield from self._pending.popleft().result()

    def finish_bundle(self) -> Iterator[Any]:
        """Yields the remaining outputs."""
        while self._pending:
            for output in self._pending.popleft().result():
                if isinstance(output, pvalue.TaggedOutput):
                    yield pvalue.TaggedOutput(output.tag, _in_global_window(output.value))
                else:
                    yield _in_global_window(output)


def _in_global_window(value: Any) -> WindowedValue:
    return WindowedValue(value, MIN_TIMESTAMP, [GlobalWindow()])
