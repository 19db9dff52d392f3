"""Beam's graph for the parts of the tables: each part is an element."""

from collections.abc import Sequence
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from tfx_pipeline.datasets.part_files import open_part


class WritePart(beam.DoFn):
    """Beam function that writes numbered parts to files in the staging folder."""

    def __init__(self, writer: Any, staging: str):
        """Initializes with the writer and the folder.

        Args:
          writer: Writer of parts, a `tfx_pipeline.datasets.part_engine.PartWriter`.
          staging: Folder to write to.
        """
        self._writer = writer
        self._staging = staging

    def process(self, element: tuple[int, Any]) -> None:
        """Writes the files of one part."""
        index, part = element
        with open_part(self._staging, index) as files:
            self._writer.write(part, files)


def run_pipeline(
    writer: Any, parts: Sequence[tuple[int, Any]], staging: str, pipeline_args: Sequence[str]
) -> None:
    """Writes all parts into the staging folder.

    Args:
      writer: Writer of parts, a `tfx_pipeline.datasets.part_engine.PartWriter`.
      parts: Parts with their numbers.
      staging: Folder that workers reach by the same path.
      pipeline_args: Arguments of Beam's command line.
    """
    options = PipelineOptions(list(pipeline_args), save_main_session=False)
    with beam.Pipeline(options=options) as pipeline:
        (
            pipeline
            | "Parts" >> beam.Create(parts)
            # Without it an engine may keep all parts on the worker that created them.
            | "Spread" >> beam.Reshuffle()
            | "Write" >> beam.ParDo(WritePart(writer, staging))
        )
