"""Settings of a specification for Kubeflow Pipelines and Vertex AI beyond the pipeline itself."""

import dataclasses

from trainer.contract import config_bounds as bounds


@bounds.checked
@dataclasses.dataclass(frozen=True)
class VertexConfig:
    """Settings of Kubeflow Pipelines and Vertex AI Pipelines, for `tagtower compile`.

    Attributes:
      image: Image of the nodes, with this package and its requirements (docs/vertex.md); `tagtower
        compile` requires it.
      trainer_cpus: Number of CPUs of the Trainer's machine; null: the service's choice.
      trainer_memory_gb: Memory of the Trainer's machine in GB; null: the service's choice.
      accelerator_type: Accelerator of the Trainer, e.g. `NVIDIA_TESLA_T4`; null: none.
      accelerator_count: Number of accelerators of that type.
    """

    image: bounds.NotEmpty | None = None
    trainer_cpus: bounds.Positive | None = None
    trainer_memory_gb: bounds.Positive | None = None
    accelerator_type: str | None = None
    accelerator_count: bounds.PositiveInteger = 1
