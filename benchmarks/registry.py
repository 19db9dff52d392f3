"""The list of all benchmarks, and the interface of a benchmark."""

import dataclasses
import importlib
from collections.abc import Callable, Mapping
from typing import Protocol, cast

# One value for each key, as in docs/report.md. None: not defined here.
Figures = dict[str, int | float | str | None]
# Function that shows one line to the user.
Progress = Callable[[str], None]


class Benchmark(Protocol):
    """The interface of a benchmark's module."""

    def run(self, progress: Progress) -> Figures:
        """Runs the benchmark.

        Args:
          progress: Function called with a line before each long step.

        Returns:
          The figures by key.

        Raises:
          ValueError: Something is missing, or an option is wrong: one line, with the remedy.
        """

    def table(self, figures: Figures) -> str:
        """Formats the figures for people."""

    def faults(self, figures: Figures) -> list[str]:
        """Reports faults, one line each; speed is never a fault."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """An entry in the list of benchmarks.

    Attributes:
      module: Name of the module, which is imported when the benchmark runs: a list of benchmarks
        must not wait for TensorFlow.
      summary: Description of the measurement in a line.
      takes_hours: Whether it runs only when it is named, and not with all others.
    """

    module: str
    summary: str
    takes_hours: bool = False

    def load(self) -> Benchmark:
        """Imports the benchmark's module."""
        return cast(Benchmark, importlib.import_module(self.module))


BENCHMARKS: Mapping[str, Entry] = {
    "startup": Entry("benchmarks.startup", "start-up of commands and imports, in fresh processes"),
    "index": Entry(
        "benchmarks.index", "ScaNN beside exact search, faiss, hnswlib (SIZE=TAGS[,TAGS])"
    ),
    "examples": Entry("benchmarks.examples", "tables to training examples (SIZE=INTERACTIONS)"),
    "scale": Entry(
        "benchmarks.scale", "the same at several sizes, engines, skews (SIZE=INTERACTIONS[,...])"
    ),
    "serving": Entry(
        "benchmarks.serving", "gRPC and REST of the local server (MODEL_BASE_PATH=DIR)"
    ),
    "servables": Entry(
        "benchmarks.servables",
        "a servable, or two in turns: load, memory (MODEL_BASE_PATH, OTHER_BASE_PATH)",
    ),
    "request-log": Entry(
        "benchmarks.request_log", "every request logged beside none (MODEL_BASE_PATH=DIR)"
    ),
    "batching": Entry(
        "benchmarks.batching", "1, 8, 64 callers with and without batching (MODEL_BASE_PATH=DIR)"
    ),
    "filtered": Entry(
        "benchmarks.filtered", "retrieve_filtered beside retrieve: latency, recall (SIZE=TAGS)"
    ),
    "memory": Entry("benchmarks.memory", "retrieve with memory beside without (SIZE=TAGS)"),
    "gate": Entry(
        "benchmarks.gate",
        "trained models through the gate: logs of noise, of interests (SIZE=LOGS)",
    ),
    "soak": Entry(
        "benchmarks.soak", "new versions pushed under load (SIZE=SECONDS, MODEL_BASE_PATH=DIR)"
    ),
    "many-tags": Entry(
        "benchmarks.many_tags", "a thousand and a million tags, training to serving (SIZE=TAGS)"
    ),
    "batch-users": Entry(
        "benchmarks.batch_users",
        "batch prediction for a million users (SIZE=USERS, MODEL_BASE_PATH=DIR)",
    ),
    "training": Entry(
        "benchmarks.training", "label examples a second, beside peers (SIZE=E[,E], MOVIELENS_DIR)"
    ),
    "hostile": Entry(
        "benchmarks.hostile",
        "damaged files, requests, killed runs; by name alone (SIZE=FILES[,REQUESTS[,KILLS]])",
        takes_hours=True,
    ),
}
