"""Measures the memory of the model server with one version, and with each further one."""

import functools
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tfx_pipeline.runs.local_server import local_server

if TYPE_CHECKING:
    from serving.client import TagClient

_NUM_ADDED = 2


class VersionMemory(NamedTuple):
    """Resident memory of the server in megabytes.

    Attributes:
      first_mb: Memory with one version: Python, TensorFlow and the version.
      added_mb: Memory that each further version adds.
    """

    first_mb: float
    added_mb: float


def measure_version_memory(version: Path, log_path: Path) -> VersionMemory:
    """Serves copies of a version side by side.

    Args:
      version: The version folder.
      log_path: Path of the server's log.

    Returns:
      Resident memory of the server.
    """
    from serving.client import TagClient

    # Beside the log, so that the copies are on the same disk.
    with tempfile.TemporaryDirectory(dir=log_path.parent) as name:
        base_path = Path(name) / "versions"
        shutil.copytree(version, base_path / "1")
        config = Path(name) / "models.config"
        config.write_text(
            f'model_config_list {{ config {{ name: "default" base_path: "{base_path}" '
            'model_platform: "tensorflow" model_version_policy { all {} } } }',
            encoding="utf-8",
        )
        with local_server(base_path, log_path, f"--model_config_file={config}") as server:
            first_mb = server.memory_mb
            with TagClient(f"localhost:{server.port}") as client:
                for number in range(2, 2 + _NUM_ADDED):
                    shutil.copytree(version, base_path / "staged")
                    (base_path / "staged").rename(base_path / str(number))
                    server.wait_until(functools.partial(_is_available, client, number), 0.1)
            return VersionMemory(first_mb, (server.memory_mb - first_mb) / _NUM_ADDED)


def _is_available(client: "TagClient", number: int) -> bool:
    for status in client.model_status():
        if status.version == number and status.error:
            raise ValueError(f"a copy of the version does not load: {status.error}")
        if status.version == number:
            return status.state == "AVAILABLE"
    return False
