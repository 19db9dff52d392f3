"""Collects `report.json` of a run, with flat keys (docs/report.md), from the artifacts.

The module changes nothing: `outcome` pushes, and links outputs.
"""

import os
from collections.abc import Iterable, Mapping
from typing import Any

from tfx.utils import path_utils

from tfx_pipeline.artifacts.json_files import read_artifact_json
from tfx_pipeline.components.drift_validator import VALIDATOR_ID, drift_rows
from tfx_pipeline.components.evaluator import GATE_FILE, METRICS_FILE
from tfx_pipeline.components.example_gen import WINDOW_FILE
from tfx_pipeline.components.tag_index_evaluator import INDEX_EVALUATION_FILE
from tfx_pipeline.config.pipeline import PipelineConfig
from tfx_pipeline.evaluation.gate import Check, check_index
from tfx_pipeline.evaluation.planted_score import score_planted
from tfx_pipeline.examples.notes import read_summary
from tfx_pipeline.runs.local_runner import NodeRun
from tfx_pipeline.versions.servable_paths import INDEX_FILE
from trainer.contract.config_loader import from_saved
from trainer.contract.file_system import absolute
from trainer.evaluation.linear_path import LinearPath
from trainer.evaluation.tag_rows import counting_domain
from trainer.task import TRAINING_FILE


class NodeOutputs:
    """The results of a run's nodes with their output folders.

    Args:
      nodes: Results of the nodes.
    """

    def __init__(self, nodes: Iterable[NodeRun]):
        self.runs = {run.node: run for run in nodes}

    def uri(self, node: str, output: str) -> str:
        """Returns the folder of a node's output; a node that did not run has none."""
        uri: str = self.runs[node].outputs[output][0].uri
        return uri


def build_report(config: PipelineConfig, outputs: NodeOutputs) -> tuple[dict[str, Any], list[str]]:
    """Collects the report of a run from its artifacts, without changing anything.

    Args:
      config: Configuration of the run.
      outputs: Outputs of the nodes.

    Returns:
      The flat report; and the checks that hold the push, in words.
    """
    report: dict[str, Any] = {"run.name": config.name, "run.seed": config.seed}
    report |= _row_rows(config, outputs)
    # Paths in the form that versions record: see `artifacts.places`.
    report["run.examples"] = absolute(outputs.uri("ExampleGen", "examples"))
    report["run.statistics"] = absolute(outputs.uri("StatisticsGen", "statistics"))
    if VALIDATOR_ID in outputs.runs:
        report |= drift_rows(outputs.runs[VALIDATOR_ID].outputs["anomalies"][0])
    report |= _training_rows(outputs.uri("Trainer", "model"))
    report |= _evaluation_rows(outputs.uri("Evaluator", "evaluation"))
    model_checks = _model_checks(outputs.uri("Evaluator", "evaluation"))
    failed = [str(check) for check in model_checks if not check.is_passed]
    report["gate.is_model_blessed"] = not failed
    unsure = [str(check) for check in model_checks if check.is_warning]
    report["gate.warnings"] = "\n".join(unsure) or None
    rows, index_check = _index_rows(config, outputs)
    report |= rows
    report["gate.is_index_blessed"] = index_check.is_passed
    if not index_check.is_passed:
        failed.append(str(index_check))
    for run in outputs.runs.values():
        report[f"time.{run.node}_seconds"] = run.seconds
        report[f"cached.{run.node}"] = run.is_cached
    return report, failed


def planted_rows(config: PipelineConfig, outputs: NodeOutputs) -> dict[str, Any]:
    """Returns how well planted interests are found; empty where the log has none."""
    if not config.data.planted:
        return {}
    return score_planted(
        config.data.planted,
        path_utils.serving_model_path(outputs.uri("TagIndexBuilder", "servable")),
        os.path.join(outputs.uri("ExampleGen", "examples"), "Split-test", "*"),
        config.data.tag_normalization,
        counting_domain(config.features, "skipped"),
    )


def _row_rows(config: PipelineConfig, outputs: NodeOutputs) -> dict[str, Any]:
    """Returns the counts of rows read, and the days they are from."""
    summary = outputs.uri("ExampleGen", "summary")
    counts, forms = read_summary(summary)
    report: dict[str, Any] = {**counts, **forms}
    if config.data.window is not None:
        report |= read_artifact_json(os.path.join(summary, WINDOW_FILE))
    report["rows.read"] = sum(n for key, n in report.items() if key.startswith("rows.read."))
    return report


def _training_rows(model_uri: str) -> dict[str, Any]:
    training = read_artifact_json(
        os.path.join(path_utils.serving_model_path(model_uri), TRAINING_FILE)
    )
    report = budget_rows(training["fit"])
    linear_path = from_saved(LinearPath, training.get("linear_path"), "linear_path")
    report["train.linear_path"] = str(linear_path)
    for name, value in training.get("memory_estimate", {}).items():
        report[f"train.memory_estimate.{name}"] = value
    return report | warm_start_rows(training["warm_start"] or {})


def _evaluation_rows(uri: str) -> dict[str, Any]:
    report = {}
    for name, value in read_artifact_json(os.path.join(uri, METRICS_FILE)).items():
        split, _, rest = name.partition(".")
        if split == "test":
            report[f"eval.{rest}"] = value
        else:
            report[f"eval_validation.{rest}" if rest else f"eval.{name}"] = value
    return report


def _model_checks(uri: str) -> list[Check]:
    return [Check(**check) for check in read_artifact_json(os.path.join(uri, GATE_FILE), list)]


def _index_rows(config: PipelineConfig, outputs: NodeOutputs) -> tuple[dict[str, Any], Check]:
    """Returns the kind and the recall of the index, and the gate's check of the recall."""
    index = read_artifact_json(os.path.join(outputs.uri("TagIndexBuilder", "servable"), INDEX_FILE))
    measured = read_artifact_json(
        os.path.join(outputs.uri("TagIndexEvaluator", "evaluation"), INDEX_EVALUATION_FILE)
    )
    validation_recall = measured["validation"]["recall"]
    report = {
        "index.kind": index["kind"],
        "index.num_tags": index["num_tags"],
        "index.num_blocked_tags": index["num_blocked_tags"],
        "index.num_unknown_blocked_tags": len(index["unknown_blocked_tags"]),
        f"index.recall_at_{config.index.k}": measured["test"]["recall"],
        f"index.validation_recall_at_{config.index.k}": validation_recall,
    }
    for name in ("latency_ms_p50_batch_1", "queries_per_second_batch_64"):
        report[f"index.{name}"] = measured["test"][name]
    return report, check_index(validation_recall, config.index.target_recall)


def budget_rows(fit: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the length of a training and its budget.

    Args:
      fit: Mapping of the fields of `trainer.fitting.loop.FitResult`.

    Returns:
      Values by key of the report.
    """
    names = ("steps", "best_step", "epochs", "is_improving", "examples_per_second")
    times = ("seconds_per_epoch", "seconds_per_evaluation")
    report = {f"train.{name}": fit[name] for name in (*names, *times)}
    report["train.num_evaluations"] = len(fit["evaluated_steps"])
    budget = fit["budget"]
    report["train.budget_steps"] = budget["num_steps"]
    for name in ("batch_size", "steps_per_epoch", "evaluation_steps"):
        report[f"train.{name}"] = budget[name]
    return report


def warm_start_rows(by_vocabulary: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    """Returns how many rows a warm start kept, in total and by vocabulary.

    Args:
      by_vocabulary: Numbers of `kept`, `new` and `retired` rows by vocabulary; empty: there was no
        warm start.

    Returns:
      Numbers by key of the report; empty without a warm start.
    """
    report: dict[str, int] = {}
    for vocabulary, counts in by_vocabulary.items():
        for name, count in counts.items():
            total = f"train.warm_start.{name}_rows"
            report[total] = report.get(total, 0) + count
            report[f"train.warm_start.{vocabulary}.{name}_rows"] = count
    return report
