"""Paths as workers of a cluster must be told them: they may be elsewhere than the caller."""

import dataclasses
import os

from tfx_pipeline.config import PipelineConfig


def with_absolute_paths(config: PipelineConfig) -> PipelineConfig:
    """The configuration with every path that a worker reads or writes made absolute.

    Args:
      config: The configuration.

    Returns:
      It, with other spellings of the same places.
    """
    data = config.data
    return dataclasses.replace(
        config,
        output=_absolute(config.output_dir),
        data=dataclasses.replace(
            data,
            interactions=_absolute(data.interactions),
            items=_absolute(data.items),
            users=_absolute(data.users),
        ),
    )


def _absolute(path: str) -> str:
    return path if "://" in path else os.path.abspath(path)
