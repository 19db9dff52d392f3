"""TFX's BulkInferrer on the instances of the split `now`: predictions as an artifact of the run.

`tagtower batch-predict` writes files in the formats of Vertex AI and resumes where it was killed;
this component is for a pipeline whose next node needs an `InferenceResult`. BulkInferrer uses the
signature with serialized examples, whose outputs are flat [batch, k], and copies every example into
its log.
"""

from typing import Any

from tfx import types
from tfx import v1 as tfx
from tfx.components.bulk_inferrer import executor
from tfx.dsl.components.base import executor_spec
from tfx.types import channel

from serving.index.scann_index import register_scann_ops
from trainer.contract import features as f
from trainer.contract import signatures as s

_OP_LIBRARY = "serving.index.scann_index"


class NowBulkInferrerExecutor(executor.Executor):
    """The stock executor, in a process that has loaded the ops of ScaNN."""

    def Do(  # noqa: N802 (TFX's name)
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Registers the ops of ScaNN, then runs TFX's executor."""
        # A SavedModel with a ScaNN index needs the op library: in the process of the node, and, by
        # Beam's own flag, in each worker process before it does anything else.
        register_scann_ops()
        super().Do(input_dict, output_dict, exec_properties)


class NowBulkInferrer(tfx.components.BulkInferrer):
    """TFX's BulkInferrer with `NowBulkInferrerExecutor`."""

    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(NowBulkInferrerExecutor)


def now_bulk_inferrer(
    examples: channel.BaseChannel,
    servable: channel.BaseChannel,
    model_blessing: channel.BaseChannel,
) -> tfx.components.BulkInferrer:
    """Creates TFX's BulkInferrer for the split `now`.

    Args:
      examples: Raw examples with the split `now`.
      servable: Model that predicts.
      model_blessing: Blessing of the model; without it nothing is predicted.

    Returns:
      The component; its output is `inference_result`.
    """
    component = NowBulkInferrer(
        examples=examples,
        model=servable,
        model_blessing=model_blessing,
        data_spec=tfx.proto.DataSpec(example_splits=[f.NOW_SPLIT]),
        model_spec=tfx.proto.ModelSpec(model_signature_name=[s.SERVING_DEFAULT]),
    ).with_id("BulkInferrer")
    return component.with_beam_pipeline_args([f"--beam_plugin={_OP_LIBRARY}"])
