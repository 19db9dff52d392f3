"""Compares ScaNN with exact search, faiss and hnswlib on clustered unit vectors, in processes."""

import dataclasses
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.fresh_process import call_in_fresh_process
from benchmarks.gaussian_mixture import GaussianMixture, exact_top_k
from benchmarks.index_peers import FaissIndex, HnswIndex, tune_peer
from benchmarks.registry import Figures, Progress
from benchmarks.results import OUTPUT_DIR
from benchmarks.size_option import sizes
from tfx_pipeline.runs.memory import PeakMemory
from tfx_pipeline.terminal.tables import format_table

DEFAULT_SIZES = (100_000, 1_000_000)
DIMENSION = 64
K = 100
TARGET_RECALL = 0.98
BRUTE_FORCE, SCANN, FAISS, HNSWLIB = "brute_force", "scann", "faiss", "hnswlib"
KINDS = (BRUTE_FORCE, SCANN, FAISS, HNSWLIB)
PEERS = (FAISS, HNSWLIB)

_SEED = 0
_NUM_TUNING_QUERIES = 512
_NUM_QUERIES = 1_000
_NUM_SINGLE_QUERIES = 200
_MIN_TAGS = 1_000
_BATCH, _NUM_BATCHES = 64, 10


@dataclasses.dataclass(frozen=True)
class IndexMeasurement:
    """Figures of one index; the keys are `index.<tags>.<kind>.<attribute>`.

    Attributes:
      build_seconds: Seconds from vectors to the first answer.
      tuning_seconds: Seconds of the choice of search parameters; None: there is nothing to tune.
      recall_at_100: Share of numpy's exact top 100 that was found, mean over queries.
      latency_ms_p50_batch_1: Milliseconds of one search of one query, median.
      queries_per_second_batch_64: Queries searched a second, 64 at a time.
      num_leaves: Number of leaves of ScaNN's tree.
      num_leaves_to_search: Number of leaves to search that tuning chose.
      num_reordering_candidates: Number of candidates to re-order that tuning chose.
      setting: Setting that tuning chose for a peer: faiss's lists probed, hnswlib's `ef`.
      peak_mb: Peak memory of the process: libraries, vectors, building, tuning and searching.
    """

    build_seconds: float
    tuning_seconds: float | None
    recall_at_100: float
    latency_ms_p50_batch_1: float
    queries_per_second_batch_64: float
    num_leaves: int | None
    num_leaves_to_search: int | None
    num_reordering_candidates: int | None
    setting: int | None
    peak_mb: float


def run(progress: Progress) -> Figures:
    """Measures every index at every size; see `benchmarks.registry.Benchmark`."""
    figures: Figures = {}
    for size in sizes(DEFAULT_SIZES):
        if size < _MIN_TAGS:
            raise ValueError(f"`SIZE` must be at least {_MIN_TAGS} tags. Received: SIZE={size}.")
        progress(f"{size:,} tags: drawing vectors, exact search by numpy")
        OUTPUT_DIR.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="index-", dir=OUTPUT_DIR) as folder:
            write_vectors(Path(folder), size)
            found = {
                kind: call_in_fresh_process(
                    progress, f"{size:,} tags: {kind}", measure, kind, folder
                )
                for kind in KINDS
            }
        figures |= flatten(size, found)
    return figures


def flatten(size: int, found: dict[str, IndexMeasurement]) -> Figures:
    """Returns the figures of one size by key."""
    figures: Figures = {
        f"index.{size}.{kind}.{name}": value
        for kind, measured in found.items()
        for name, value in dataclasses.asdict(measured).items()
        if value is not None
    }
    exact = found[BRUTE_FORCE]
    for kind, measured in found.items():
        if kind != BRUTE_FORCE:
            figures[f"index.{size}.{kind}.speedup_batch_1"] = (
                exact.latency_ms_p50_batch_1 / measured.latency_ms_p50_batch_1
            )
            figures[f"index.{size}.{kind}.speedup_batch_64"] = (
                measured.queries_per_second_batch_64 / exact.queries_per_second_batch_64
            )
    return figures


def table(figures: Figures) -> str:
    """Formats a table with a row for each size and index."""
    columns = (
        ("recall@100", "recall_at_100"),
        ("batch 1 p50 ms", "latency_ms_p50_batch_1"),
        ("batch 64 queries/s", "queries_per_second_batch_64"),
        ("x exact, batch 1", "speedup_batch_1"),
        ("x exact, batch 64", "speedup_batch_64"),
        ("build s", "build_seconds"),
        ("tuning s", "tuning_seconds"),
        ("peak MB", "peak_mb"),
    )
    cases = list(dict.fromkeys(key.rpartition(".")[0] for key in figures))
    rows = []
    for case in cases:
        _, size, kind = case.split(".")
        title = f"{int(size):,} {kind.replace('_', ' ')}"
        rows.append([title, *(figures.get(f"{case}.{name}") for _, name in columns)])
    return format_table(["tags, index", *(title for title, _ in columns)], rows)


def faults(figures: Figures) -> list[str]:
    """Reports no faults: a recall below the target depends on the data, not on the code alone."""
    del figures
    return []


def write_vectors(folder: Path, size: int) -> None:
    """Writes the input of `measure`: tags, queries for tuning, queries to measure, the truth."""
    mixture = GaussianMixture.for_tags(size, DIMENSION, _SEED)
    candidates, tuning = mixture.draw(size), mixture.draw(_NUM_TUNING_QUERIES)
    queries = mixture.draw(_NUM_QUERIES)
    truth = exact_top_k(candidates, queries, K)
    for name, array in (
        ("candidates", candidates),
        ("tuning", tuning),
        ("queries", queries),
        ("truth", truth),
    ):
        np.save(folder / f"{name}.npy", array)


def measure(kind: str, folder: str) -> IndexMeasurement:
    """Builds, tunes and measures one index over the vectors in `folder`, in this process."""
    with PeakMemory() as memory:
        measured = (_measure_peer if kind in PEERS else _measure)(kind, Path(folder))
    return dataclasses.replace(measured, peak_mb=memory.peak_mb)


def _measure(kind: str, folder: Path) -> IndexMeasurement:
    import tensorflow as tf

    from serving.index.scann_index import ScannIndex, SearchParameters, default_num_leaves
    from serving.index.top_k import BruteForceIndex, TopKIndex, recall
    from serving.index.tuning import queries_per_second, search_all, seconds, tune

    tf.random.set_seed(_SEED)
    candidates, tuning, queries, truth = (
        np.load(folder / f"{name}.npy") for name in ("candidates", "tuning", "queries", "truth")
    )
    started = time.perf_counter()
    index: TopKIndex
    if kind == BRUTE_FORCE:
        index = BruteForceIndex(candidates)
    else:
        num_leaves = default_num_leaves(len(candidates))
        index = ScannIndex(candidates, num_leaves, SearchParameters(num_leaves, 4 * K))
    index.search(tf.constant(queries[:1]), K)[1].numpy()
    build_seconds = time.perf_counter() - started

    tuning_seconds = num_leaves_to_search = num_reordering_candidates = None
    if isinstance(index, ScannIndex):
        started = time.perf_counter()
        tune(index, candidates, tuning, K, TARGET_RECALL)
        tuning_seconds = time.perf_counter() - started
        num_leaves_to_search = index.search_parameters.num_leaves_to_search
        num_reordering_candidates = index.search_parameters.num_reordering_candidates

    # Traced after tuning, so that ScaNN's parameters are those that tuning has set.
    @tf.function(input_signature=[tf.TensorSpec([None, DIMENSION], tf.float32)])
    def search(batch: tf.Tensor) -> tf.Tensor:
        return index.search(batch, K)[1]

    ones = [tf.constant(queries[i : i + 1]) for i in range(_NUM_SINGLE_QUERIES)]
    search(ones[0])
    return IndexMeasurement(
        build_seconds=build_seconds,
        tuning_seconds=tuning_seconds,
        recall_at_100=recall(search_all(search, queries), truth),
        latency_ms_p50_batch_1=1000 * float(np.median([seconds(search, one) for one in ones])),
        queries_per_second_batch_64=queries_per_second(search, queries),
        num_leaves=index.num_leaves if isinstance(index, ScannIndex) else None,
        num_leaves_to_search=num_leaves_to_search,
        num_reordering_candidates=num_reordering_candidates,
        setting=None,
        peak_mb=0.0,
    )


def _measure_peer(kind: str, folder: Path) -> IndexMeasurement:
    candidates, tuning, queries, truth = (
        np.load(folder / f"{name}.npy") for name in ("candidates", "tuning", "queries", "truth")
    )
    started = time.perf_counter()
    num_lists = max(1, round(len(candidates) ** 0.5))
    peer = FaissIndex(candidates, num_lists) if kind == FAISS else HnswIndex(candidates, _SEED)
    peer.search(queries[:1], K)
    build_seconds = time.perf_counter() - started

    started = time.perf_counter()
    exact = exact_top_k(candidates, tuning, K)
    setting = tune_peer(peer, tuning, K, TARGET_RECALL, lambda found: _recall(found, exact))
    tuning_seconds = time.perf_counter() - started

    def seconds(batch: np.ndarray) -> float:
        before = time.perf_counter()
        peer.search(batch, K)
        return time.perf_counter() - before

    batch = queries[:_BATCH]
    batch_seconds = float(np.median([seconds(batch) for _ in range(_NUM_BATCHES)]))
    ones = [queries[i : i + 1] for i in range(_NUM_SINGLE_QUERIES)]
    return IndexMeasurement(
        build_seconds=build_seconds,
        tuning_seconds=tuning_seconds,
        recall_at_100=_recall(peer.search(queries, K), truth),
        latency_ms_p50_batch_1=1000 * float(np.median([seconds(one) for one in ones])),
        queries_per_second_batch_64=_BATCH / batch_seconds,
        num_leaves=None,
        num_leaves_to_search=None,
        num_reordering_candidates=None,
        setting=setting,
        peak_mb=0.0,
    )


def _recall(found: np.ndarray, truth: np.ndarray) -> float:
    """Computes the share of `truth` [n, k] that is in `found` [n, k], without TensorFlow."""
    shares = [np.isin(row, true).mean() for row, true in zip(truth, found, strict=True)]
    return float(np.mean(shares))
