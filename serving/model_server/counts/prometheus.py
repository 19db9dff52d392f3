"""Counters and histograms, and their lines on the page that Prometheus reads.

prometheus_client is not used, because TensorFlow Serving's names follow no convention (a counter
without `_total`, a colon in front), and because a request should pay only for its own count: one
lock of one label set, held for an addition.
"""

import bisect
import threading
from collections.abc import Callable, Collection, Sequence
from typing import Generic, TypeVar

# Buckets of TensorFlow Serving: Exponential(10, 1.8, 33).
LATENCY_BUCKETS = tuple(10 * 1.8**power for power in range(33))
# Buckets of its batching: Exponential(100, 1.2, 52) for times, Exponential(1, 2, 14) for sizes.
QUEUE_BUCKETS = tuple(100 * 1.2**power for power in range(52))
SIZE_BUCKETS = tuple(2.0**power for power in range(14))

# Maximum number of label sets of a metric, so that they fill neither the memory nor the page.
_MAX_CHILDREN = 1000

_Child = TypeVar("_Child", "CounterChild", "HistogramChild")


class CounterChild:
    """The count of one set of label values."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._value = 0

    def increment(self, amount: int = 1) -> None:
        """Adds an amount to the count."""
        with self._lock:
            self._value += amount

    def lines(self, name: str, labels: Sequence[str]) -> list[str]:
        """Returns the count as lines of the page."""
        return [f"{name}{{{','.join(labels)}}} {self._value}"]


class HistogramChild:
    """The observations of one set of label values.

    Args:
      buckets: Upper limits of the buckets, rising; a last bucket takes all larger values.
    """

    def __init__(self, buckets: Sequence[float] = LATENCY_BUCKETS) -> None:
        self._lock = threading.Lock()
        self._buckets = buckets
        self._counts = [0] * (len(buckets) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Adds an observed value to its bucket."""
        bucket = bisect.bisect_right(self._buckets, value)
        with self._lock:
            self._counts[bucket] += 1
            self._sum += value

    def lines(self, name: str, labels: Sequence[str]) -> list[str]:
        """Returns the buckets, the sum and the count as lines of the page."""
        with self._lock:
            counts, total = list(self._counts), self._sum
        lines, cumulative = [], 0
        limits = [f"{limit:.6g}" for limit in self._buckets] + ["+Inf"]
        for limit, count in zip(limits, counts, strict=True):
            cumulative += count
            with_limit = ",".join([*labels, f'le="{limit}"'])
            lines.append(f"{name}_bucket{{{with_limit}}} {cumulative}")
        lines.append(f"{name}_sum{{{','.join(labels)}}} {total!r}")
        lines.append(f"{name}_count{{{','.join(labels)}}} {cumulative}")
        return lines


class _Family(Generic[_Child]):
    """A metric with one child for each set of label values."""

    def __init__(
        self, name: str, label_names: Sequence[str], kind: str, new_child: Callable[[], _Child]
    ):
        self.name = name
        self.label_names = tuple(label_names)
        self._kind = kind
        self._new_child: Callable[[], _Child] = new_child
        self._children: dict[tuple[str, ...], _Child] = {}
        self._lock = threading.Lock()

    def labels(self, *values: str) -> _Child:
        """Returns the child of a set of label values, given in the order of the names.

        After a thousand sets of values, new sets share the child of the empty values.
        """
        child = self._children.get(values)
        if child is None:
            with self._lock:
                if values not in self._children and len(self._children) >= _MAX_CHILDREN:
                    values = ("",) * len(self.label_names)
                child = self._children.setdefault(values, self._new_child())
        return child

    def keep(
        self, first_values: Collection[str | tuple[str, ...]], num_labels: int | None = None
    ) -> None:
        """Removes the children whose first label has none of the given values.

        Args:
          first_values: Values to keep.
          num_labels: Number of labels that a value, a tuple, is of; None: of the first one alone.
        """
        with self._lock:
            kept = {
                key: child
                for key, child in self._children.items()
                if (key[0] if num_labels is None else key[:num_labels]) in first_values
            }
            if len(kept) < len(self._children):
                self._children = kept

    def lines(self) -> list[str]:
        """Returns the metric as lines of the page, sorted by label values."""
        with self._lock:
            children = sorted(self._children.items())
        lines = [f"# TYPE {self.name} {self._kind}"]
        for values, child in children:
            labels = [
                f'{name}="{_escape(value)}"'
                for name, value in zip(self.label_names, values, strict=True)
            ]
            lines += child.lines(self.name, labels)
        return lines


class Counter(_Family[CounterChild]):
    """A metric that only rises.

    Args:
      name: Name of the metric on the page.
      label_names: Names of its labels.
    """

    def __init__(self, name: str, label_names: Sequence[str]):
        super().__init__(name, label_names, "counter", CounterChild)


class Histogram(_Family[HistogramChild]):
    """A metric of observed values, such as microseconds.

    Args:
      name: Name of the metric on the page.
      label_names: Names of its labels.
      buckets: Upper limits of the buckets, rising.
    """

    def __init__(
        self, name: str, label_names: Sequence[str], buckets: Sequence[float] = LATENCY_BUCKETS
    ):
        super().__init__(name, label_names, "histogram", lambda: HistogramChild(buckets))


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
