"""ModelEvaluator: the protocol's figures and the quality gate.

TFX's Evaluator does not fit the protocol: TFMA's set metrics (`SetMatchPrecision`,
`SetMatchRecall`) support neither lists without each user's own tags, nor GAUC, nor distinct lists,
and its baselines are models, while popularity and own history are not. The verdict is a
`ModelBlessing` as in TFX, so stock components and resolvers understand it.
"""

import dataclasses
import json
import os
from collections.abc import Collection, Mapping, Sequence

import tensorflow_transform as tft
from tfx import v1 as tfx
from tfx.components.evaluator import constants
from tfx.components.evaluator import executor as stock_executor
from tfx.dsl.components.base import executor_spec
from tfx.types import artifact_utils
from tfx.types.artifact import Artifact
from tfx.utils import path_utils

from tfx_pipeline.components.artifacts import LogSummary
from tfx_pipeline.config.gate import GateConfig
from tfx_pipeline.evaluation.figures import (
    Figures,
    UserFigures,
    evaluate_baselines,
    evaluate_model_and_users,
)
from tfx_pipeline.evaluation.gate import Check, check_model
from tfx_pipeline.evaluation.held_out_items import load_tag_items, read_held_out_items
from tfx_pipeline.evaluation.saved_model_scorer import read_second_stage
from tfx_pipeline.examples.log_summary import ITEMS_FILE, TAGS_FILE
from tfx_pipeline.versions.ancestry import other_model
from trainer.contract import features as f
from trainer.contract.config_loader import from_saved
from trainer.contract.manifest import check_manifest
from trainer.contract.memory import describe_memory
from trainer.contract.whole_files import write_json, write_text
from trainer.data.input_data import load_snapshots, load_tags
from trainer.data.snapshots import Snapshots
from trainer.evaluation.baselines import load_tag_clicks
from trainer.evaluation.baselines_config import BaselinesConfig
from trainer.evaluation.fitted_baselines import (
    FittedBaselines,
    columns_of_training,
    fit_baselines,
)

METRICS_FILE = "metrics.json"
GATE_FILE = "gate.json"
_EVALUATED = ("validation", "test")
_NOT_COMPARED = "Nothing is compared with it; roll its version back, or remove its folder."


@dataclasses.dataclass(frozen=True)
class EvaluationSpec:
    """Settings of the evaluation and of the gate.

    Attributes:
      features: Specification of a user's features.
      baselines: Configuration of the baselines that are fitted.
      gate: Configuration of the checks.
      seed: Seed of the random baseline.
      has_click_head: Whether a click loss was trained.
      base_path: Folder of the pushed versions, with the record of roll-backs.
    """

    features: f.FeatureSpec
    baselines: BaselinesConfig
    gate: GateConfig
    seed: int
    has_click_head: bool
    base_path: str


@tfx.dsl.components.component
def ModelEvaluator(  # noqa: N802 (a component is a class to its callers)
    examples: tfx.dsl.components.InputArtifact[tfx.types.standard_artifacts.Examples],
    transformed_examples: tfx.dsl.components.InputArtifact[tfx.types.standard_artifacts.Examples],
    transform_graph: tfx.dsl.components.InputArtifact[tfx.types.standard_artifacts.TransformGraph],
    summary: tfx.dsl.components.InputArtifact[LogSummary],
    model: tfx.dsl.components.InputArtifact[tfx.types.standard_artifacts.Model],
    evaluation: tfx.dsl.components.OutputArtifact[tfx.types.standard_artifacts.ModelEvaluation],
    blessing: tfx.dsl.components.OutputArtifact[tfx.types.standard_artifacts.ModelBlessing],
    specification: tfx.dsl.components.Parameter[str],
    code: tfx.dsl.components.Parameter[str],
    baseline: tfx.dsl.components.InputArtifact[tfx.types.standard_artifacts.Model] = None,
) -> None:
    """Evaluates on validation (for the gate) and test (for the report), and blesses or not.

    Args:
      examples: Raw examples, as a server gets them.
      transformed_examples: Transformed examples with the truth, as ids.
      transform_graph: Transform graph with the vocabularies.
      summary: Log summary with clicks by tag and item, of the training part.
      model: Towers of this run.
      evaluation: Artifact with `metrics.json` (flat, `<part>.<who>.<metric>`) and `gate.json`.
      blessing: Blessing, positive if every check passed.
      specification: `EvaluationSpec` as JSON.
      code: Fingerprint of the code, for the cache.
      baseline: Last other model that was blessed.
    """
    del code
    spec = from_saved(EvaluationSpec, json.loads(specification), "evaluation")
    other = other_model(baseline.uri, model.uri, spec.base_path) if baseline else None
    models = {"model": model.uri} | ({} if other is None else {"last_blessed": other})
    for uri in models.values():
        check_manifest(path_utils.serving_model_path(uri), remedy=_NOT_COMPARED)
    log = _Log(examples, transformed_examples, transform_graph, summary)
    fitted = log.fit(spec)
    metrics: dict[str, Figures] = {}
    by_user: dict[str, UserFigures] = {}
    for split in _EVALUATED:
        metrics[split], by_user[split] = log.evaluate(split, models, fitted)
    checks = check_model(
        metrics["validation"], by_user["validation"], spec.gate, spec.has_click_head
    )
    write_json(os.path.join(evaluation.uri, METRICS_FILE), _flat(metrics, fitted, model.uri))
    write_json(
        os.path.join(evaluation.uri, GATE_FILE), [dataclasses.asdict(check) for check in checks]
    )
    _bless(blessing, model, checks)


class _Log:
    """The examples of a run, and the data for its figures."""

    def __init__(
        self,
        examples: Artifact,
        transformed_examples: Artifact,
        transform_graph: Artifact,
        summary: Artifact,
    ):
        self._examples, self._transformed_examples = examples, transformed_examples
        self._transform = tft.TFTransformOutput(transform_graph.uri)
        self._tags = load_tags(self._transform)
        self._clicks = load_tag_clicks(os.path.join(summary.uri, TAGS_FILE), self._tags)
        self._tag_items = load_tag_items(os.path.join(summary.uri, ITEMS_FILE))
        self._snapshots = {split: self._load(split) for split in _EVALUATED}

    def fit(self, spec: EvaluationSpec) -> FittedBaselines:
        """Fits the baselines on training users; validation users choose between their settings."""
        return fit_baselines(
            self._clicks,
            self._load("train", columns_of_training(spec.features)),
            self._snapshots["validation"],
            spec.features,
            spec.baselines,
            spec.seed,
        )

    def evaluate(
        self, split: str, models: Mapping[str, str], fitted: FittedBaselines
    ) -> tuple[Figures, UserFigures]:
        """Computes the figures of the baselines and of models by name, for one split."""
        files = _files(self._examples, split)
        items = read_held_out_items(self._tag_items, self._tags, files)
        snapshots = self._snapshots[split]
        figures, of_users = evaluate_baselines(fitted, self._clicks, snapshots, items)
        for who, uri in models.items():
            of_model, users_of_model = evaluate_model_and_users(
                who,
                path_utils.serving_model_path(uri),
                self._tags,
                self._clicks,
                snapshots,
                files,
                with_stages=who == "model",
                items=items,
            )
            figures |= of_model
            of_users |= users_of_model
        return figures, of_users

    def _load(self, split: str, names: Collection[str] | None = None) -> Snapshots:
        return load_snapshots(_files(self._transformed_examples, split), self._transform, names)


def _files(artifact: Artifact, split: str) -> list[str]:
    return [os.path.join(artifact_utils.get_split_uri([artifact], split), "*")]


def _flat(
    metrics: Mapping[str, Figures], fitted: FittedBaselines, model_uri: str
) -> dict[str, float | str | None]:
    """Returns the figures in one mapping, with the settings of baselines and second stage."""
    flat: dict[str, float | str | None] = {
        f"{split}.{who}.{name}": value
        for split, figures in metrics.items()
        for who, by_name in figures.items()
        for name, value in by_name.items()
    }
    flat |= fitted.settings
    flat |= {f"{who}_skipped": reason for who, reason in fitted.skipped.items()}
    stage, _ = read_second_stage(path_utils.serving_model_path(model_uri))
    flat["click_weight"], flat["mix_weight"] = stage.click_weight, stage.mix_weight
    flat["memory"] = describe_memory(stage.memory)
    return flat


def _bless(blessing: Artifact, model: Artifact, checks: Sequence[Check]) -> None:
    """Writes the verdict in the form of TFX's Evaluator."""
    is_blessed = all(check.is_passed for check in checks)
    name = constants.BLESSED_FILE_NAME if is_blessed else constants.NOT_BLESSED_FILE_NAME
    failed = "\n".join(str(check) for check in checks if not check.is_passed)
    write_text(os.path.join(blessing.uri, name), failed)
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY, int(is_blessed))
    blessing.set_string_custom_property(
        constants.ARTIFACT_PROPERTY_CURRENT_MODEL_URI_KEY, model.uri
    )
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY, model.id)


class ModelEvaluatorExecutor(
    ModelEvaluator.EXECUTOR_SPEC.executor_class,  # type: ignore[name-defined]
    stock_executor.Executor,
):
    """The executor of `ModelEvaluator`, which TFX's Kubeflow entry point takes for an Evaluator.

    Only in an Evaluator's blessing does that entry point write the model's name instead of a number
    of its own, and by that name `LatestBlessedModelStrategy` finds the model again there.
    """


# TFX's Evaluator is a Beam node; this one does not use Beam.
ModelEvaluator.EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(ModelEvaluatorExecutor)
