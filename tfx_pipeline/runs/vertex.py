"""The pipeline as a specification for Kubeflow Pipelines and Vertex AI, by TFX's own runner.

The wiring is that of every other runner. What is different there: nodes are containers on other
machines, so every path must be one that they reach; and metadata, cache and resolvers are the
service's.
"""

from typing import Any

from tfx.orchestration.kubeflow.v2.kubeflow_v2_dag_runner import (
    KubeflowV2DagRunner,
    KubeflowV2DagRunnerConfig,
)
from tfx.orchestration.kubeflow.v2.step_builder import ContainerSpec

from tfx_pipeline.config.pipeline import PipelineConfig
from tfx_pipeline.config.vertex import VertexConfig
from tfx_pipeline.pipeline import TRAINER_ID, create_pipeline
from tfx_pipeline.pipeline_inputs import find_inputs
from tfx_pipeline.runs.early_checks import check_compilable


def compile_pipeline(config: PipelineConfig) -> dict[str, Any]:
    """Compiles the pipeline.

    Args:
      config: The checked configuration; `vertex.image` is given, and every path is remote or
        absolute. The tables are read once, for their fingerprint.

    Returns:
      A `PipelineJob`, as JSON has it: what Vertex AI's client and API take. Its `pipelineSpec` is
      what Kubeflow Pipelines takes.

    Raises:
      ValueError: A user's mistake.
    """
    check_compilable(config)
    pipeline = create_pipeline(config, find_inputs(config), stock_resolvers=True)
    resources = _resources(config.vertex)
    if resources is not None:
        for component in pipeline.components:
            if component.id == TRAINER_ID:
                component.with_platform_config(resources)
    runner = KubeflowV2DagRunner(
        # Version 2.1 is what Kubeflow Pipelines of today takes, and Vertex AI takes both.
        KubeflowV2DagRunnerConfig(default_image=config.vertex.image, use_pipeline_spec_2_1=True)
    )
    return runner.run(pipeline, write_out=False)


def _resources(config: VertexConfig) -> Any:
    """What the Trainer's machine must have; None: whatever the service gives."""
    resources = ContainerSpec.ResourceSpec()
    if config.trainer_cpus is not None:
        resources.cpu_limit = config.trainer_cpus
    if config.trainer_memory_gb is not None:
        resources.memory_limit = config.trainer_memory_gb
    if config.accelerator_type is not None:
        resources.accelerator.type = config.accelerator_type
        resources.accelerator.count = config.accelerator_count
    return resources if resources.ByteSize() else None
