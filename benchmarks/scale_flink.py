"""Makes examples of a log on a local Flink cluster, which is started and stopped for it."""

import dataclasses
import os
import pathlib
import tempfile

import psutil

from benchmarks.examples import Measurement, measure
from tfx_pipeline.flink.java_class_path import find_java, resolve_class_path
from tfx_pipeline.flink.launch import LocalCluster
from tfx_pipeline.flink.local_cluster import bring_up, get_json, take_down
from tfx_pipeline.flink.processes import find_processes

_PATIENCE_S = 300.0


def why_not(folder: str) -> str | None:
    """Returns the reason why a cluster cannot be started; None: it can."""
    try:
        find_java()
        resolve_class_path(pathlib.Path(folder, "maven.log"))
    except ValueError as error:
        return str(error)
    return None


def measure_on_flink(folder: str, num_shards: int) -> Measurement:
    """Runs `benchmarks.examples.measure` on a cluster and counts the cluster's processes, too.

    Args:
      folder: Folder with `tables`.
      num_shards: Number of output files of a split.

    Returns:
      The measurement, without the start of the cluster.

    Raises:
      ValueError: The cluster does not start.
    """
    with tempfile.TemporaryDirectory(prefix="flink-", dir=folder) as home:
        cluster_folder = pathlib.Path(home).resolve()

        def processes() -> list[psutil.Process]:
            return [one for group in find_processes(cluster_folder).values() for one in group]

        ports = dict.fromkeys(("job_port", "rest_port", "pool_port"), 0)
        try:
            cluster = bring_up(cluster_folder, ports, _PATIENCE_S, _tell_nobody)
            section = cluster.beam_section()
            found = measure(os.path.abspath(folder), section, num_shards, others=processes)
            # Flink's own count, because Beam's counter comes back with a part of its sum.
            return dataclasses.replace(found, shuffled_bytes=_shuffled_bytes(cluster))
        finally:
            take_down(cluster_folder)


def _shuffled_bytes(cluster: LocalCluster) -> int:
    """Returns the bytes that tasks of the last job sent to one another, as Flink counts them."""
    jobs = get_json(cluster, "/jobs/overview")["jobs"]
    last = max(jobs, key=lambda job: job["end-time"])
    vertices = get_json(cluster, f"/jobs/{last['jid']}")["vertices"]
    return sum(vertex["metrics"]["write-bytes"] for vertex in vertices)


def _tell_nobody(line: str) -> None:
    del line
