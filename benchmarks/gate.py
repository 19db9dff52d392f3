"""Measures how often the quality gate passes a model, on logs of noise and logs of interests.

Each log is made, prepared, trained on and evaluated as a run does it, with the default
configuration. On a log of noise items are shown by popularity and clicked with equal probability,
so that users do not differ: a model that is pushed there was pushed by luck. The other logs are as
large and as long.
"""

import dataclasses
import json
import logging
import os
import tempfile
from typing import Any

from benchmarks.fresh_process import call_in_fresh_process
from benchmarks.registry import Figures, Progress
from benchmarks.results import OUTPUT_DIR
from benchmarks.size_option import one_size
from tfx_pipeline.terminal.tables import format_table

DEFAULT_SIZE = 20  # logs of each kind
MAX_NOISE_PUSHED = 1  # of 20 logs
NOISE, INTERESTS = "noise", "interests"

_LOG: dict[str, Any] = {
    "num_users": 1_000,
    "num_tags": 500,
    "num_items": 2_000,
    "num_categories": 10,
    "events_per_user": 40,
}
_KINDS: dict[str, dict[str, Any]] = {
    NOISE: {
        "exposure_share": 0.0,
        "cross_interests_per_user": 0,  # interests that profile features tell
        "cross_exposure_share": 0.0,
        "click_probability": 0.3,
        "base_click_probability": 0.3,
    },
    INTERESTS: {},
}
_LAST_NODE = "Evaluator"


@dataclasses.dataclass(frozen=True)
class GateRun:
    """The gate's result for one log; the keys are `gate.<kind>.seed_<n>.<attribute>`.

    Attributes:
      is_passed: 1 if every check passed, else 0.
      num_users: Number of validation users on whom model and baselines are compared.
      precision_at_10: Precision of the model on these users.
      best_precision_at_10: Precision of the best baseline that the gate compares with.
      failed: Descriptions of the checks that failed.
    """

    is_passed: int
    num_users: int | None
    precision_at_10: float | None
    best_precision_at_10: float
    failed: str


def run(progress: Progress) -> Figures:
    """Measures all logs; see `benchmarks.registry.Benchmark`."""
    num_logs = one_size(DEFAULT_SIZE)
    OUTPUT_DIR.mkdir(parents=True, exist_ok=True)
    figures: Figures = {"gate.num_logs": num_logs}
    for kind in _KINDS:
        passed = 0
        for seed in range(num_logs):
            with tempfile.TemporaryDirectory(prefix="gate-", dir=OUTPUT_DIR) as folder:
                title = f"{kind}, log {seed + 1} of {num_logs} ({passed} passed so far)"
                found = call_in_fresh_process(progress, title, measure, folder, kind, seed)
            passed += found.is_passed
            for name, value in dataclasses.asdict(found).items():
                figures[f"gate.{kind}.seed_{seed}.{name}"] = value
        figures[f"gate.{kind}.num_passed"] = passed
    return figures


def measure(folder: str, kind: str, seed: int) -> GateRun:
    """Runs the pipeline's nodes up to the gate on a log.

    Args:
      folder: An empty folder.
      kind: Kind of the log, a key of `_KINDS`.
      seed: Seed of the log and of the run.

    Returns:
      The gate's result.
    """
    from tfx_pipeline.components.evaluator import GATE_FILE
    from tfx_pipeline.config.pipeline import load_config
    from tfx_pipeline.datasets.demo import prepare_demo
    from tfx_pipeline.datasets.demo_config import DemoConfig
    from tfx_pipeline.pipeline import create_pipeline
    from tfx_pipeline.pipeline_inputs import find_inputs
    from tfx_pipeline.runs.run import run_nodes
    from tfx_pipeline.terminal.console import PROGRESS_LOGGER, Console, quiet_libraries

    tables = os.path.join(folder, "tables")
    prepare_demo(tables, DemoConfig(**_LOG, **_KINDS[kind], seed=seed))
    config = load_config("demo", output=os.path.join(folder, "run"), seed=seed)
    data = dataclasses.replace(
        config.data,
        interactions=os.path.join(tables, "interactions"),
        items=os.path.join(tables, "items.parquet"),
        users=os.path.join(tables, "users.parquet"),
        planted=None,
    )
    config = dataclasses.replace(config, data=data)
    os.makedirs(config.output_dir)
    with quiet_libraries(os.path.join(folder, "log.txt")), open(os.devnull, "w") as nowhere:
        logging.getLogger(PROGRESS_LOGGER).setLevel(logging.WARNING)
        nodes = run_nodes(
            create_pipeline(config, find_inputs(config), until=_LAST_NODE), Console(nowhere)
        )
    evaluation = next(run.outputs["evaluation"][0].uri for run in nodes if run.node == _LAST_NODE)
    with open(os.path.join(evaluation, GATE_FILE), encoding="utf-8") as file:
        checks = json.load(file)
    first = checks[0]
    return GateRun(
        is_passed=int(all(check["is_passed"] for check in checks)),
        num_users=first["num_users"],
        precision_at_10=first["value"],
        best_precision_at_10=first["bound"],
        failed="; ".join(check["name"] for check in checks if not check["is_passed"]),
    )


def table(figures: Figures) -> str:
    """Formats a table with a row for each kind of log."""
    num_logs = figures["gate.num_logs"]
    rows = []
    for kind in _KINDS:
        failed: dict[str, int] = {}
        for seed in range(int(num_logs or 0)):
            for name in str(figures[f"gate.{kind}.seed_{seed}.failed"]).split("; "):
                failed[name] = failed.get(name, 0) + 1
        failed.pop("", None)
        reasons = ", ".join(f"{name} ({count})" for name, count in failed.items())
        rows.append([kind, num_logs, figures[f"gate.{kind}.num_passed"], reasons or "-"])
    return format_table(["logs of", "logs", "passed", "checks that failed"], rows)


def faults(figures: Figures) -> list[str]:
    """Reports if more than one of twenty logs of noise passed, or one of interests did not."""
    num_logs = int(figures["gate.num_logs"] or 0)
    allowed = MAX_NOISE_PUSHED * num_logs // DEFAULT_SIZE
    found = []
    if int(figures[f"gate.{NOISE}.num_passed"] or 0) > allowed:
        found.append(f"more than {allowed} of {num_logs} logs of noise passed the gate")
    if int(figures[f"gate.{INTERESTS}.num_passed"] or 0) < num_logs:
        found.append("a log with interests did not pass the gate")
    return found
