"""Writes a flat report as JSON, whole or not at all. Light: benchmarks use it too."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer.contract.whole_files import write_json


def write_report(report: Mapping[str, Any], path: Path) -> None:
    """Writes a report beside the file's place first: nobody reads half a file.

    Args:
      report: Flat; no value is NaN.
      path: The file; one that is there is replaced.
    """
    write_json(path, dict(report), allow_nan=False)
