"""Checks that a command makes before it loads TFX, so that most mistakes are reported at once.

The same is checked again where it is used: it may have changed by then, and not every caller comes
through a command.
"""

import os
import re

from tfx_pipeline.config.pipeline import PipelineConfig
from tfx_pipeline.engines.beam_failure import require_job_server
from tfx_pipeline.tables.inputs import find_tables
from trainer.contract.config_loader import require
from trainer.contract.file_system import is_file, is_folder, is_remote

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,127}")


def check_inputs(config: PipelineConfig) -> None:
    """Checks what a run reads: tables, planted interests, and the job server of Beam.

    Raises:
      ValueError: A file is missing or lacks a column, or the job server does not answer.
    """
    planted = config.data.planted
    require(planted is None or is_file(planted), "data.planted", "be a file or null", planted)
    find_tables(config.data, config.features)
    require_job_server(config.beam.pipeline_args())


def check_compilable(config: PipelineConfig) -> None:
    """Checks whether nodes on other machines could run a configuration.

    Raises:
      ValueError: There is no image, or the name or a path is unsuitable there.
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
        "consist of lower case letters, digits and -, as Vertex AI requires",
        config.name,
    )
    for key, path in _paths(config).items():
        require(
            path.startswith("/") or is_remote(path),
            key,
            "be a path that every node reaches, such as gs://BUCKET/FOLDER, or an absolute one",
            path,
        )


def check_new_file(key: str, path: str) -> None:
    """Checks whether a local file could be written.

    Args:
      key: Name of the flag.
      path: Path of the file.

    Raises:
      ValueError: The path is a folder, or its folder does not exist.
    """
    if is_remote(path):
        return
    require(not is_folder(path), key, "be a file", path)
    folder = os.path.dirname(os.path.abspath(path))
    require(is_folder(folder), key, "be in a folder that exists", path)


def _paths(config: PipelineConfig) -> dict[str, str]:
    """Returns the paths that nodes read or write, by their keys."""
    paths: dict[str, str | None] = {
        "output": config.output_dir,
        "serving.base_path": config.base_path,
        "serving.exact_base_path": config.exact_base_path,
        "data.interactions": config.data.interactions,
        "data.items": config.data.items,
        "data.users": config.data.users,
    }
    return {key: path for key, path in paths.items() if path is not None}
