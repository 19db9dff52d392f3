"""Writes a flat report as JSON, whole or not at all. Light: benchmarks use it too."""

import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

from trainer.contract.whole_files import write_json


def write_report(report: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Writes a report under a temporary name first, so that no reader sees half a file.

    Args:
      report: Flat report without NaN.
      path: Path of the file; an existing one is replaced.
    """
    write_json(path, dict(report), allow_nan=False)


def json_rows(rows: Iterable[Any]) -> str:
    """Returns a JSON list with a line for each row: compact, and a changed row changes one line."""
    lines = [json.dumps(row, separators=(",", ":"), allow_nan=False) for row in rows]
    return "[" + ("\n" + ",\n".join(lines) + "\n" if lines else "") + "]"
