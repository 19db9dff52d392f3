"""Writes a flat report as JSON, whole or not at all. Light: benchmarks use it too."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer.contract.whole_files import write_json


def write_report(report: Mapping[str, Any], path: Path) -> None:
    """Writes a report under a temporary name first, so that no reader sees half a file.

    Args:
      report: Flat report without NaN.
      path: Path of the file; an existing one is replaced.
    """
    write_json(path, dict(report), allow_nan=False)
