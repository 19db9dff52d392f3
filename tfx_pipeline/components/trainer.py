"""TowerTrainer: TFX's Trainer with the log's summary as a further input.

`run_fn`, its arguments and the outputs are those of the stock Trainer. Stock components cannot have
another input, hence this one has its own specification.
"""

import json
import os
from typing import Any

from tfx import types
from tfx import v1 as tfx
from tfx.components.trainer.executor import GenericExecutor
from tfx.components.trainer.fn_args_utils import FnArgs
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import artifact_utils
from tfx.types import standard_component_specs as specs
from tfx.types.component_spec import ChannelParameter
from tfx.utils import json_utils

from tfx_pipeline.components.artifacts import LogSummary
from tfx_pipeline.engines.training_process import run_in_own_process
from tfx_pipeline.examples.log_summary import TAGS_FILE
from tfx_pipeline.examples.notes import read_summary
from tfx_pipeline.tables.inputs import check_skips
from tfx_pipeline.versions.ancestry import model_of_other_examples, write_ancestry
from trainer import task
from trainer.config import TrainingConfig
from trainer.contract.config_loader import from_saved

SUMMARY_KEY = "summary"
# Key of `custom_config` for this component and not for `run_fn`: the folder of the pushed versions.
BASE_PATH_KEY = "base_path"


class TowerTrainerSpec(types.ComponentSpec):
    """The stock specification with the input `summary`."""

    PARAMETERS = specs.TrainerSpec.PARAMETERS
    INPUTS = {
        **specs.TrainerSpec.INPUTS,
        SUMMARY_KEY: ChannelParameter(type=LogSummary, optional=True),
    }
    OUTPUTS = specs.TrainerSpec.OUTPUTS
    TYPE_ANNOTATION = specs.TrainerSpec.TYPE_ANNOTATION


class TowerTrainerExecutor(GenericExecutor):
    """The stock executor, which also passes the summary's file of tags to `run_fn`.

    A training in several processes runs in a separate process: TensorFlow forms a cluster only
    where it has done nothing before.
    """

    def Do(  # noqa: N802 (TFX's name)
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Chooses the base model, trains as `GenericExecutor` does, and records the ancestry."""
        custom_config = json_utils.loads(exec_properties[specs.CUSTOM_CONFIG_KEY])
        base_path = custom_config.pop(BASE_PATH_KEY, "")
        # The folder of versions does not affect training, hence `run_fn` does not get it.
        custom = {specs.CUSTOM_CONFIG_KEY: json_utils.dumps(custom_config)}
        exec_properties = {**exec_properties, **custom}
        training = json.loads(custom_config.get(task.TRAINING_KEY, "{}"))
        if input_dict.get(SUMMARY_KEY):
            # A local run has already checked this after ExampleGen.
            counts, _ = read_summary(artifact_utils.get_single_uri(input_dict[SUMMARY_KEY]))
            check_skips(counts, from_saved(TrainingConfig, training, "training"))
        if training.get("strategy") == "multi_worker":
            own = run_in_own_process
            exec_properties = {
                **exec_properties,
                specs.RUN_FN_KEY: f"{own.__module__}.{own.__name__}",
            }
        examples = artifact_utils.get_single_uri(input_dict[specs.EXAMPLES_KEY])
        base_model = None
        if input_dict.get(specs.BASE_MODEL_KEY):
            resolved = artifact_utils.get_single_uri(input_dict[specs.BASE_MODEL_KEY])
            base_model = model_of_other_examples(resolved, examples, base_path)
            chosen = []
            if base_model is not None:
                chosen = [tfx.types.standard_artifacts.Model()]
                chosen[0].uri = base_model
            input_dict = {**input_dict, specs.BASE_MODEL_KEY: chosen}
        super().Do(input_dict, output_dict, exec_properties)
        model = artifact_utils.get_single_uri(output_dict[specs.MODEL_KEY])
        write_ancestry(model, examples, base_model)

    def _GetFnArgs(  # noqa: N802 (TFX's name)
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> FnArgs:
        fn_args = super()._GetFnArgs(input_dict, output_dict, exec_properties)
        if input_dict.get(SUMMARY_KEY):
            summary = artifact_utils.get_single_uri(input_dict[SUMMARY_KEY])
            fn_args.custom_config = {
                **(fn_args.custom_config or {}),
                task.TAGS_FILE_KEY: os.path.join(summary, TAGS_FILE),
            }
        return fn_args


class TowerTrainer(base_component.BaseComponent):
    """Trains with `run_fn`, as `tfx.components.Trainer` does.

    Args:
      run_fn: Import path of the function.
      examples: Transformed examples.
      transform_graph: Transform graph of these examples.
      train_args: Arguments with the splits to train on.
      eval_args: Arguments with the splits to validate on.
      custom_config: JSON values for `run_fn`, which are part of the cache's key.
      summary: Channel of `LogSummary`; `custom_config` of `run_fn` then has `tags_file`, with
        clicks and impressions by tag.
      base_model: Channel of a trained model to start from; empty: training starts from fresh
        values.
    """

    SPEC_CLASS = TowerTrainerSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(TowerTrainerExecutor)

    def __init__(
        self,
        run_fn: str,
        examples: types.BaseChannel,
        transform_graph: types.BaseChannel,
        train_args: tfx.proto.TrainArgs,
        eval_args: tfx.proto.EvalArgs,
        custom_config: dict[str, Any],
        summary: types.BaseChannel | None = None,
        base_model: types.BaseChannel | None = None,
    ):
        super().__init__(
            spec=TowerTrainerSpec(
                run_fn=run_fn,
                examples=examples,
                transform_graph=transform_graph,
                train_args=train_args,
                eval_args=eval_args,
                custom_config=json_utils.dumps(custom_config),
                summary=summary,
                base_model=base_model,
                model=types.Channel(type=tfx.types.standard_artifacts.Model),
                model_run=types.Channel(type=tfx.types.standard_artifacts.ModelRun),
            )
        )
