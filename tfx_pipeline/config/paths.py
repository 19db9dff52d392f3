"""Paths of a configuration: what they mean, and where no run can write."""

import dataclasses
from typing import TYPE_CHECKING, Any

from trainer.contract.given_paths import given_path, require_no_pattern

if TYPE_CHECKING:
    from tfx_pipeline.config.pipeline import PipelineConfig

# By section, "" for the top.
_PATHS = {
    "": ("output",),
    "data": ("interactions", "items", "users", "planted", "tag_vectors"),
    "serving": ("base_path", "exact_base_path"),
}


def with_given_paths(config: "PipelineConfig") -> "PipelineConfig":
    """The configuration with every path as all parts of a command are to know it.

    Args:
      config: As it was written.

    Returns:
      It, see `trainer.contract.given_paths`.

    Raises:
      ValueError: A path means nothing, or has a scheme for which there is no reader.
    """
    replaced: dict[str, Any] = {}
    for section, keys in _PATHS.items():
        part: Any = getattr(config, section) if section else config
        found = {
            key: given_path(getattr(part, key), f"{section}.{key}" if section else key)
            for key in keys
            if getattr(part, key) is not None
        }
        if section:
            replaced[section] = dataclasses.replace(part, **found)
        else:
            replaced |= found
    return dataclasses.replace(config, **replaced)


def check_written(config: "PipelineConfig") -> None:
    """Refuses folders below which TFX, Beam or TensorFlow would not find their own files.

    Args:
      config: The configuration of a run.

    Raises:
      ValueError: See `trainer.contract.given_paths.require_no_pattern`.
    """
    require_no_pattern(config.output_dir, "output")
    require_no_pattern(config.base_path, "serving.base_path")
    if config.exact_base_path is not None:
        require_no_pattern(config.exact_base_path, "serving.exact_base_path")
