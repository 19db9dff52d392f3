"""Writes the parts of the tables: one after the other in this process, or on a Beam engine.

Both write a part in the same way, so the files have the same bytes. Beam is imported only for an
engine: its start takes longer than a small log.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol, TypeVar

from tfx_pipeline.datasets.part_files import PartFiles, open_part

Part = TypeVar("Part", contravariant=True)

_logger = logging.getLogger("tagtower.prepare")


class PartWriter(Protocol[Part]):
    """Makes the rows of a part from its description; workers get a pickled copy."""

    def write(self, part: Part, files: PartFiles) -> None:
        """Writes one part.

        Args:
          part: Description of the part.
          files: Files to write to.
        """


def write_parts(
    writer: PartWriter[Part],
    parts: Sequence[Part],
    staging: str,
    pipeline_args: Sequence[str] | None,
) -> None:
    """Writes all parts into the staging folder.

    Args:
      writer: Writer that makes the rows of a part.
      parts: Parts in the order of the tables.
      staging: Folder in which the tables grow; workers must reach it by the same path.
      pipeline_args: Arguments of Beam's command line; None: this process writes, without Beam.
    """
    if pipeline_args is not None:
        from tfx_pipeline.datasets.part_pipeline import run_pipeline

        run_pipeline(writer, list(enumerate(parts)), staging, pipeline_args)
        return
    for index, part in enumerate(parts):
        with open_part(staging, index) as files:
            writer.write(part, files)
        _logger.info("Part %d of %d is written.", index + 1, len(parts))
