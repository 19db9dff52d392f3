"""`create_pipeline`: the wiring, and nothing else."""

import dataclasses
import os
from typing import Any

from google.protobuf import text_format
from tfx import v1 as tfx
from tfx.dsl.components.common import resolver
from tfx.orchestration import metadata
from tfx.types import standard_artifacts

from tfx_pipeline.artifacts.places import ARTIFACTS_DIR
from tfx_pipeline.components.bulk_inferrer import now_bulk_inferrer
from tfx_pipeline.components.drift_validator import (
    VALIDATOR_ID,
    DriftValidator,
    last_baseline,
    statistics_file,
)
from tfx_pipeline.components.evaluator import ModelEvaluator
from tfx_pipeline.components.example_gen import TableExampleGen
from tfx_pipeline.components.example_validator import StrictExampleValidator
from tfx_pipeline.components.last_blessed import (
    LatestBlessedModelOfOtherExamplesStrategy,
    LatestOtherBlessedModelStrategy,
)
from tfx_pipeline.components.pusher import AtomicPusher
from tfx_pipeline.components.schema_gen import CuratedSchema
from tfx_pipeline.components.tag_index_builder import TagIndexBuilder
from tfx_pipeline.components.tag_index_evaluator import TagIndexEvaluator
from tfx_pipeline.components.trainer import BASE_PATH_KEY, TowerTrainer
from tfx_pipeline.config.pipeline import PipelineConfig, to_json
from tfx_pipeline.engines.worker_paths import with_absolute_paths
from tfx_pipeline.examples.tf_examples import build_schema
from tfx_pipeline.fingerprints import code_fingerprint, files_fingerprint
from tfx_pipeline.tables.daily_window import find_window
from tfx_pipeline.tables.inputs import check_categories, find_tables
from tfx_pipeline.tables.tag_vectors import tag_vectors_file
from trainer import task
from trainer.contract import features as f
from trainer.contract.file_system import absolute, is_remote

_PREPROCESSING = "tfx_pipeline.preprocessing"
_TASK = "trainer.task"
# Of stock components' `custom_config`: read by nobody, but part of the cache's key.
_CODE_KEY = "code"

REJECTED_DIR = "rejected"
BASELINES_DIR = "statistics"  # of the days whose distributions were accepted
CHECKPOINTS_DIR = "checkpoints"  # of trainings that are not finished
TRAINER_ID = "Trainer"


def create_pipeline(
    config: PipelineConfig, until: str | None = None, *, stock_resolvers: bool = False
) -> tfx.dsl.Pipeline:
    """Wires the whole pipeline, or its first part.

    Args:
      config: The checked configuration. The tables it names are looked at: their contents are a
        part of the example generator's cache key.
      until: Id of the last node wanted, `Transform` for prepared examples; None: all nodes.
      stock_resolvers: Whether TFX's own strategy finds the last blessed model, the only one that
        its Kubeflow runner takes. What ours see beyond it, the components then decide, see
        `tfx_pipeline.versions.ancestry`.

    Returns:
      The pipeline, for any TFX runner.

    Raises:
      ValueError: A table is missing, empty, unreadable or lacks a column.
    """
    if config.beam.runner == "flink":
        config = with_absolute_paths(config)
    output = config.output_dir
    features = to_json(config.features)
    tables = find_tables(config.data, config.features)
    if "category" in config.model.tag_views:
        check_categories(tables["items"], config.data, "`model.tag_views` names it")

    example_gen = TableExampleGen(
        # What is planted is looked at after the run, vectors of tags by the Trainer: neither
        # changes an example.
        data=to_json(dataclasses.replace(config.data, planted=None, tag_vectors=None)),
        day="" if config.data.window is None else config.data.window.day,
        features=features,
        examples_config=to_json(config.examples),
        rejected_dir=absolute(os.path.join(output, REJECTED_DIR)),
        tables=files_fingerprint(path for paths in tables.values() for path in paths),
        code=code_fingerprint("tfx_pipeline.components.example_gen"),
    ).with_id("ExampleGen")
    examples = example_gen.outputs["examples"]

    statistics_gen = tfx.components.StatisticsGen(examples=examples, exclude_splits=[f.NOW_SPLIT])
    schema_gen = CuratedSchema(
        text=text_format.MessageToString(build_schema(config.features)),
    ).with_id("CuratedSchema")
    schema = schema_gen.outputs["schema"]
    validator = StrictExampleValidator(
        statistics=statistics_gen.outputs["statistics"], schema=schema
    ).with_id("ExampleValidator")

    drift_validator = None
    if config.validation.drift:
        drift_validator = _drift_validator(config, statistics_gen, validator)

    transform = tfx.components.Transform(
        examples=examples,
        schema=schema,
        preprocessing_fn=f"{_PREPROCESSING}.preprocessing_fn",
        splits_config=tfx.proto.SplitsConfig(analyze=["train"], transform=list(f.SPLITS)),
        disable_statistics=True,
        # Nobody reads the cache: every run's examples are others.
        disable_analyzer_cache=True,
        custom_config={f.FEATURES_KEY: features, _CODE_KEY: code_fingerprint(_PREPROCESSING)},
    )
    # Anomalies stop the run before anything is learned from them.
    transform.add_upstream_node(drift_validator or validator)

    transformed_examples = transform.outputs["transformed_examples"]
    base_path = absolute(config.base_path)

    def last_blessed_model(strategy: type, current: tfx.types.BaseChannel) -> resolver.Resolver:
        ours: dict[str, Any] = {"config": {"base_path": base_path}, "current": current}
        return resolver.Resolver(
            strategy_class=tfx.dsl.experimental.LatestBlessedModelStrategy
            if stock_resolvers
            else strategy,
            model=tfx.dsl.Channel(type=standard_artifacts.Model, producer_component_id=TRAINER_ID),
            model_blessing=tfx.dsl.Channel(type=standard_artifacts.ModelBlessing),
            **({} if stock_resolvers else ours),
        )

    base_model = None
    if config.training.warm_start:
        base_model = last_blessed_model(
            LatestBlessedModelOfOtherExamplesStrategy, transformed_examples
        ).with_id("WarmStart")
    tag_vectors = tag_vectors_file(config.data, output)
    trainer = TowerTrainer(
        run_fn=f"{_TASK}.run_fn",
        examples=transformed_examples,
        transform_graph=transform.outputs["transform_graph"],
        summary=example_gen.outputs["summary"],
        base_model=None if base_model is None else base_model.outputs["model"],
        train_args=tfx.proto.TrainArgs(splits=["train"]),
        eval_args=tfx.proto.EvalArgs(splits=["validation"]),
        custom_config={
            f.FEATURES_KEY: features,
            task.MODEL_KEY: to_json(config.model),
            task.TRAINING_KEY: to_json(config.training),
            task.RANKING_KEY: to_json(config.ranking),
            task.SEED_KEY: str(config.seed),
            task.CHECKPOINTS_KEY: absolute(os.path.join(output, CHECKPOINTS_DIR)),
            task.TAG_VECTORS_KEY: absolute(tag_vectors) if tag_vectors else "",
            task.TAG_VECTORS_FINGERPRINT_KEY: files_fingerprint(
                [tag_vectors] if tag_vectors else []
            ),
            **({BASE_PATH_KEY: base_path} if config.training.warm_start else {}),
            _CODE_KEY: code_fingerprint(_TASK, "tfx_pipeline.components.trainer"),
        },
    ).with_id(TRAINER_ID)
    model = trainer.outputs["model"]

    last_blessed = last_blessed_model(LatestOtherBlessedModelStrategy, model).with_id("LastBlessed")
    evaluator = ModelEvaluator(
        examples=examples,
        transformed_examples=transformed_examples,
        transform_graph=transform.outputs["transform_graph"],
        summary=example_gen.outputs["summary"],
        model=model,
        baseline=last_blessed.outputs["model"],
        features=features,
        baselines=to_json(config.baselines),
        gate=to_json(config.gate),
        seed=config.seed,
        base_path=base_path,
        has_click_head=config.training.click_objective is not None,
        code=code_fingerprint("tfx_pipeline.components.evaluator"),
    ).with_id("Evaluator")

    index_builder = TagIndexBuilder(
        model=model,
        examples=examples,
        summary=example_gen.outputs["summary"],
        index=to_json(config.index),
        policy=to_json(config.serving.policy),
        tag_normalization=to_json(config.data.tag_normalization),
        code=code_fingerprint("tfx_pipeline.components.tag_index_builder"),
    )
    servable = index_builder.outputs["servable"]
    index_evaluator = TagIndexEvaluator(
        servable=servable,
        examples=examples,
        target_recall=config.index.target_recall,
        code=code_fingerprint(
            "tfx_pipeline.components.tag_index_evaluator",
            "serving.index.evaluation",
            "serving.index.scann_index",
        ),
    )
    pusher = AtomicPusher(
        servable=servable,
        model_blessing=evaluator.outputs["blessing"],
        index_blessing=index_evaluator.outputs["blessing"],
        base_path=base_path,
        exact_base_path=absolute(config.exact_base_path) if config.exact_base_path else "",
        run_name=config.name,
        code=code_fingerprint("tfx_pipeline.components.pusher"),
    ).with_id("Pusher")

    bulk_inferrer = None
    if config.batch.bulk_inferrer:
        bulk_inferrer = now_bulk_inferrer(examples, servable, evaluator.outputs["blessing"])
        # What is served must not wait for predictions of every user, nor fail with them.
        bulk_inferrer.add_upstream_node(pusher)

    # In the order of their work.
    components = [
        example_gen,
        statistics_gen,
        schema_gen,
        validator,
        *([] if drift_validator is None else [drift_validator]),
        transform,
        *([] if base_model is None else [base_model]),
        trainer,
        last_blessed,
        evaluator,
        index_builder,
        index_evaluator,
        pusher,
        *([] if bulk_inferrer is None else [bulk_inferrer]),
    ]
    if until is not None:
        components = components[: [component.id for component in components].index(until) + 1]
    return tfx.dsl.Pipeline(
        pipeline_name=config.name,
        pipeline_root=os.path.join(output, ARTIFACTS_DIR),
        # SQLite writes to local disks alone; a service that runs the pipeline has metadata itself.
        metadata_connection_config=None
        if is_remote(output)
        else metadata.sqlite_metadata_connection_config(os.path.join(output, "metadata.sqlite")),
        components=components,
        enable_cache=True,
        beam_pipeline_args=config.beam.pipeline_args(),
    )


def _drift_validator(config: PipelineConfig, statistics_gen, validator) -> DriftValidator:
    window = find_window(config.data)
    baselines = absolute(os.path.join(config.output_dir, BASELINES_DIR))
    before = last_baseline(baselines, window.day) if window is not None else None
    drift_validator = DriftValidator(
        statistics=statistics_gen.outputs["statistics"],
        thresholds=to_json(config.validation.drift),
        baselines_dir=baselines,
        # Other statistics of the day before are another comparison.
        baseline=files_fingerprint([statistics_file(baselines, before)] if before else []),
        code=code_fingerprint("tfx_pipeline.components.drift_validator"),
    ).with_id(VALIDATOR_ID)
    # Values that the schema does not allow are the clearer word.
    drift_validator.add_upstream_node(validator)
    return drift_validator
