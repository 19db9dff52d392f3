"""Which benchmarks there are, and what a benchmark is."""

import dataclasses
import importlib
from collections.abc import Callable, Mapping
from typing import Protocol, cast

# Flat: one value a key, as in docs/report.md. None: not defined here.
Figures = dict[str, int | float | str | None]
# Shows one line to whoever waits.
Progress = Callable[[str], None]


class Benchmark(Protocol):
    """The module of a benchmark."""

    def run(self, progress: Progress) -> Figures:
        """Measures.

        Args:
          progress: Called with a line before whatever takes long.

        Returns:
          The figures.

        Raises:
          ValueError: Something is missing, or an option is wrong: one line, with the remedy.
        """

    def table(self, figures: Figures) -> str:
        """The figures for people."""

    def faults(self, figures: Figures) -> list[str]:
        """What must not be, a line each; never a matter of speed."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """A benchmark by name.

    Attributes:
      module: Its module, imported when it runs: a list of benchmarks must not wait for TensorFlow.
      summary: What it measures, in a line.
      takes_hours: Whether it runs by its name alone, and not with all others.
    """

    module: str
    summary: str
    takes_hours: bool = False

    def load(self) -> Benchmark:
        """Imports the module."""
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
