"""The pipeline as a specification for Kubeflow Pipelines and Vertex AI, by TFX's own runner.

The wiring is that of every other runner. What is different there: nodes are containers on other
machines, so every path must be one that they reach; and metadata, cache and resolvers are the
service's.
"""

import re
from typing import Any

from tfx.orchestration.kubeflow.v2.kubeflow_v2_dag_runner import (
    KubeflowV2DagRunner,
    KubeflowV2DagRunnerConfig,
)
from tfx.orchestration.kubeflow.v2.step_builder import ContainerSpec

from tfx_pipeline.config import PipelineConfig
from tfx_pipeline.pipeline import TRAINER_ID, create_pipeline
from tfx_pipeline.vertex_config import VertexConfig
from trainer.config_loader import require
from trainer.file_system import is_remote

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,127}")


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
    require(
        config.vertex.image is not None,
        "vertex.image",
        "name the image of the nodes",
        config.vertex.image,
    )
    require(
        _NAME.fullmatch(config.name) is not None,
        "name",
        "consist of lower case letters, digits and -, as Vertex AI wants it",
        config.name,
    )
    for key, path in _paths(config).items():
        require(
            path.startswith("/") or is_remote(path),
            key,
            "be a path that every node reaches, such as gs://BUCKET/FOLDER, or an absolute one",
            path,
        )
    pipeline = create_pipeline(config, stock_resolvers=True)
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


def _paths(config: PipelineConfig) -> dict[str, str]:
    """The paths that nodes read or write, by their keys."""
    paths: dict[str, str | None] = {
        "output": config.output_dir,
        "serving.base_path": config.base_path,
        "serving.exact_base_path": config.exact_base_path,
        "data.interactions": config.data.interactions,
        "data.items": config.data.items,
        "data.users": config.data.users,
    }
    return {key: path for key, path in paths.items() if path is not None}


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
