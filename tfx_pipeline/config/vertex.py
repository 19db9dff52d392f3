"""Settings of a specification for Kubeflow Pipelines and Vertex AI beyond the pipeline itself."""

import dataclasses

from trainer.contract.config_loader import require


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

    image: str | None = None
    trainer_cpus: float | None = None
    trainer_memory_gb: float | None = None
    accelerator_type: str | None = None
    accelerator_count: int = 1

    def __post_init__(self) -> None:
        require(self.image is None or bool(self.image), "image", "not be empty", self.image)
        for name in ("trainer_cpus", "trainer_memory_gb"):
            value = getattr(self, name)
            require(value is None or value > 0, name, "be positive", value)
        require(
            self.accelerator_count >= 1,
            "accelerator_count",
            "be a positive integer",
            self.accelerator_count,
        )
