"""The start of a one-machine cluster's processes: ports, settings, command lines.

All ports are bound to this machine alone.
"""

import dataclasses
import sys
from pathlib import Path
from typing import Any

import yaml

from trainer.contract.whole_files import read_json, write_json, write_text

JOB_MANAGER, TASK_MANAGER = "job-manager", "task-manager"
WORKER_POOL, JOB_SERVER = "worker-pool", "job-server"
EMBEDDED = "[local]"
_CLUSTER_FILE = "cluster.json"

_JOB_MANAGER_CLASS = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
_TASK_MANAGER_CLASS = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"
_JOB_SERVER_CLASS = "org.apache.beam.runners.flink.FlinkJobServerDriver"
_OPENED_PACKAGES = (
    "java.lang java.lang.reflect java.util java.util.concurrent java.util.concurrent.atomic "
    "java.net java.nio java.io java.time java.text sun.nio.ch"
).split()

# Memory of a task manager. Without Flink's own start scripts every key must be set; if one is
# missing, it fails with an IllegalArgumentException without a message.
_FRAMEWORK_HEAP_MB, _FRAMEWORK_OFF_HEAP_MB = 128, 128
_TASK_HEAP_MB, _TASK_OFF_HEAP_MB = 512, 128
# The graph of TensorFlow Transform has 230 tasks; with 128 MB their buffers run out.
_NETWORK_MB = 512
_MANAGED_MB = 256
_METASPACE_MB, _OVERHEAD_MB = 256, 192
_JOB_MANAGER_HEAP_MB, _JOB_SERVER_HEAP_MB = 512, 512

RESTART_ATTEMPTS = 2

# Options of a cluster for which nothing else is given; a port of 0 is any free one.
DEFAULTS: dict[str, Any] = {
    "slots": 2,
    "job_port": 8099,
    "rest_port": 8081,
    "rpc_port": 0,
    "pool_port": 50000,
    "flink_master": None,
}


@dataclasses.dataclass(frozen=True)
class LocalCluster:
    """The settings of a cluster on this machine.

    Attributes:
      folder: Absolute path of the folder for settings, logs and Flink's temporary files.
      slots: Number of slots of its task manager.
      job_port: Port of Beam's job server.
      rest_port: Port of the job manager's REST interface.
      rpc_port: Port of the job manager's RPC interface.
      pool_port: Port of the worker pool.
      flink_master: Another cluster, `host:port` of its REST interface, or `EMBEDDED`, one inside
        the job server with workers in the submitting process; for both, only the job server is
        started. None: a whole cluster is started.
    """

    folder: Path
    slots: int
    job_port: int
    rest_port: int
    rpc_port: int
    pool_port: int
    flink_master: str | None

    @property
    def processes(self) -> tuple[str, ...]:
        """Names of the processes, in the order of their start."""
        if self.flink_master is not None:
            return (JOB_SERVER,)
        return JOB_MANAGER, WORKER_POOL, TASK_MANAGER, JOB_SERVER

    @property
    def is_elsewhere(self) -> bool:
        """Whether it is another cluster, which does not have Beam's jars."""
        return self.flink_master not in (None, EMBEDDED)

    @property
    def rest_address(self) -> str | None:
        """Address of Flink's REST interface, `host:port`; None: an embedded cluster has none."""
        if self.flink_master == EMBEDDED:
            return None
        return self.flink_master or f"localhost:{self.rest_port}"

    def log_path(self, process: str) -> Path:
        """Returns the file for the output of a process."""
        return self.folder / "logs" / f"{process}.log"

    def beam_section(self) -> dict[str, Any]:
        """Returns the section `beam` of a configuration that runs on this cluster."""
        flink: dict[str, Any] = {
            "job_endpoint": f"localhost:{self.job_port}",
            "parallelism": self.slots,
            "environment_type": "LOOPBACK",
        }
        if self.flink_master != EMBEDDED:
            flink["environment_type"] = "EXTERNAL"
            flink["environment_config"] = f"localhost:{self.pool_port}"
        return {"runner": "flink", "flink": flink}

    def save(self) -> None:
        """Writes these settings and Flink's settings into the folder."""
        for name in ("logs", "conf", "tmp", "artifacts"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        settings = yaml.safe_dump(self._flink_settings(), sort_keys=False)
        write_text(self.folder / "conf" / "config.yaml", settings)
        content = {**dataclasses.asdict(self), "folder": str(self.folder)}
        write_json(self.folder / _CLUSTER_FILE, content)

    def command(self, process: str, java: str, class_path: str) -> list[str]:
        """Returns the command line of a process.

        Args:
          process: Name of the process.
          java: Path of Java.
          class_path: Class path with Flink and Beam's job server.

        Returns:
          The words of the command line.
        """
        conf = ["--configDir", str(self.folder / "conf")]
        if process == WORKER_POOL:
            return [sys.executable, "-m", "tfx_pipeline.flink.worker_pool", str(self.pool_port)]
        if process == JOB_MANAGER:
            return self._java(java, class_path, _JOB_MANAGER_HEAP_MB) + [_JOB_MANAGER_CLASS, *conf]
        if process == TASK_MANAGER:
            direct = _FRAMEWORK_OFF_HEAP_MB + _TASK_OFF_HEAP_MB + _NETWORK_MB
            memory = [
                f"-XX:MaxDirectMemorySize={direct}m",
                f"-XX:MaxMetaspaceSize={_METASPACE_MB}m",
            ]
            heap = _FRAMEWORK_HEAP_MB + _TASK_HEAP_MB
            return self._java(java, class_path, heap, *memory) + [_TASK_MANAGER_CLASS, *conf]
        is_embedded = self.flink_master == EMBEDDED
        heap = _JOB_SERVER_HEAP_MB + (_TASK_HEAP_MB if is_embedded else 0)
        return [
            *self._java(java, class_path, heap),
            _JOB_SERVER_CLASS,
            "--job-host=localhost",
            f"--job-port={self.job_port}",
            "--artifact-port=0",
            "--expansion-port=0",
            f"--artifacts-dir={self.folder / 'artifacts'}",
            f"--flink-master={self.rest_address or EMBEDDED}",
            f"--flink-conf-dir={self.folder / 'conf'}",
        ]

    def _java(self, java: str, class_path: str, heap_mb: int, *flags: str) -> list[str]:
        return [
            java,
            f"-Xmx{heap_mb}m",
            *flags,
            "-XX:+UseSerialGC",
            f"-Djava.io.tmpdir={self.folder / 'tmp'}",
            "-Dorg.slf4j.simpleLogger.showDateTime=true",
            "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
            *(f"--add-opens=java.base/{name}=ALL-UNNAMED" for name in _OPENED_PACKAGES),
            "-cp",
            class_path,
        ]

    def _flink_settings(self) -> dict[str, Any]:
        here = "127.0.0.1"
        return {
            "jobmanager.rpc.address": "localhost",
            "jobmanager.rpc.port": self.rpc_port,
            "jobmanager.bind-host": here,
            "rest.address": "localhost",
            "rest.bind-address": here,
            "rest.port": self.rest_port,
            "taskmanager.host": "localhost",
            "taskmanager.bind-host": here,
            "taskmanager.numberOfTaskSlots": self.slots,
            "taskmanager.cpu.cores": float(self.slots),
            "taskmanager.memory.framework.heap.size": f"{_FRAMEWORK_HEAP_MB}m",
            "taskmanager.memory.framework.off-heap.size": f"{_FRAMEWORK_OFF_HEAP_MB}m",
            "taskmanager.memory.task.heap.size": f"{_TASK_HEAP_MB}m",
            "taskmanager.memory.task.off-heap.size": f"{_TASK_OFF_HEAP_MB}m",
            "taskmanager.memory.network.min": f"{_NETWORK_MB}m",
            "taskmanager.memory.network.max": f"{_NETWORK_MB}m",
            "taskmanager.memory.managed.size": f"{_MANAGED_MB}m",
            "taskmanager.memory.jvm-metaspace.size": f"{_METASPACE_MB}m",
            "taskmanager.memory.jvm-overhead.min": f"{_OVERHEAD_MB}m",
            "taskmanager.memory.jvm-overhead.max": f"{_OVERHEAD_MB}m",
            # A lost worker or task manager is replaced; repeated failures end the job. The whole
            # job restarts: if only regions did, each region that loses a worker would count as an
            # attempt, and a wide graph would have none left.
            "jobmanager.execution.failover-strategy": "full",
            "restart-strategy.type": "fixed-delay",
            "restart-strategy.fixed-delay.attempts": RESTART_ATTEMPTS,
            "restart-strategy.fixed-delay.delay": "5 s",
            # A process that has ended refuses the connection, which the next heartbeats detect; the
            # timeout is long, as a slow process on a busy machine has not ended.
            "heartbeat.interval": 2_000,
            "heartbeat.timeout": 60_000,
            "pekko.ask.timeout": "60 s",
            # Time to replace a lost task manager, after which the job fails.
            "slot.request.timeout": 60_000,
            # Between stages of a batch each edge asks for 512 buffers at once, however few slots
            # there are.
            "taskmanager.network.sort-shuffle.min-buffers": 64,
            # Beam is on the class path of every process, and part of the job as well: one copy is
            # used.
            "classloader.resolve-order": "parent-first",
            "io.tmp.dirs": str(self.folder / "tmp"),
            "web.tmpdir": str(self.folder / "tmp"),
        }


def load_cluster(folder: Path) -> LocalCluster | None:
    """Returns the cluster that was last started from a folder; None if there was none.

    Raises:
      ValueError: The folder's file is not in the form that `LocalCluster.save` writes.
    """
    path = folder / _CLUSTER_FILE
    if not path.is_file():
        return None
    try:
        content = read_json(str(path), "it is written again")
        return LocalCluster(**{**content, "folder": Path(content["folder"])})
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"{path} must be what `tagtower flink up` has written. Remove it; "
            "`tagtower flink down` still stops what runs."
        ) from error
