"""Counters and histograms, and the page that Prometheus reads.

Written here, and not with prometheus_client, because the real server's names are those of no
convention (a counter without `_total`, a colon in front), and because a request should pay for its
own count alone: one lock of one label set, held for an addition.
"""

import bisect
import threading
from collections.abc import Callable, Collection, Sequence
from typing import Generic, TypeVar

# The real server's: Exponential(10, 1.8, 33).
LATENCY_BUCKETS = tuple(10 * 1.8**power for power in range(33))

# Whatever labels there are must not fill the memory, nor the page.
_MAX_CHILDREN = 1000

_Child = TypeVar("_Child", "CounterChild", "HistogramChild")


class CounterChild:
    """The count of one set of label values."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._value = 0

    def increment(self, amount: int = 1) -> None:
        """Adds to the count."""
        with self._lock:
            self._value += amount

    def lines(self, name: str, labels: Sequence[str]) -> list[str]:
        """The count as lines of the page."""
        return [f"{name}{{{','.join(labels)}}} {self._value}"]


class HistogramChild:
    """The observations of one set of label values."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = [0] * (len(LATENCY_BUCKETS) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Adds an observation."""
        bucket = bisect.bisect_right(LATENCY_BUCKETS, value)
        with self._lock:
            self._counts[bucket] += 1
            self._sum += value

    def lines(self, name: str, labels: Sequence[str]) -> list[str]:
        """The buckets, the sum and the count as lines of the page."""
        with self._lock:
            counts, total = list(self._counts), self._sum
        lines, cumulative = [], 0
        limits = [f"{limit:.6g}" for limit in LATENCY_BUCKETS] + ["+Inf"]
        for limit, count in zip(limits, counts, strict=True):
            cumulative += count
            with_limit = ",".join([*labels, f'le="{limit}"'])
            lines.append(f"{name}_bucket{{{with_limit}}} {cumulative}")
        lines.append(f"{name}_sum{{{','.join(labels)}}} {total!r}")
        lines.append(f"{name}_count{{{','.join(labels)}}} {cumulative}")
        return lines


class _Family(Generic[_Child]):
    """A metric: one child for each set of label values it has seen."""

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
        """The child of these label values, in the order of the names.

        Past a thousand sets of values, new ones share the set of empty values.
        """
        child = self._children.get(values)
        if child is None:
            with self._lock:
                if values not in self._children and len(self._children) >= _MAX_CHILDREN:
                    values = ("",) * len(self.label_names)
                child = self._children.setdefault(values, self._new_child())
        return child

    def keep(self, first_values: Collection[str]) -> None:
        """Forgets the children whose first label has another value."""
        with self._lock:
            kept = {key: child for key, child in self._children.items() if key[0] in first_values}
            if len(kept) < len(self._children):
                self._children = kept

    def lines(self) -> list[str]:
        """The metric as lines of the page, label sets in order."""
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
      name: Its name on the page.
      label_names: The names of its labels.
    """

    def __init__(self, name: str, label_names: Sequence[str]):
        super().__init__(name, label_names, "counter", CounterChild)


class Histogram(_Family[HistogramChild]):
    """A metric of observations, in microseconds.

    Args:
      name: Its name on the page.
      label_names: The names of its labels.
    """

    def __init__(self, name: str, label_names: Sequence[str]):
        super().__init__(name, label_names, "histogram", HistogramChild)


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
