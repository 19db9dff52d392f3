"""Paths of a configuration: what they mean, and where no run can write."""

import dataclasses
from typing import TYPE_CHECKING, Any

from trainer.config_loader import require
from trainer.file_system import absolute
from trainer.given_paths import given_path

if TYPE_CHECKING:
    from tfx_pipeline.config import PipelineConfig

# By section, "" for the top.
_PATHS = {
    "": ("output",),
    "data": ("interactions", "items", "users", "planted", "tag_vectors"),
    "serving": ("base_path", "exact_base_path"),
}
# TFX and Beam find the files of an artifact by patterns in which its path stands as it is.
_PATTERN_CHARACTERS = "*?[\\"


def with_given_paths(config: "PipelineConfig") -> "PipelineConfig":
    """The configuration with every path as all parts of a command are to know it.

    Args:
      config: As it was written.

    Returns:
      It, see `trainer.given_paths`.

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


def check_output(output: str) -> None:
    """Refuses an output folder below which TFX would not find its own files.

    Args:
      output: The folder; the working directory counts where it is relative.

    Raises:
      ValueError: A name in its path has a character of patterns.
    """
    place = absolute(output)
    require(
        not set(_PATTERN_CHARACTERS) & set(place),
        "output",
        f"have none of {' '.join(_PATTERN_CHARACTERS)} in its path, the working directory "
        "included, as TFX takes them for patterns",
        place,
    )
