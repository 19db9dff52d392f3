"""Paths of a configuration: their normal form, and the folders that no run can write to."""

import dataclasses
from typing import TYPE_CHECKING, Any

from trainer.contract.given_paths import given_path, require_no_pattern

if TYPE_CHECKING:
    from tfx_pipeline.config.pipeline import PipelineConfig

# Keys of paths by section; "" is the top level.
_PATHS = {
    "": ("output",),
    "data": ("interactions", "items", "users", "planted", "tag_vectors"),
    "serving": ("base_path", "exact_base_path"),
}


def with_given_paths(config: "PipelineConfig") -> "PipelineConfig":
    """Returns the configuration with every path in the form that all parts of a command use.

    Args:
      config: The configuration as it was written.

    Returns:
      The configuration with its paths as `trainer.contract.given_paths` returns them.

    Raises:
      ValueError: A path has no meaning, or has a scheme without a reader.
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
    """Refuses folders below which TFX, Beam or TensorFlow cannot find their own files.

    Args:
      config: The configuration of a run.

    Raises:
      ValueError: A folder is refused by `trainer.contract.given_paths.require_no_pattern`.
    """
    require_no_pattern(config.output_dir, "output")
    require_no_pattern(config.base_path, "serving.base_path")
    if config.exact_base_path is not None:
        require_no_pattern(config.exact_base_path, "serving.exact_base_path")
