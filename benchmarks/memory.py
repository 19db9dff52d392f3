"""Compares `retrieve` with and without memory, call by call in turns, in process.

Both use the same untrained towers, an index as a run would choose it, and users with short and with
long histories. The cost of a call does not depend on what the towers have learned.
"""

import dataclasses
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import many_tags_log as log
from benchmarks.fresh_process import call_in_fresh_process
from benchmarks.registry import Figures, Progress
from benchmarks.results import OUTPUT_DIR
from benchmarks.size_option import one_size
from serving.inference_environment import prefer_small_batches
from tfx_pipeline.terminal.tables import format_table
from trainer.contract import features as f

DEFAULT_SIZE = 2_000  # tags
NUM_CALLS = {1: 400, 64: 60}  # calls of each case, by batch size
# Number of values of a history, by case.
HISTORIES = {"short": 30, "long": 300}
WITHOUT, WITH = "without", "with"
K, NUM_CANDIDATES = 100, 200

_NUM_USERS = 256
_NUM_WARM_UP_CALLS = 10
_TOWERS = "towers"


@dataclasses.dataclass(frozen=True)
class MemoryMeasurement:
    """Figures of one length of histories; keys `tag_memory.<history>.batch_<n>.<attribute>`.

    Attributes:
      without_ms_p50: Milliseconds of `retrieve` without memory, median.
      with_ms_p50: Milliseconds of `retrieve` with memory, median; its calls were in between.
      over_without: Ratio of the time with memory to that without.
    """

    without_ms_p50: float
    with_ms_p50: float
    over_without: float


def run(progress: Progress) -> Figures:
    """Measures all cases; see `benchmarks.registry.Benchmark`."""
    size = one_size(DEFAULT_SIZE)
    # The server sets the same; fresh processes inherit it.
    prefer_small_batches()
    OUTPUT_DIR.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="memory-", dir=OUTPUT_DIR) as folder:
        call_in_fresh_process(progress, "transform", write_transform, folder, size)
        call_in_fresh_process(progress, f"{size:,} tags: towers", save, folder, size)
        call_in_fresh_process(progress, "servables", export, folder, size)
        found = call_in_fresh_process(progress, "calls", measure, folder, size)
    return {"tag_memory.num_tags": size} | flatten(found)


def flatten(found: Mapping[tuple[str, int], MemoryMeasurement]) -> Figures:
    """Returns the figures of all cases by key."""
    return {
        f"tag_memory.{history}.batch_{batch_size}.{name}": value
        for (history, batch_size), measured in found.items()
        for name, value in dataclasses.asdict(measured).items()
    }


def table(figures: Figures) -> str:
    """Formats a table with a row for each case."""
    names = [field.name for field in dataclasses.fields(MemoryMeasurement)]
    rows = [
        [
            f"{HISTORIES[history]} values, batch {batch_size}",
            *(figures[f"tag_memory.{history}.batch_{batch_size}.{name}"] for name in names),
        ]
        for history in HISTORIES
        for batch_size in NUM_CALLS
    ]
    return format_table(["history", "without, ms", "with, ms", "over without"], rows)


def faults(figures: Figures) -> list[str]:
    """Reports no faults: tests check the answers with memory."""
    del figures
    return []


def write_transform(folder: str, num_tags: int) -> None:
    """Writes the transform of the log."""
    log.write_transform(num_tags, Path(folder))


def save(folder: str, num_tags: int) -> None:
    """Saves towers whose tag vectors are like those of a training."""
    import tensorflow_transform as tft

    from benchmarks.many_tags_stages import make_model
    from trainer.fitting.loop import build_model
    from trainer.saved.saved_towers import save_towers

    model = make_model(num_tags)
    build_model(model, log.snapshots(2, num_tags, log.SEED))
    model.tag_tower.embeddings.assign(log.tag_vectors(num_tags))
    transform = tft.TFTransformOutput(str(Path(folder) / "transform"))
    save_towers(model, transform, str(Path(folder) / _TOWERS))


def export(folder: str, num_tags: int) -> None:
    """Exports the towers without and with memory."""
    import tensorflow as tf

    from serving.index.scann_index import ScannIndex, SearchParameters, default_num_leaves
    from serving.index.top_k import BruteForceIndex, TopKIndex
    from serving.servable.export import export_servable
    from serving.servable.retrieval import TagRetrieval
    from tfx_pipeline.components.tag_index_builder import is_exact
    from tfx_pipeline.config.serving import IndexConfig
    from trainer.contract import signatures as s
    from trainer.contract.memory import DomainMemory

    towers = tf.saved_model.load(str(Path(folder) / _TOWERS))
    vectors = towers.signatures[s.CANDIDATES]()[s.CANDIDATE_EMBEDDINGS].numpy()
    index: TopKIndex
    if is_exact(IndexConfig(), num_tags):
        index = BruteForceIndex(vectors)
    else:
        num_leaves = default_num_leaves(num_tags)
        parameters = SearchParameters(max(1, num_leaves // 10), 2 * NUM_CANDIDATES)
        index = ScannIndex(vectors, num_leaves, parameters)
    for name, memory in ((WITHOUT, ()), (WITH, (DomainMemory("clicked_tags", 0.5),))):
        num_candidates = min(NUM_CANDIDATES, num_tags)
        retrieval = TagRetrieval(towers, index, K, num_candidates=num_candidates, memory=memory)
        description = {"index": {"num_tags": num_tags}}
        export_servable(retrieval, str(Path(folder) / name), description)


def measure(folder: str, num_tags: int) -> dict[tuple[str, int], MemoryMeasurement]:
    """Times both servables in turns, so that the machine's load is the same."""
    from serving.batch.servable_caller import ServableCaller
    from serving.index.scann_index import register_scann_ops

    register_scann_ops()
    callers = {name: ServableCaller(str(Path(folder) / name)) for name in (WITHOUT, WITH)}
    found = {}
    for history, num_values in HISTORIES.items():
        users = instances(num_tags, num_values)
        for batch_size, num_calls in NUM_CALLS.items():
            seconds: dict[str, list[float]] = {name: [] for name in callers}
            for i in range(_NUM_WARM_UP_CALLS + num_calls):
                batch = [users[(i * batch_size + j) % _NUM_USERS] for j in range(batch_size)]
                for name, caller in callers.items():
                    started = time.perf_counter()
                    caller.retrieve(batch)
                    seconds[name].append(time.perf_counter() - started)
            found[history, batch_size] = summarize(
                {name: row[_NUM_WARM_UP_CALLS:] for name, row in seconds.items()}
            )
    return found


def summarize(seconds: Mapping[str, Sequence[float]]) -> MemoryMeasurement:
    """Computes the figures from the seconds of calls."""
    without, with_memory = (1000 * float(np.median(seconds[name])) for name in (WITHOUT, WITH))
    return MemoryMeasurement(without, with_memory, with_memory / without)


def instances(num_tags: int, num_values: int) -> list[dict[str, Any]]:
    """Makes raw features of users with `num_values` values in a history, some more than once."""
    rng = np.random.default_rng(log.SEED)
    return [
        {
            "segment": log.SEGMENTS[user % len(log.SEGMENTS)],
            "clicked_tags": [f"tag {tag:07d}" for tag in rng.integers(0, num_tags, num_values)],
            f.weights_name("clicked_tags"): rng.integers(1, 6, num_values).astype(float).tolist(),
        }
        for user in range(_NUM_USERS)
    ]
