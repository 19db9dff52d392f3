"""Absolute paths for the workers of a cluster, whose working folder may differ."""

import dataclasses

from tfx_pipeline.config.pipeline import PipelineConfig
from trainer.contract.file_system import absolute


def with_absolute_paths(config: PipelineConfig) -> PipelineConfig:
    """Returns the configuration with every path that a worker reads or writes made absolute.

    Args:
      config: Configuration of the pipeline.

    Returns:
      The configuration with absolute paths of the same places.
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
