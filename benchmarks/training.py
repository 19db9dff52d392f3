"""Measures the speed of training, of its step and of its input, beside two peers on the same users.

Speed is counted in label examples a second. A label example is one (user snapshot, tag clicked
later) pair, or one impression, that enters a loss. Its cost differs between tagtower and a peer by
design: tagtower runs the user tower once for all labels of a snapshot, some 250 on MovieLens-1M,
and a peer runs it once for every label. So the benchmark also reports snapshots a second, the runs
of the user tower, and their ratio, which compares tower with tower.

Every case has a process of its own, built before anything is measured; they measure in turns, round
by round, so that a busy moment of the machine does not fall on one of them alone. Figures are
medians over rounds, ratios are those of the medians.
"""

import contextlib
import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import training_data
from benchmarks.registry import Figures, Progress
from benchmarks.resident_process import ResidentProcess
from benchmarks.results import OUTPUT_DIR
from benchmarks.size_option import sizes
from tfx_pipeline.terminal.tables import format_table

if TYPE_CHECKING:
    from benchmarks.training_cases import Products, Work

DEFAULT_SIZES = (16, 64)
NUM_CORES = 2
NUM_ROUNDS = 5

TRAINING, STEP, INPUT = "training", "step_only", "input_only"
TWO_TOWER, DIRECT_UTPM = "peer.tfrs_two_tower", "peer.direct_utpm"
CASES = (TRAINING, STEP, INPUT, TWO_TOWER, DIRECT_UTPM)
PRODUCTS = "products"

_SECONDS = 2.0  # time of one case in one round

# Ratios as (key, description, target; None: without a target).
RATIOS = (
    ("training_over_direct_utpm", "training / direct UTPM, label examples", 3.0),
    ("input_over_step", "input alone / step alone, label examples", 1.0),
    ("training_over_tfrs_two_tower", "training / TFRS two-tower, label examples", None),
    ("snapshots_over_direct_utpm", "training / direct UTPM, user-tower runs", None),
    ("values_over_direct_utpm", "training / direct UTPM, history values read", None),
)


def run(progress: Progress) -> Figures:
    """Measures every case at every size; see `benchmarks.registry.Benchmark`."""
    dimensions = sizes(DEFAULT_SIZES)
    log = training_data.find_log()
    if log.name != training_data.MOVIELENS:
        progress("no MovieLens-1M in MOVIELENS_DIR: a SYNTHETIC demo log instead")
    arrays = training_data.prepare(log, OUTPUT_DIR / "training" / log.name, progress)
    figures: Figures = {
        "training.log": log.name,
        "training.num_snapshots": training_data.describe(arrays)["num_snapshots"],
        "training.batch_size": log.config.training.batch_size,
        "training.num_cores": min(NUM_CORES, len(os.sched_getaffinity(0))),
    }
    rates: list[float] = []
    for dimension in dimensions:
        work, products, peaks = measure(log.name, arrays, dimension, progress)
        figures |= flatten(dimension, work, products, peaks)
        rates += [measured.square_flops_per_second for measured in products]
    figures["machine.matmul_gflops"] = statistics.median(rates) / 1e9
    for dimension in dimensions:
        figures |= fractions(dimension, figures)
    return figures


def measure(
    log_name: str, arrays: Path, dimension: int, progress: Progress
) -> tuple[dict[str, list["Work"]], list["Products"], dict[str, float]]:
    """Measures all cases at one size of the embeddings.

    Args:
      log_name: Name of the log.
      arrays: Folder of the log's arrays.
      dimension: E, size of the embeddings.
      progress: Function called with a line before each long step.

    Returns:
      Work by case and round; the matrix products by round; peak memory by case, in MB.
    """
    names = (*CASES, PRODUCTS)
    progress(f"E={dimension}: starting {len(names)} processes ...")
    with contextlib.ExitStack() as stack:
        processes = {
            name: stack.enter_context(
                ResidentProcess(make_case, name, log_name, arrays, dimension, num_cores=NUM_CORES)
            )
            for name in names
        }
        for process in processes.values():
            process.wait()
        progress(f"E={dimension}: compiling and warming up ...")
        # All warm up at once: tracing takes one core, and nothing is timed yet.
        warm_ups = [process.submit("warm_up", _SECONDS) for process in processes.values()]
        for warm_up in warm_ups:
            warm_up.result()
        found: dict[str, list[Any]] = {name: [] for name in names}
        for round_number in range(1, NUM_ROUNDS + 1):
            progress(f"E={dimension}: round {round_number} of {NUM_ROUNDS}")
            for name, process in processes.items():
                found[name].append(process.call("measure", _SECONDS))
        peaks = {name: processes[name].peak_mb() for name in CASES}
    products = found.pop(PRODUCTS)
    return found, products, peaks


def make_case(name: str, log_name: str, arrays: Path, dimension: int) -> Any:
    """Builds a case, in the process that will measure it."""
    from benchmarks import training_cases

    if name == PRODUCTS:
        return training_cases.ProductCase(log_name, arrays, dimension)
    if name.startswith("peer."):
        return training_cases.peer(name.removeprefix("peer."), log_name, arrays, dimension)
    return getattr(training_cases, name)(log_name, arrays, dimension)


def flatten(
    dimension: int,
    work: Mapping[str, Sequence["Work"]],
    products: Sequence["Products"],
    peaks: Mapping[str, float],
) -> Figures:
    """Returns the figures of one size by key, without those that need the machine's rate."""
    figures: Figures = {}
    for case, rounds in work.items():
        for key, attribute in (
            ("examples_per_second", "label_examples"),
            ("snapshots_per_second", "snapshots"),
            ("history_values_per_second", "history_values"),
        ):
            figures[f"{case}.{key}.e{dimension}"] = statistics.median(
                getattr(one, attribute) / one.seconds for one in rounds
            )
        figures[f"{case}.ms_per_step.e{dimension}"] = statistics.median(
            1000 * one.seconds / one.steps for one in rounds
        )
        figures[f"{case}.peak_mb.e{dimension}"] = peaks[case]
    figures[f"{STEP}.matmul_gflop.e{dimension}"] = products[0].flops / 1e9
    figures[f"{STEP}.matmul_ms.e{dimension}"] = statistics.median(
        1000 * one.seconds for one in products
    )

    def over(key: str, case: str, other: str) -> float:
        values = [figures[f"{name}.{key}.e{dimension}"] for name in (case, other)]
        return float(values[0] or 0) / float(values[1] or 0)

    ratios = {
        "training_over_direct_utpm": over("examples_per_second", TRAINING, DIRECT_UTPM),
        "input_over_step": over("examples_per_second", INPUT, STEP),
        "training_over_tfrs_two_tower": over("examples_per_second", TRAINING, TWO_TOWER),
        "snapshots_over_direct_utpm": over("snapshots_per_second", TRAINING, DIRECT_UTPM),
        "values_over_direct_utpm": over("history_values_per_second", TRAINING, DIRECT_UTPM),
    }
    return figures | {f"ratio.{key}.e{dimension}": value for key, value in ratios.items()}


def fractions(dimension: int, figures: Figures) -> Figures:
    """Computes the share of the machine's matrix-multiply rate that the step reaches.

    Args:
      dimension: E, size of the embeddings.
      figures: Figures of `flatten`, and `machine.matmul_gflops`.

    Returns:
      `matmul_fraction`, the rate of the step's products over the machine's rate; and
      `matmul_time_share`, the share of the step's time that its products would take alone.
    """
    ms = {
        key: float(figures[f"{STEP}.{key}.e{dimension}"] or 0)
        for key in ("ms_per_step", "matmul_ms", "matmul_gflop")
    }
    rate = ms["matmul_gflop"] / (ms["ms_per_step"] / 1000)
    return {
        f"{STEP}.matmul_fraction.e{dimension}": rate / float(figures["machine.matmul_gflops"] or 0),
        f"{STEP}.matmul_time_share.e{dimension}": ms["matmul_ms"] / ms["ms_per_step"],
    }


def table(figures: Figures) -> str:
    """Formats a table: a row for each case and size, then one for each ratio with its target."""
    columns = (
        ("label examples/s", "examples_per_second"),
        ("snapshots/s", "snapshots_per_second"),
        ("history values/s", "history_values_per_second"),
        ("ms/step", "ms_per_step"),
        ("peak MB", "peak_mb"),
        ("matmul fraction", "matmul_fraction"),
    )
    prefix = f"{TRAINING}.examples_per_second.e"
    dimensions = [int(k.removeprefix(prefix)) for k in figures if k.startswith(prefix)]
    rows = [
        [f"{case}, E={dimension}"]
        + [_number(figures.get(f"{case}.{name}.e{dimension}")) for _, name in columns]
        for dimension in dimensions
        for case in CASES
    ]
    comparisons = []
    for dimension in dimensions:
        for key, title, wanted in RATIOS:
            ratio = float(figures[f"ratio.{key}.e{dimension}"] or 0)
            target: list[str | None] = [None, None]
            if wanted is not None:
                target = [f">= {wanted:g}", "met" if ratio >= wanted else "NOT MET"]
            comparisons.append([f"{title}, E={dimension}", ratio, *target])
    is_real = figures["training.log"] == training_data.MOVIELENS
    return "\n".join(
        [
            f"log: {figures['training.log']}"
            + ("" if is_real else " (SYNTHETIC: no MovieLens-1M in MOVIELENS_DIR)"),
            format_table(["training", *(title for title, _ in columns)], rows),
            "",
            format_table(["ratio of medians", "measured", "target", ""], comparisons),
            "",
            "A label example is a (snapshot, later tag) pair or an impression that enters a loss. "
            "Ours has\nall labels of a snapshot for one run of the user tower, a peer runs its own "
            "once a label.\nPeers: the first 64 values of a domain, one label tag a row.",
        ]
    )


def faults(figures: Figures) -> list[str]:
    """Reports no faults: speed is none, and a loss that is not finite stops the benchmark."""
    del figures
    return []


def _number(value: Any) -> Any:
    """Formats large rates with separators."""
    return f"{value:,.0f}" if isinstance(value, float) and value >= 1000 else value
