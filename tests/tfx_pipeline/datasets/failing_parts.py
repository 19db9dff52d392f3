"""A writer of parts that fails, where worker processes can import it."""

import dataclasses

from tfx_pipeline.datasets.part_files import PartFiles


@dataclasses.dataclass(frozen=True)
class FailingParts:
    """Writes something of each part, and raises at one of them.

    Attributes:
      failing: The part.
    """

    failing: str

    def write(self, part: str, files: PartFiles) -> None:
        """Writes a line, or raises after it."""
        files.write_json_lines("lines.jsonl", [{"part": part}])
        if part == self.failing:
            raise ValueError(f"`part` must be another one. Received: part={part}.")
