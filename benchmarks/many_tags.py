"""Compares a large vocabulary with one of a thousand tags, each stage in a fresh process."""

import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import many_tags_stages as stages
from benchmarks.fresh_process import call_in_fresh_process
from benchmarks.registry import Figures, Progress
from benchmarks.resident_process import ResidentProcess
from benchmarks.results import OUTPUT_DIR
from benchmarks.size_option import one_size
from benchmarks.stage_meter import Stage
from tfx_pipeline.runs.local_server import local_server
from tfx_pipeline.terminal.tables import format_table

FEW_TAGS, MANY_TAGS = 1_000, 1_000_000
# Stages of a run; `fit` includes the validation.
STAGES = {
    "transform": "transform",
    "vocabularies": "vocabularies read",
    "estimate": "memory estimate",
    "fit": "an epoch of 40 steps, validation, checkpoint",
    "second_stage": "second stage chosen",
    "calibration": "calibration",
    "save": "towers and training state saved",
    "index_build": "towers loaded, index built",
    "index_tuning": "index tuned",
    "export": "both servables exported",
    "gate": "recall gate, from the files",
    "load": "server, from its start to the first answer",
}
TARGET_RATIO = 1.5

_ROUNDS, _STEPS = 7, 10
_BATCHES = {1: 100, 64: 20}  # number of calls, by users in a call
_CALLERS_SEED = 2


def run(progress: Progress) -> Figures:
    """Measures both sizes; see `benchmarks.registry.Benchmark`."""
    size = one_size(MANY_TAGS)
    if size <= FEW_TAGS:
        raise ValueError(f"`SIZE` must be above {FEW_TAGS} tags. Received: SIZE={size}.")
    figures: Figures = {"many_tags.num_tags": size}
    figures |= _measure_steps(progress, (FEW_TAGS, size))
    OUTPUT_DIR.mkdir(parents=True, exist_ok=True)
    for num_tags in (FEW_TAGS, size):
        with tempfile.TemporaryDirectory(prefix="many-tags-", dir=OUTPUT_DIR) as folder:
            figures |= flatten(num_tags, *_measure_stages(progress, folder, num_tags))
    return figures


def _measure_steps(progress: Progress, sizes: Sequence[int]) -> Figures:
    """Measures steps of both trainings in turns, so that a busy moment falls on both."""
    progress("steps: building both trainings")
    seconds: dict[int, list[float]] = {size: [] for size in sizes}
    with (
        ResidentProcess(stages.StepCase, sizes[0]) as few,
        ResidentProcess(stages.StepCase, sizes[1]) as many,
    ):
        cases = dict(zip(sizes, (few, many), strict=True))
        for case in cases.values():
            case.wait()
        for number in range(1, _ROUNDS + 1):
            progress(f"steps: round {number} of {_ROUNDS}")
            for size, case in cases.items():
                seconds[size].append(case.call("steps", _STEPS) / _STEPS)
        peaks = {size: case.peak_mb() for size, case in cases.items()}
    figures: Figures = {}
    for size in sizes:
        figures[f"many_tags.{size}.steps_per_second"] = 1 / statistics.median(seconds[size])
        figures[f"many_tags.{size}.steps_peak_mb"] = peaks[size]
    # Ratios are taken round by round, because the machine's load differs between rounds.
    pairs = zip(*(seconds[size] for size in sizes), strict=True)
    figures["many_tags.step_ratio"] = statistics.median(many / few for few, many in pairs)
    return figures


def _measure_stages(
    progress: Progress, folder: str, num_tags: int
) -> tuple[dict[str, Stage], dict[str, Any]]:
    """Measures stages by name, and other figures of one size."""

    def call(title: str, function: Any, *arguments: Any) -> Any:
        title = f"{num_tags:,} tags: {title}"
        return call_in_fresh_process(progress, title, function, *arguments)

    found = dict(call("transform", stages.write_transform, folder, num_tags))
    fitted = call("training", stages.train, folder, num_tags)
    found |= fitted.stages
    found |= call("index and servables", stages.build_index, folder)
    servable = stages.servable_path(folder)
    gate, measured = call("recall gate", stages.evaluate_index, folder, servable)
    found |= gate
    users = call("users", stages.instances, folder, max(_BATCHES), num_tags, _CALLERS_SEED)
    progress(f"{num_tags:,} tags: serving")
    base_path = Path(folder) / "serving"
    base_path.mkdir()
    (base_path / "1").symlink_to(servable, target_is_directory=True)
    log_path = OUTPUT_DIR / "logs" / f"many-tags-{num_tags}.log"
    figures: dict[str, Any] = {
        "estimate_mb": fitted.estimate_mb,
        "validation_seconds": fitted.validation_seconds,
        "recall_at_100": measured["recall"],
        "index_queries_per_second_batch_64": measured["queries_per_second_batch_64"],
        "towers_mb": _folder_mb(Path(folder) / stages.TOWERS),
        "servable_mb": _folder_mb(servable),
    }
    with local_server(base_path, log_path) as server:
        found["load"] = Stage(server.startup_seconds, server.memory_mb)
        for size, milliseconds in _time_calls(server.port, users).items():
            figures[f"retrieve_ms_p50_batch_{size}"] = milliseconds
        figures["serving_memory_mb"] = server.memory_mb
    return found, figures


def _time_calls(port: int, users: Sequence[dict[str, Any]]) -> dict[int, float]:
    """Measures the median milliseconds of `retrieve` over gRPC, by users in a call."""
    from serving.client import TagClient

    medians = {}
    with TagClient(f"localhost:{port}") as client:
        for size, count in _BATCHES.items():
            client.retrieve(users[:size])
            times = []
            for i in range(count):
                first = i * size % (len(users) - size + 1)
                started = time.perf_counter()
                client.retrieve(users[first : first + size])
                times.append(time.perf_counter() - started)
            medians[size] = 1000 * statistics.median(times)
    return medians


def flatten(num_tags: int, found: Mapping[str, Stage], others: Mapping[str, Any]) -> Figures:
    """Returns the figures of one size by key."""
    figures: Figures = {}
    for name in STAGES:
        figures[f"many_tags.{num_tags}.{name}.seconds"] = found[name].seconds
        figures[f"many_tags.{num_tags}.{name}.peak_mb"] = found[name].peak_mb
    return figures | {f"many_tags.{num_tags}.{name}": value for name, value in others.items()}


def table(figures: Figures) -> str:
    """Formats a table: a row for each stage with seconds and memory of both sizes, then others."""
    sizes = (FEW_TAGS, int(figures["many_tags.num_tags"] or 0))
    header = [f"{size:,} tags: {unit}" for size in sizes for unit in ("s", "peak MB")]
    keys = [f"many_tags.{size}" for size in sizes]
    rows = [
        [title, *(figures[f"{k}.{name}.{unit}"] for k in keys for unit in ("seconds", "peak_mb"))]
        for name, title in STAGES.items()
    ]
    others = (
        ("training steps/s", "steps_per_second"),
        ("peak MB of the steps alone", "steps_peak_mb"),
        ("estimate before training, MB", "estimate_mb"),
        ("validation of 256 users, s", "validation_seconds"),
        ("recall@100", "recall_at_100"),
        ("retrieve, batch 1, p50 ms", "retrieve_ms_p50_batch_1"),
        ("retrieve, batch 64, p50 ms", "retrieve_ms_p50_batch_64"),
        ("memory of the server, MB", "serving_memory_mb"),
        ("towers on disk, MB", "towers_mb"),
        ("servable on disk, MB", "servable_mb"),
    )
    ratio = float(figures["many_tags.step_ratio"] or 0)
    verdict = "met" if ratio <= TARGET_RATIO else "NOT MET"
    return "\n".join(
        [
            format_table(["stage", *header], rows),
            "",
            format_table(
                ["figure", *(f"{size:,} tags" for size in sizes)],
                [[title, *(figures[f"{key}.{name}"] for key in keys)] for title, name in others],
            ),
            "",
            f"a step over many tags takes {ratio:.2f} times one over {FEW_TAGS:,} "
            f"(target: at most {TARGET_RATIO}): {verdict}",
        ]
    )


def faults(figures: Figures) -> list[str]:
    """Reports a recall below the gate's, with which no version would be pushed."""
    return [
        f"{key} is {value:.4f}, must be at least {stages.TARGET_RECALL}"
        for key, value in figures.items()
        if key.endswith(".recall_at_100") and float(value or 0) < stages.TARGET_RECALL
    ]


def _folder_mb(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
