"""The engine that runs Beam, and its options: each engine's keys become Beam's command line.

The options are checked when the configuration is loaded, before anything starts.
"""

import dataclasses
import re
from typing import Literal

from trainer.contract import config_bounds as bounds
from trainer.contract.config_loader import require

# How long a worker is kept between two stages of a job: starting one takes longer than many stages.
_WORKER_KEPT_MS = 3_000
_HOST_AND_PORT = re.compile(r"[^\s:/]+:\d{1,5}")


@bounds.checked
@dataclasses.dataclass(frozen=True)
class FlinkConfig:
    """An Apache Flink cluster, reached through Beam's job server.

    Attributes:
      job_endpoint: `host:port` of Beam's job server, which submits to the cluster.
      parallelism: Number of the cluster's slots that a job takes.
      environment_type: Place of the Python workers: `LOOPBACK`, in the submitting process, for a
        cluster on this machine; `EXTERNAL`, in a worker pool beside each task manager; `PROCESS`,
        started by each task manager; `DOCKER`, in containers.
      environment_config: Setting of the environment type: `host:port` of the pool for `EXTERNAL`,
        the image for `DOCKER`, JSON with `command` for `PROCESS`; null for `LOOPBACK`.
    """

    job_endpoint: str = "localhost:8099"
    parallelism: bounds.PositiveInteger = 2
    environment_type: Literal["LOOPBACK", "EXTERNAL", "PROCESS", "DOCKER"] = "LOOPBACK"
    environment_config: str | None = None

    def __post_init__(self) -> None:
        is_endpoint = _HOST_AND_PORT.fullmatch(self.job_endpoint) is not None
        require(is_endpoint, "job_endpoint", "be host:port", self.job_endpoint)
        is_loopback = self.environment_type == "LOOPBACK"
        require(
            (self.environment_config is None) == is_loopback,
            "environment_config",
            f"be {'null' if is_loopback else 'given'} for {self.environment_type}",
            self.environment_config,
        )

    def pipeline_args(self) -> list[str]:
        """Returns the arguments of Beam's command line that select this cluster."""
        args = [
            "--runner=PortableRunner",
            f"--job_endpoint={self.job_endpoint}",
            f"--parallelism={self.parallelism}",
            f"--environment_type={self.environment_type}",
            f"--environment_cache_millis={_WORKER_KEPT_MS}",
        ]
        if self.environment_config is not None:
            args.append(f"--environment_config={self.environment_config}")
        return args


@bounds.checked
@dataclasses.dataclass(frozen=True)
class DataflowConfig:
    """The options of a Google Cloud Dataflow job.

    Attributes:
      project: Google Cloud project that is billed.
      region: Region in which the workers run.
      temp_location: Folder for the temporary files of a job, `gs://...`.
      staging_location: Folder for the files that workers need; null: below `temp_location`.
      container_image: Image of the workers with this package and its requirements; null: Beam's
        image, which has neither.
      machine_type: Machine type of the workers, e.g. `n2-standard-4`; null: Dataflow's choice.
      disk_size_gb: Disk size of a worker in GB; null: Dataflow's choice.
      num_workers: Number of workers at the start; null: Dataflow's choice.
      max_num_workers: Largest number of workers; null: Dataflow's choice.
      autoscaling: Whether Dataflow changes the number of workers by throughput.
      service_account_email: Service account that the workers use; null: the project's default.
      subnetwork: Network of the workers, `https://...` or `regions/REGION/subnetworks/NAME`; null:
        the default network.
      use_public_ips: Whether workers have public IP addresses.
    """

    project: bounds.NotEmpty
    region: bounds.NotEmpty
    temp_location: str
    staging_location: str | None = None
    container_image: str | None = None
    machine_type: str | None = None
    disk_size_gb: bounds.PositiveInteger | None = None
    num_workers: bounds.PositiveInteger | None = None
    max_num_workers: bounds.PositiveInteger | None = None
    autoscaling: bool = True
    service_account_email: str | None = None
    subnetwork: str | None = None
    use_public_ips: bool = True

    def __post_init__(self) -> None:
        for name in ("temp_location", "staging_location"):
            value = getattr(self, name)
            is_bucket = value is None or re.fullmatch(r"gs://[^/\s]+(/\S*)?", value) is not None
            require(is_bucket, name, "be a folder of Cloud Storage, gs://BUCKET/FOLDER", value)
        if self.num_workers is not None and self.max_num_workers is not None:
            require(
                self.num_workers <= self.max_num_workers,
                "num_workers",
                f"be at most `max_num_workers`, {self.max_num_workers}",
                self.num_workers,
            )

    def pipeline_args(self) -> list[str]:
        """Returns the arguments of Beam's command line that select Dataflow."""
        values = {
            "project": self.project,
            "region": self.region,
            "temp_location": self.temp_location,
            "staging_location": self.staging_location,
            "sdk_container_image": self.container_image,
            "machine_type": self.machine_type,
            "disk_size_gb": self.disk_size_gb,
            "num_workers": self.num_workers,
            "max_num_workers": self.max_num_workers,
            "autoscaling_algorithm": "THROUGHPUT_BASED" if self.autoscaling else "NONE",
            "service_account_email": self.service_account_email,
            "subnetwork": self.subnetwork,
        }
        args = [f"--{name}={value}" for name, value in values.items() if value is not None]
        if not self.use_public_ips:
            args.append("--no_use_public_ips")
        return ["--runner=DataflowRunner", *args]


@bounds.checked
@dataclasses.dataclass(frozen=True)
class BeamConfig:
    """The engine that runs every Beam node.

    Attributes:
      runner: `local` (in memory, one process), `multi_process` (workers on this machine), `flink`
        or `dataflow`.
      num_workers: Number of workers of `multi_process`.
      flink: Cluster of the runner `flink`.
      dataflow: Job options of the runner `dataflow`, which requires them; null: none.
    """

    runner: Literal["local", "multi_process", "flink", "dataflow"] = "local"
    num_workers: bounds.PositiveInteger = 2
    flink: FlinkConfig = dataclasses.field(default_factory=FlinkConfig)
    dataflow: DataflowConfig | None = None

    def __post_init__(self) -> None:
        require(
            self.runner != "dataflow" or self.dataflow is not None,
            "dataflow",
            "have project, region and temp_location where `runner` is dataflow",
            self.dataflow,
        )

    def pipeline_args(self) -> list[str]:
        """Returns the arguments of Beam's command line for these options."""
        if self.runner == "flink":
            return self.flink.pipeline_args()
        if self.runner == "dataflow":
            assert self.dataflow is not None
            return self.dataflow.pipeline_args()
        if self.runner == "multi_process":
            return [
                "--runner=DirectRunner",
                "--direct_running_mode=multi_processing",
                f"--direct_num_workers={self.num_workers}",
            ]
        # No argument keeps Beam's defaults. As soon as there is one, TFX adds a package of itself
        # for remote workers, which costs seconds for each component and 50 MB of the temporary
        # folder that are never freed.
        return []
