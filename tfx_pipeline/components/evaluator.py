"""ModelEvaluator: the protocol's figures and the quality gate.

TFX's Evaluator does not fit the protocol: TFMA's set metrics (`SetMatchPrecision`,
`SetMatchRecall`) know neither lists from which each user's own tags are taken out, nor GAUC, nor
distinct lists, and its baselines are models, while popularity and own history are none. What it
decides is kept as TFX keeps it, a `ModelBlessing`, so stock components and resolvers understand it.
"""

import dataclasses
import json
import os

import tensorflow_transform as tft
from tfx import v1 as tfx
from tfx.components.evaluator import constants
from tfx.components.evaluator import executor as stock_executor
from tfx.dsl.components.base import executor_spec
from tfx.types import artifact_utils
from tfx.utils import path_utils

from tfx_pipeline.components.artifacts import LogSummary
from tfx_pipeline.config.gate import GateConfig
from tfx_pipeline.evaluation.figures import (
    Figures,
    UserFigures,
    evaluate_baselines,
    evaluate_model_and_users,
)
from tfx_pipeline.evaluation.gate import check_model
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
from trainer.evaluation.baselines import load_tag_clicks
from trainer.evaluation.baselines_config import BaselinesConfig
from trainer.evaluation.fitted_baselines import columns_of_training, fit_baselines

METRICS_FILE = "metrics.json"
GATE_FILE = "gate.json"
_NOT_COMPARED = "Nothing is compared with it; roll its version back, or remove its folder."


@tfx.dsl.components.component
def ModelEvaluator(  # noqa: N802 (a component is a class to its callers)
    examples: tfx.dsl.components.InputArtifact[tfx.types.standard_artifacts.Examples],
    transformed_examples: tfx.dsl.components.InputArtifact[tfx.types.standard_artifacts.Examples],
    transform_graph: tfx.dsl.components.InputArtifact[tfx.types.standard_artifacts.TransformGraph],
    summary: tfx.dsl.components.InputArtifact[LogSummary],
    model: tfx.dsl.components.InputArtifact[tfx.types.standard_artifacts.Model],
    evaluation: tfx.dsl.components.OutputArtifact[tfx.types.standard_artifacts.ModelEvaluation],
    blessing: tfx.dsl.components.OutputArtifact[tfx.types.standard_artifacts.ModelBlessing],
    features: tfx.dsl.components.Parameter[str],
    baselines: tfx.dsl.components.Parameter[str],
    gate: tfx.dsl.components.Parameter[str],
    seed: tfx.dsl.components.Parameter[int],
    has_click_head: tfx.dsl.components.Parameter[bool],
    base_path: tfx.dsl.components.Parameter[str],
    code: tfx.dsl.components.Parameter[str],
    baseline: tfx.dsl.components.InputArtifact[tfx.types.standard_artifacts.Model] = None,  # type: ignore[assignment]
):
    """Evaluates on validation (for the gate) and test (for the report), and blesses or not.

    Args:
      examples: Raw, as a server gets them.
      transformed_examples: The truth, as ids.
      transform_graph: The vocabularies.
      summary: Clicks by tag and item, of the training part.
      model: The towers.
      evaluation: `metrics.json` (flat, `<part>.<who>.<metric>`) and `gate.json`.
      blessing: Blessed if every check passed.
      features: `FeatureSpec` as JSON.
      baselines: `BaselinesConfig` as JSON.
      gate: `GateConfig` as JSON.
      seed: Of the random baseline.
      has_click_head: Whether the click loss was trained.
      base_path: Folder of the pushed versions, which knows what was rolled back.
      code: Fingerprint of the code, for the cache.
      baseline: The last other model that was blessed.
    """
    del code
    transform_output = tft.TFTransformOutput(transform_graph.uri)
    tags = load_tags(transform_output)
    clicks = load_tag_clicks(os.path.join(summary.uri, TAGS_FILE), tags)
    tag_items = load_tag_items(os.path.join(summary.uri, ITEMS_FILE))
    models = {"model": model.uri}
    other = other_model(baseline.uri, model.uri, base_path) if baseline else None
    if other is not None:
        models["last_blessed"] = other
    for uri in models.values():
        check_manifest(path_utils.serving_model_path(uri), remedy=_NOT_COMPARED)

    def files(artifact, split):
        return [os.path.join(artifact_utils.get_split_uri([artifact], split), "*")]

    snapshots = {
        split: load_snapshots(files(transformed_examples, split), transform_output)
        for split in ("validation", "test")
    }
    spec = from_saved(f.FeatureSpec, json.loads(features), f.FEATURES_KEY)
    fitted = fit_baselines(
        clicks,
        load_snapshots(
            files(transformed_examples, "train"), transform_output, columns_of_training(spec)
        ),
        snapshots["validation"],
        spec,
        from_saved(BaselinesConfig, json.loads(baselines), "baselines"),
        seed,
    )
    metrics: dict[str, Figures] = {}
    by_user: dict[str, UserFigures] = {}
    for split, part in snapshots.items():
        items = read_held_out_items(tag_items, tags, files(examples, split))
        figures, of_users = evaluate_baselines(fitted, clicks, part, items)
        for who, uri in models.items():
            towers = path_utils.serving_model_path(uri)
            of_model, users_of_model = evaluate_model_and_users(
                who,
                towers,
                tags,
                clicks,
                part,
                files(examples, split),
                with_stages=who == "model",
                items=items,
            )
            figures |= of_model
            of_users |= users_of_model
        metrics[split], by_user[split] = figures, of_users
    validation = metrics["validation"]
    config = from_saved(GateConfig, json.loads(gate), "gate")
    checks = check_model(validation, by_user["validation"], config, has_click_head)

    flat: dict[str, float | str | None] = {
        f"{split}.{who}.{name}": value
        for split, figures in metrics.items()
        for who, by_name in figures.items()
        for name, value in by_name.items()
    }
    flat |= fitted.settings
    flat |= {f"{who}_skipped": reason for who, reason in fitted.skipped.items()}
    stage, _ = read_second_stage(path_utils.serving_model_path(model.uri))
    flat["click_weight"], flat["mix_weight"] = stage.click_weight, stage.mix_weight
    flat["memory"] = describe_memory(stage.memory)
    write_json(os.path.join(evaluation.uri, METRICS_FILE), flat)
    write_json(
        os.path.join(evaluation.uri, GATE_FILE), [dataclasses.asdict(check) for check in checks]
    )
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
    ModelEvaluator.EXECUTOR_SPEC.executor_class,  # type: ignore[name-defined, misc]
    stock_executor.Executor,
):
    """What the function above became, and to TFX's Kubeflow entry point an Evaluator.

    Only of an Evaluator's blessing does that write the name of the model in the place of a number
    of its own making, and by that name `LatestBlessedModelStrategy` finds the model again there.
    """


# TFX's Evaluator is one of Beam's nodes, which this one has no use for.
ModelEvaluator.EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(ModelEvaluatorExecutor)
