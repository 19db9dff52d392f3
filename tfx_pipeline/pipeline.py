"""`create_pipeline`: the wiring alone. `pipeline_inputs` reads files before it."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

from google.protobuf import text_format
from tfx import v1 as tfx
from tfx.dsl.components.base.base_node import BaseNode
from tfx.dsl.components.common import resolver
from tfx.orchestration import metadata
from tfx.types import standard_artifacts

from tfx_pipeline.artifacts.places import ARTIFACTS_DIR
from tfx_pipeline.components.bulk_inferrer import now_bulk_inferrer
from tfx_pipeline.components.drift_validator import VALIDATOR_ID, DriftValidator
from tfx_pipeline.components.evaluator import EvaluationSpec, ModelEvaluator
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
from tfx_pipeline.pipeline_inputs import PREPROCESSING, TASK, PipelineInputs
from trainer import task
from trainer.contract import features as f
from trainer.contract.file_system import absolute, is_remote

# A key of stock components' `custom_config` that no code reads, but that is part of the cache's
# key.
_CODE_KEY = "code"

REJECTED_DIR = "rejected"
CHECKPOINTS_DIR = "checkpoints"  # checkpoints of unfinished trainings
TRAINER_ID = "Trainer"


def create_pipeline(
    config: PipelineConfig,
    inputs: PipelineInputs,
    until: str | None = None,
    *,
    stock_resolvers: bool = False,
) -> tfx.dsl.Pipeline:
    """Wires the whole pipeline, or its first part.

    Args:
      config: Checked configuration.
      inputs: Fingerprints and paths of files that the nodes need.
      until: Id of the last node, `Transform` for prepared examples; None: all nodes.
      stock_resolvers: Whether TFX's own strategy finds the last blessed model, the only one that
        its Kubeflow runner accepts. The components then make the decisions that this project's
        strategies would make, see `tfx_pipeline.versions.ancestry`.

    Returns:
      The pipeline, for any TFX runner.
    """
    if config.beam.runner == "flink":
        config = with_absolute_paths(config)
    components = _Wiring(config, inputs, stock_resolvers).nodes()
    if until is not None:
        components = components[: [component.id for component in components].index(until) + 1]
    output = config.output_dir
    return tfx.dsl.Pipeline(
        pipeline_name=config.name,
        pipeline_root=os.path.join(output, ARTIFACTS_DIR),
        # SQLite writes only to local disks; a service that runs the pipeline has its own metadata.
        metadata_connection_config=None
        if is_remote(output)
        else metadata.sqlite_metadata_connection_config(os.path.join(output, "metadata.sqlite")),
        components=components,
        enable_cache=True,
        beam_pipeline_args=config.beam.pipeline_args(),
    )


class _Wiring:
    """The nodes of one configuration, each made from the outputs of earlier ones."""

    def __init__(self, config: PipelineConfig, inputs: PipelineInputs, stock_resolvers: bool):
        self._config = config
        self._inputs = inputs
        self._stock_resolvers = stock_resolvers
        self._features = to_json(config.features)
        self._base_path = absolute(config.base_path)

    def nodes(self) -> list[BaseNode]:
        """Returns all nodes, in the order in which they run."""
        example_gen = self._example_gen()
        schema_gen = self._schema_gen()
        checks = self._checks(example_gen, schema_gen)
        transform = self._transform(example_gen, schema_gen)
        # Anomalies stop the run before anything is learned from the examples.
        transform.add_upstream_node(checks[-1])
        base_model = self._base_model(transform)
        trainer = self._trainer(example_gen, transform, base_model)
        last_blessed = self._last_blessed_model(
            LatestOtherBlessedModelStrategy, trainer.outputs["model"]
        ).with_id("LastBlessed")
        evaluator = self._evaluator(example_gen, transform, trainer, last_blessed)
        index_builder = self._index_builder(example_gen, trainer)
        index_evaluator = self._index_evaluator(example_gen, index_builder)
        pusher = self._pusher(index_builder, evaluator, index_evaluator)
        return [
            example_gen,
            schema_gen,
            *checks,
            transform,
            *([] if base_model is None else [base_model]),
            trainer,
            last_blessed,
            evaluator,
            index_builder,
            index_evaluator,
            pusher,
            *self._bulk_inferrer(example_gen, index_builder, evaluator, pusher),
        ]

    def _example_gen(self) -> BaseNode:
        config = self._config
        return TableExampleGen(
            # Planted interests are read after the run, vectors of tags by the Trainer: neither
            # changes an example.
            data=to_json(dataclasses.replace(config.data, planted=None, tag_vectors=None)),
            day="" if config.data.window is None else config.data.window.day,
            features=self._features,
            examples_config=to_json(config.examples),
            rejected_dir=absolute(os.path.join(config.output_dir, REJECTED_DIR)),
            tables=self._inputs.tables,
            code=self._inputs.code["ExampleGen"],
        ).with_id("ExampleGen")

    def _schema_gen(self) -> BaseNode:
        return CuratedSchema(
            text=text_format.MessageToString(build_schema(self._config.features)),
        ).with_id("CuratedSchema")

    def _checks(self, example_gen: BaseNode, schema_gen: BaseNode) -> list[BaseNode]:
        """Returns the nodes for statistics and their checks; later nodes wait for the last one."""
        statistics_gen = tfx.components.StatisticsGen(
            examples=example_gen.outputs["examples"], exclude_splits=[f.NOW_SPLIT]
        )
        validator = StrictExampleValidator(
            statistics=statistics_gen.outputs["statistics"], schema=schema_gen.outputs["schema"]
        ).with_id("ExampleValidator")
        nodes: list[BaseNode] = [statistics_gen, validator]
        if self._config.validation.drift:
            drift_validator = DriftValidator(
                statistics=statistics_gen.outputs["statistics"],
                thresholds=to_json(self._config.validation.drift),
                baselines_dir=self._inputs.baselines_dir,
                # Other statistics of the day before make another comparison.
                baseline=self._inputs.last_baseline,
                code=self._inputs.code["DriftValidator"],
            ).with_id(VALIDATOR_ID)
            # An anomaly in the schema's terms is the clearer message, so that check comes first.
            drift_validator.add_upstream_node(validator)
            nodes.append(drift_validator)
        return nodes

    def _transform(self, example_gen: BaseNode, schema_gen: BaseNode) -> BaseNode:
        return tfx.components.Transform(
            examples=example_gen.outputs["examples"],
            schema=schema_gen.outputs["schema"],
            preprocessing_fn=f"{PREPROCESSING}.preprocessing_fn",
            splits_config=tfx.proto.SplitsConfig(analyze=["train"], transform=list(f.SPLITS)),
            disable_statistics=True,
            # The analyzer cache is never reused: every run has other examples.
            disable_analyzer_cache=True,
            custom_config={
                f.FEATURES_KEY: self._features,
                _CODE_KEY: self._inputs.code["Transform"],
            },
        )

    def _last_blessed_model(
        self, strategy: type, current: tfx.types.BaseChannel
    ) -> resolver.Resolver:
        ours: dict[str, Any] = {"config": {"base_path": self._base_path}, "current": current}
        return resolver.Resolver(
            strategy_class=tfx.dsl.experimental.LatestBlessedModelStrategy
            if self._stock_resolvers
            else strategy,
            model=tfx.dsl.Channel(type=standard_artifacts.Model, producer_component_id=TRAINER_ID),
            model_blessing=tfx.dsl.Channel(type=standard_artifacts.ModelBlessing),
            **({} if self._stock_resolvers else ours),
        )

    def _base_model(self, transform: BaseNode) -> BaseNode | None:
        """Returns the node that finds the model for a warm start; None: training starts anew."""
        if not self._config.training.warm_start:
            return None
        return self._last_blessed_model(
            LatestBlessedModelOfOtherExamplesStrategy, transform.outputs["transformed_examples"]
        ).with_id("WarmStart")

    def _trainer(
        self, example_gen: BaseNode, transform: BaseNode, base_model: BaseNode | None
    ) -> BaseNode:
        config, inputs = self._config, self._inputs
        custom_config = {
            f.FEATURES_KEY: self._features,
            task.MODEL_KEY: to_json(config.model),
            task.TRAINING_KEY: to_json(config.training),
            task.RANKING_KEY: to_json(config.ranking),
            task.SEED_KEY: str(config.seed),
            task.CHECKPOINTS_KEY: absolute(os.path.join(config.output_dir, CHECKPOINTS_DIR)),
            task.TAG_VECTORS_KEY: inputs.tag_vectors,
            task.TAG_VECTORS_FINGERPRINT_KEY: inputs.tag_vectors_fingerprint,
            _CODE_KEY: inputs.code["Trainer"],
        }
        if base_model is not None:
            custom_config[BASE_PATH_KEY] = self._base_path
        return TowerTrainer(
            run_fn=f"{TASK}.run_fn",
            examples=transform.outputs["transformed_examples"],
            transform_graph=transform.outputs["transform_graph"],
            summary=example_gen.outputs["summary"],
            base_model=None if base_model is None else base_model.outputs["model"],
            train_args=tfx.proto.TrainArgs(splits=["train"]),
            eval_args=tfx.proto.EvalArgs(splits=["validation"]),
            custom_config=custom_config,
        ).with_id(TRAINER_ID)

    def _evaluator(
        self,
        example_gen: BaseNode,
        transform: BaseNode,
        trainer: BaseNode,
        last_blessed: BaseNode,
    ) -> BaseNode:
        config = self._config
        return ModelEvaluator(
            examples=example_gen.outputs["examples"],
            transformed_examples=transform.outputs["transformed_examples"],
            transform_graph=transform.outputs["transform_graph"],
            summary=example_gen.outputs["summary"],
            model=trainer.outputs["model"],
            baseline=last_blessed.outputs["model"],
            specification=to_json(
                EvaluationSpec(
                    features=config.features,
                    baselines=config.baselines,
                    gate=config.gate,
                    seed=config.seed,
                    has_click_head=config.training.click_objective is not None,
                    base_path=self._base_path,
                )
            ),
            code=self._inputs.code["Evaluator"],
        ).with_id("Evaluator")

    def _index_builder(self, example_gen: BaseNode, trainer: BaseNode) -> BaseNode:
        config = self._config
        return TagIndexBuilder(
            model=trainer.outputs["model"],
            examples=example_gen.outputs["examples"],
            summary=example_gen.outputs["summary"],
            index=to_json(config.index),
            policy=to_json(config.serving.policy),
            tag_normalization=to_json(config.data.tag_normalization),
            code=self._inputs.code["TagIndexBuilder"],
        )

    def _index_evaluator(self, example_gen: BaseNode, index_builder: BaseNode) -> BaseNode:
        return TagIndexEvaluator(
            servable=index_builder.outputs["servable"],
            examples=example_gen.outputs["examples"],
            target_recall=self._config.index.target_recall,
            code=self._inputs.code["TagIndexEvaluator"],
        )

    def _pusher(
        self, index_builder: BaseNode, evaluator: BaseNode, index_evaluator: BaseNode
    ) -> BaseNode:
        config = self._config
        return AtomicPusher(
            servable=index_builder.outputs["servable"],
            model_blessing=evaluator.outputs["blessing"],
            index_blessing=index_evaluator.outputs["blessing"],
            base_path=self._base_path,
            exact_base_path=absolute(config.exact_base_path) if config.exact_base_path else "",
            run_name=config.name,
            code=self._inputs.code["Pusher"],
        ).with_id("Pusher")

    def _bulk_inferrer(
        self,
        example_gen: BaseNode,
        index_builder: BaseNode,
        evaluator: BaseNode,
        pusher: BaseNode,
    ) -> Sequence[BaseNode]:
        """Returns TFX's batch prediction, where the configuration asks for it."""
        if not self._config.batch.bulk_inferrer:
            return []
        bulk_inferrer = now_bulk_inferrer(
            example_gen.outputs["examples"],
            index_builder.outputs["servable"],
            evaluator.outputs["blessing"],
        )
        # Serving must not wait for predictions for every user, nor fail with them.
        bulk_inferrer.add_upstream_node(pusher)
        return [bulk_inferrer]
