"""A writer of parts that fails, in a module that worker processes can import."""

import dataclasses

from tfx_pipeline.datasets.part_files import PartFiles


@dataclasses.dataclass(frozen=True)
class FailingParts:
    """Writes a line of each part, and raises at one of them.

    Attributes:
      failing: Number of the part at which it raises.
    """

    failing: str

    def write(self, part: str, files: PartFiles) -> None:
        """Writes a line, or raises after it."""
        files.write_json_lines("lines.jsonl", [{"part": part}])
        if part == self.failing:
            raise ValueError(f"`part` must be another one. Received: part={part}.")
