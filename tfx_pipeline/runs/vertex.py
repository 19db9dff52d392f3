"""The pipeline as a specification for Kubeflow Pipelines and Vertex AI, by TFX's own runner.

The wiring is that of every other runner. Two things differ: nodes are containers on other machines,
so every path must be reachable from there; and metadata, cache and resolvers are those of the
service.
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
    """Compiles the pipeline to a job specification.

    Args:
      config: Checked configuration; `vertex.image` is given, and every path is remote or absolute.
        The tables are read once, for their fingerprint.

    Returns:
      A `PipelineJob` as JSON, for Vertex AI's client and API. Its `pipelineSpec` is for Kubeflow
      Pipelines.

    Raises:
      ValueError: The configuration or the tables have a mistake.
    """
    check_compilable(config)
    pipeline = create_pipeline(config, find_inputs(config), stock_resolvers=True)
    resources = _resources(config.vertex)
    if resources is not None:
        for component in pipeline.components:
            if component.id == TRAINER_ID:
                component.with_platform_config(resources)
    runner = KubeflowV2DagRunner(
        # Current Kubeflow Pipelines need version 2.1; Vertex AI accepts both.
        KubeflowV2DagRunnerConfig(default_image=config.vertex.image, use_pipeline_spec_2_1=True)
    )
    return runner.run(pipeline, write_out=False)


def _resources(config: VertexConfig) -> Any:
    """Returns the resources of the Trainer's machine; None: the service's default."""
    resources = ContainerSpec.ResourceSpec()
    if config.trainer_cpus is not None:
        resources.cpu_limit = config.trainer_cpus
    if config.trainer_memory_gb is not None:
        resources.memory_limit = config.trainer_memory_gb
    if config.accelerator_type is not None:
        resources.accelerator.type = config.accelerator_type
        resources.accelerator.count = config.accelerator_count
    return resources if resources.ByteSize() else None
