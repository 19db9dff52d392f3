"""A batch, and the part that one request has in it."""

import threading
import time
from collections.abc import Callable, Sequence

import numpy as np

from serving.model_server.batching.join_rules import Rows, Shape, num_elements, wider
from serving.model_server.session.request_limits import MAX_STRINGS


class Part:
    """The rows of one request in one batch.

    Args:
      feeds: Values of the inputs.
      num_rows: Number of rows.
      widths: Sizes of each input's dimensions after the first.
      is_awaited: Function that tells whether the caller still waits.

    Attributes:
      values: Values of the outputs, once they are computed.
      error: Exception of the computation; None without an exception.
      is_left_alone: Whether the batch failed, so that the part must be computed by itself.
    """

    def __init__(
        self,
        feeds: Sequence[np.ndarray],
        num_rows: int,
        widths: tuple[Shape, ...],
        is_awaited: Callable[[], bool],
    ):
        self.feeds = feeds
        self.num_rows = num_rows
        self.widths = widths
        self.is_awaited = is_awaited
        self.start = time.perf_counter()
        self.values: list[np.ndarray] = []
        self.error: Exception | None = None
        self.is_left_alone = False
        self._done = threading.Lock()
        self._done.acquire()

    def finish(self) -> None:
        """Wakes the thread that waits for the part."""
        self._done.release()

    def wait(self) -> None:
        """Waits until the batch has been computed."""
        self._done.acquire()


class Batch:
    """Parts of requests that will be computed together; the scheduler's lock guards it.

    Args:
      most_rows: Maximum number of rows.

    Attributes:
      start: Time when the batch was opened.
      parts: Parts of the batch, in the order in which they came.
      num_rows: Rows of all parts.
      widths: Sizes of each input's dimensions after the first, those of the widest parts.
      is_full: Event that is set when the batch need not wait for further parts.
    """

    def __init__(self, most_rows: int):
        self.start = time.perf_counter()
        self.parts: list[Part] = []
        self.num_rows = 0
        self.widths: tuple[Shape, ...] = ()
        self.is_full = threading.Event()
        self._most_rows = most_rows

    @property
    def room(self) -> int:
        """Returns the number of rows that the batch can still take."""
        return self._most_rows - self.num_rows

    def can_take(self, rows: Rows, number: int) -> bool:
        """Returns whether further rows fit, also when all are padded to one width.

        Args:
          rows: Rows of a request of the batch's form.
          number: Number of these rows.
        """
        if number > self.room:
            return False
        widths = wider(self.widths, rows.widths)
        return num_elements(self.num_rows + number, widths) <= MAX_STRINGS

    def add(self, part: Part) -> None:
        """Adds a part, which `can_take` allowed or which is the first."""
        self.widths = wider(self.widths, part.widths) if self.parts else part.widths
        self.parts.append(part)
        self.num_rows += part.num_rows
        if not self.room:
            self.is_full.set()
