"""`report.json` of a run: flat keys (docs/report.md), collected from the artifacts."""

import os
import shutil
from collections.abc import Iterable, Mapping
from typing import Any

from tfx.utils import path_utils

from tfx_pipeline.artifacts.json_files import read_artifact_json
from tfx_pipeline.components.drift_validator import VALIDATOR_ID, drift_rows
from tfx_pipeline.components.evaluator import GATE_FILE, METRICS_FILE
from tfx_pipeline.components.example_gen import WINDOW_FILE
from tfx_pipeline.components.pusher import (
    ensure_newest,
    mend_pushed,
    rolled_back_version,
    unpushed,
)
from tfx_pipeline.components.tag_index_evaluator import INDEX_EVALUATION_FILE
from tfx_pipeline.config.pipeline import PipelineConfig
from tfx_pipeline.evaluation.gate import Check, check_index
from tfx_pipeline.evaluation.planted_score import score_planted
from tfx_pipeline.examples.log_summary import ITEMS_FILE
from tfx_pipeline.examples.notes import read_summary
from tfx_pipeline.pipeline import REJECTED_DIR
from tfx_pipeline.runs.local_runner import NodeRun
from tfx_pipeline.tables.inputs import tag_normalization
from tfx_pipeline.versions.servable_paths import INDEX_FILE
from trainer.contract.config_loader import from_saved
from trainer.contract.file_system import absolute
from trainer.contract.whole_files import unfinished
from trainer.evaluation.linear_path import LinearPath
from trainer.evaluation.tag_rows import counting_domain
from trainer.task import TRAINING_FILE

# In the output folder: the instances of *now*, for batch prediction, and the prediction logs of
# TFX's BulkInferrer where the run has one.
INSTANCES_LINK = "instances"
INFERENCE_LINK = "inference_result"


def build_report(
    config: PipelineConfig, nodes: Iterable[NodeRun]
) -> tuple[dict[str, Any], list[str], str]:
    """Collects the report of a run.

    Args:
      config: The run's configuration.
      nodes: What each node did.

    Returns:
      The flat report; the checks that held the push, in words; the folder of the instances of
      *now*.
    """
    runs = {run.node: run for run in nodes}

    def uri(node: str, output: str) -> str:
        return runs[node].outputs[output][0].uri

    report: dict[str, Any] = {"run.name": config.name, "run.seed": config.seed}
    counts, forms = read_summary(uri("ExampleGen", "summary"))
    report |= counts | forms
    if config.data.window is not None:
        report |= read_artifact_json(os.path.join(uri("ExampleGen", "summary"), WINDOW_FILE))
    report["rows.read"] = sum(n for key, n in report.items() if key.startswith("rows.read."))

    # As versions call them: see `artifact_places`.
    report["run.examples"] = absolute(uri("ExampleGen", "examples"))
    report["run.statistics"] = absolute(uri("StatisticsGen", "statistics"))
    if VALIDATOR_ID in runs:
        report |= drift_rows(runs[VALIDATOR_ID].outputs["anomalies"][0])

    training = read_artifact_json(
        os.path.join(path_utils.serving_model_path(uri("Trainer", "model")), TRAINING_FILE)
    )
    report |= budget_rows(training["fit"])
    linear_path = from_saved(LinearPath, training.get("linear_path"), "linear_path")
    report["train.linear_path"] = str(linear_path)
    for name, value in training.get("memory_estimate", {}).items():
        report[f"train.memory_estimate.{name}"] = value
    report |= warm_start_rows(training["warm_start"] or {})

    evaluation = uri("Evaluator", "evaluation")
    for name, value in read_artifact_json(os.path.join(evaluation, METRICS_FILE)).items():
        split, _, rest = name.partition(".")
        if split == "test":
            report[f"eval.{rest}"] = value
        else:
            report[f"eval_validation.{rest}" if rest else f"eval.{name}"] = value
    judged = read_artifact_json(os.path.join(evaluation, GATE_FILE), list)
    checks = [Check(**check) for check in judged]
    failed = [str(check) for check in checks if not check.is_passed]
    report["gate.is_model_blessed"] = not failed
    unsure = [str(check) for check in checks if check.is_warning]
    report["gate.warnings"] = "\n".join(unsure) or None

    index = read_artifact_json(os.path.join(uri("TagIndexBuilder", "servable"), INDEX_FILE))
    measured = read_artifact_json(
        os.path.join(uri("TagIndexEvaluator", "evaluation"), INDEX_EVALUATION_FILE)
    )
    report["index.kind"] = index["kind"]
    report["index.num_tags"] = index["num_tags"]
    report["index.num_blocked_tags"] = index["num_blocked_tags"]
    report["index.num_unknown_blocked_tags"] = len(index["unknown_blocked_tags"])
    report[f"index.recall_at_{config.index.k}"] = measured["test"]["recall"]
    validation_recall = measured["validation"]["recall"]
    report[f"index.validation_recall_at_{config.index.k}"] = validation_recall
    for name in ("latency_ms_p50_batch_1", "queries_per_second_batch_64"):
        report[f"index.{name}"] = measured["test"][name]
    index_check = check_index(validation_recall, config.index.target_recall)
    report["gate.is_index_blessed"] = index_check.is_passed
    if not index_check.is_passed:
        failed.append(str(index_check))

    facts = {"run": config.name, "recall": validation_recall}
    paths = (
        absolute(config.base_path),
        absolute(config.exact_base_path) if config.exact_base_path else "",
    )
    servable = uri("TagIndexBuilder", "servable")
    mend_pushed(uri("Pusher", "pushed_model"), lambda: unpushed(paths, not failed, facts, servable))
    report["push.version"] = ensure_newest(
        uri("Pusher", "pushed_model"), uri("TagIndexBuilder", "servable")
    )
    withdrawn = rolled_back_version(uri("Pusher", "pushed_model"))
    if withdrawn is not None and not failed:
        failed.append(
            f"version {withdrawn} of these towers was rolled back; `tagtower rollback "
            f"--to {withdrawn}` serves it again"
        )
    instances_dir = uri("ExampleGen", "instances")
    _publish(instances_dir, os.path.join(config.output_dir, INSTANCES_LINK))
    _publish(
        os.path.join(uri("ExampleGen", "summary"), ITEMS_FILE),
        os.path.join(config.output_dir, ITEMS_FILE),
    )
    inference_link = os.path.join(config.output_dir, INFERENCE_LINK)
    if "BulkInferrer" in runs and report["gate.is_model_blessed"]:
        _publish(uri("BulkInferrer", "inference_result"), inference_link)
    elif os.path.lexists(inference_link):  # of an earlier run
        os.remove(inference_link)
    _copy_rejected(
        os.path.join(uri("ExampleGen", "summary"), REJECTED_DIR),
        os.path.join(config.output_dir, REJECTED_DIR),
    )
    if config.data.planted:
        servable = path_utils.serving_model_path(uri("TagIndexBuilder", "servable"))
        test_users = os.path.join(uri("ExampleGen", "examples"), "Split-test", "*")
        normalization = tag_normalization(config.data)
        report |= score_planted(
            config.data.planted,
            servable,
            test_users,
            normalization,
            counting_domain(config.features, "skipped"),
        )
    for run in runs.values():
        report[f"time.{run.node}_seconds"] = run.seconds
        report[f"cached.{run.node}"] = run.is_cached
    return report, failed, instances_dir


def budget_rows(fit: Mapping[str, Any]) -> dict[str, Any]:
    """How long a training was, and how long it might have been.

    Args:
      fit: `trainer.fitting.loop.FitResult` as a mapping.

    Returns:
      Keys of the report.
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
    """What a warm start kept, in all and by vocabulary.

    Args:
      by_vocabulary: Numbers of `kept`, `new` and `retired` rows; empty: there was no warm start.

    Returns:
      Keys of the report; none without a warm start.
    """
    report: dict[str, int] = {}
    for vocabulary, counts in by_vocabulary.items():
        for name, count in counts.items():
            total = f"train.warm_start.{name}_rows"
            report[total] = report.get(total, 0) + count
            report[f"train.warm_start.{vocabulary}.{name}_rows"] = count
    return report


def _publish(target: str, link: str) -> None:
    """Points a link in the output folder at an artifact, whatever it pointed at before."""
    temporary = unfinished(link)
    # From the folder it is in, so that it holds when the output folder is moved.
    os.symlink(os.path.relpath(target, os.path.realpath(os.path.dirname(link))), temporary)
    os.replace(temporary, link)


def _copy_rejected(kept: str, shown: str) -> None:
    """Shows the rows set aside of the tables of this run, also where they come from the cache."""
    shutil.rmtree(shown, ignore_errors=True)
    if os.path.isdir(kept):
        shutil.copytree(kept, shown)
