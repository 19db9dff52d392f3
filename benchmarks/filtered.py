"""Compares `retrieve_filtered` with `retrieve`, in process and over gRPC, call by call in turns.

The ScaNN servable has a user tower that costs nothing (`benchmarks.lookup_servable`), so that
ratios are those of the search: with a real tower they are nearer to 1. `similar_tags` is measured,
too.
"""

import dataclasses
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fresh_process import call_in_fresh_process
from benchmarks.gaussian_mixture import exact_top_k
from benchmarks.lookup_servable import K, MadeUpTags, export_lookup_servable
from benchmarks.registry import Figures, Progress
from benchmarks.results import OUTPUT_DIR
from benchmarks.size_option import one_size
from tfx_pipeline.runs.local_server import local_server
from tfx_pipeline.terminal.tables import format_table

DEFAULT_SIZE = 100_000  # tags
IN_PROCESS, GRPC = "in_process", "grpc"
NUM_CALLS = {1: 200, 64: 40}  # calls of each case, by batch size
RETRIEVE, SIMILAR = "retrieve", "similar_tags"
NUM_EXCLUDED = 100
# Whether the user's best tags are excluded, and the allowed categories, by case.
RULES: Mapping[str, tuple[bool, tuple[str, ...]]] = {
    "no_rule": (False, ()),
    "exclusions": (True, ()),
    "hundredth": (False, ("hundredth",)),
    "half": (False, ("half",)),
}
CASES = (RETRIEVE, *RULES, SIMILAR)

_NUM_USERS = 512
_NUM_WARM_UP_CALLS = 5
_MIN_TAGS = 20_000
_SERVING, _MADE_UP = "serving", "made_up.npz"

# Function from numbers of users to their answer.
Call = Callable[[Sequence[int]], Any]


@dataclasses.dataclass(frozen=True)
class CaseMeasurement:
    """Latency of one case; the keys are `filtered.<interface>.batch_<n>.<case>.<attribute>`.

    Attributes:
      latency_ms_p50: Milliseconds of a call, median.
      over_retrieve: Ratio of the latency to that of `retrieve`, whose calls were in between.
    """

    latency_ms_p50: float
    over_retrieve: float


Measured = dict[int, dict[str, CaseMeasurement]]  # by batch size and case


def run(progress: Progress) -> Figures:
    """Measures both interfaces; see `benchmarks.registry.Benchmark`."""
    size = one_size(DEFAULT_SIZE)
    if size < _MIN_TAGS:
        raise ValueError(f"`SIZE` must be at least {_MIN_TAGS} tags. Received: SIZE={size}.")
    OUTPUT_DIR.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="filtered-", dir=OUTPUT_DIR) as name:
        folder = Path(name)
        call_in_fresh_process(progress, f"{size:,} tags: index and servable", make, name, size)
        in_process, recalls = call_in_fresh_process(
            progress, "in process", measure_in_process, name
        )
        progress("starting the server ...")
        log_path = OUTPUT_DIR / "logs" / "filtered-server.log"
        with local_server(folder / _SERVING, log_path) as server:
            progress("gRPC ...")
            over_grpc = measure_over_grpc(server.port, read_made_up(folder))
    figures: Figures = {"filtered.num_tags": size}
    return figures | flatten({IN_PROCESS: in_process, GRPC: over_grpc}, recalls)


def flatten(found: Mapping[str, Measured], recalls: Mapping[str, float]) -> Figures:
    """Returns the figures of all cases by key."""
    figures: Figures = {
        f"filtered.{interface}.batch_{batch_size}.{case}.{name}": value
        for interface, by_batch in found.items()
        for batch_size, by_case in by_batch.items()
        for case, measured in by_case.items()
        for name, value in dataclasses.asdict(measured).items()
        if (case, name) != (RETRIEVE, "over_retrieve")
    }
    return figures | {f"filtered.{case}.recall_at_{K}": share for case, share in recalls.items()}


def table(figures: Figures) -> str:
    """Formats a table: a row for each case, two columns for each interface and batch size."""
    columns = [(i, batch_size) for i in (IN_PROCESS, GRPC) for batch_size in NUM_CALLS]
    rows = []
    for case in CASES:
        row: list[Any] = [case.replace("_", " "), figures.get(f"filtered.{case}.recall_at_{K}")]
        for interface, batch_size in columns:
            key = f"filtered.{interface}.batch_{batch_size}.{case}"
            row += [figures[f"{key}.latency_ms_p50"], figures.get(f"{key}.over_retrieve")]
        rows.append(row)
    titles = [
        title
        for interface, batch_size in columns
        for title in (f"{interface.replace('_', ' ')} {batch_size}, ms", "x retrieve")
    ]
    return format_table(["case", f"recall@{K}", *titles], rows)


def faults(figures: Figures) -> list[str]:
    """Reports cases with too low a recall, which for these vectors depends on the code alone."""
    return [
        f"`{key}` must be at least 0.98. Received: {value:.3f}."
        for key, value in figures.items()
        if key.endswith(f".recall_at_{K}") and isinstance(value, float) and value < 0.98
    ]


def make(folder: str, num_tags: int) -> None:
    """Writes the servable, and the made-up tags from which it was made."""
    made_up = MadeUpTags.draw(num_tags, _NUM_USERS)
    columns = {field.name: getattr(made_up, field.name) for field in dataclasses.fields(made_up)}
    columns["categories"] = made_up.categories.astype(str)
    np.savez(Path(folder) / _MADE_UP, **columns)
    export_lookup_servable(made_up, Path(folder) / _SERVING / "1")


def read_made_up(folder: Path) -> MadeUpTags:
    """Reads the made-up tags that `make` wrote."""
    with np.load(folder / _MADE_UP) as columns:
        return MadeUpTags(**columns)


def measure_in_process(folder: str) -> tuple[Measured, dict[str, float]]:
    """Times calls of a version that this process loads, and computes recall by rule."""
    from serving.model_server.session.predict import run_signature
    from serving.model_server.session.servable import Servable
    from tagtower_client.feature_tensors import input_slots, to_list_tensor, to_tensors
    from trainer.contract import signatures as s

    servable = Servable(str(Path(folder) / _SERVING / "1"))
    slots = input_slots(servable.signature_defs[s.RETRIEVE])

    def ask(signature: str, tensors: Mapping[str, np.ndarray]) -> list[list[str]]:
        outputs = run_signature(servable, servable.signatures[signature], dict(tensors))
        outputs[s.SCORES].tolist()
        return [[tag.decode() for tag in row] for row in outputs[s.TAGS].tolist()]

    def retrieve(instances: Sequence[Mapping[str, str]]) -> list[list[str]]:
        return ask(s.RETRIEVE, to_tensors(instances, slots))

    def retrieve_filtered(
        instances: Sequence[Mapping[str, str]],
        *,
        exclude_tags: Sequence[Sequence[str]],
        allow_categories: Sequence[Sequence[str]],
    ) -> list[list[str]]:
        tensors = to_tensors(instances, slots)
        tensors[s.EXCLUDE_TAGS] = to_list_tensor("exclude_tags", exclude_tags, len(instances))
        tensors[s.ALLOW_CATEGORIES] = to_list_tensor(
            "allow_categories", allow_categories, len(instances)
        )
        return ask(s.RETRIEVE_FILTERED, tensors)

    def similar_tags(tags: Sequence[str]) -> list[list[str]]:
        asked = np.array([tag.encode() for tag in tags], object)
        return ask(s.SIMILAR_TAGS, {s.SIMILAR_TO: asked})

    made_up = read_made_up(Path(folder))
    calls = make_calls(made_up, retrieve, retrieve_filtered, similar_tags)
    return measure(calls), {case: recall_of(made_up, case, calls[case]) for case in RULES}


def measure_over_grpc(port: int, made_up: MadeUpTags) -> Measured:
    """Times the calls of a client over gRPC."""
    from serving.client import TagClient

    with TagClient(f"localhost:{port}", timeout_s=60) as client:
        calls = make_calls(made_up, client.retrieve, client.retrieve_filtered, client.similar_tags)
        return measure(calls)


def make_calls(
    made_up: MadeUpTags,
    retrieve: Callable[..., Any],
    retrieve_filtered: Callable[..., Any],
    similar_tags: Callable[..., Any],
) -> dict[str, Call]:
    """Makes the call of each case for users by number; `similar_tags` asks for as many tags."""
    best = exact_top_k(made_up.vectors, made_up.queries, NUM_EXCLUDED)
    names = [f"t{j}" for j in range(len(made_up.vectors))]
    excluded = [[names[j] for j in row] for row in best]

    def with_rules(case: str) -> Call:
        excludes_best, categories = RULES[case]

        def call(users: Sequence[int]) -> Any:
            return retrieve_filtered(
                [{"user": str(user)} for user in users],
                exclude_tags=[excluded[user] if excludes_best else [] for user in users],
                allow_categories=[categories] * len(users),
            )

        return call

    return {
        RETRIEVE: lambda users: retrieve([{"user": str(user)} for user in users]),
        **{case: with_rules(case) for case in RULES},
        SIMILAR: lambda users: similar_tags([names[user] for user in users]),
    }


def measure(calls: Mapping[str, Call]) -> Measured:
    """Times every case at every batch size, in turns, so that the machine's load is the same."""
    found: Measured = {}
    for batch_size, num_calls in NUM_CALLS.items():
        seconds: dict[str, list[float]] = {case: [] for case in calls}
        for i in range(_NUM_WARM_UP_CALLS + num_calls):
            users = [(i * batch_size + j) % _NUM_USERS for j in range(batch_size)]
            for case, call in calls.items():
                started = time.perf_counter()
                call(users)
                seconds[case].append(time.perf_counter() - started)
        counted = {case: row[_NUM_WARM_UP_CALLS:] for case, row in seconds.items()}
        found[batch_size] = summarize(counted)
    return found


def summarize(seconds: Mapping[str, Sequence[float]]) -> dict[str, CaseMeasurement]:
    """Computes the figures of cases from the seconds of their calls."""
    medians = {case: 1000 * float(np.median(row)) for case, row in seconds.items()}
    return {
        case: CaseMeasurement(median, median / medians[RETRIEVE])
        for case, median in medians.items()
    }


def recall_of(made_up: MadeUpTags, case: str, call: Call) -> float:
    """Computes the share of the exact best allowed tags that a rule returns, mean over users."""
    excludes_best, categories = RULES[case]
    is_allowed = np.isin(made_up.categories, categories) | (not categories)
    best = exact_top_k(made_up.vectors, made_up.queries, NUM_EXCLUDED)
    shares = []
    for first in range(0, _NUM_USERS, 64):
        users = range(first, min(first + 64, _NUM_USERS))
        for user, tags in zip(users, call(users), strict=True):
            scores = np.where(is_allowed, made_up.vectors @ made_up.queries[user], -np.inf)
            if excludes_best:
                scores[best[user]] = -np.inf
            expected = np.argpartition(-scores, K - 1)[:K]
            found = [int(tag[1:]) for tag in tags if tag]
            shares.append(len(np.intersect1d(found, expected)) / K)
    return float(np.mean(shares))
