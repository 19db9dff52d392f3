"""Paths as workers of a cluster must be told them: they may be elsewhere than the caller."""

import dataclasses

from tfx_pipeline.config.pipeline import PipelineConfig
from trainer.contract.file_system import absolute


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
        output=absolute(config.output_dir),
        data=dataclasses.replace(
            data,
            interactions=absolute(data.interactions),
            items=absolute(data.items),
            users=absolute(data.users),
        ),
    )
