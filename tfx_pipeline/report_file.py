"""Writes a flat report as JSON, whole or not at all. Light: benchmarks use it too."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_report(report: Mapping[str, Any], path: Path) -> None:
    """Writes a report beside the file's place first: nobody reads half a file.

    Args:
      report: Flat; no value is NaN.
      path: The file; one that is there is replaced.
    """
    write_text(json.dumps(dict(report), indent=1, sort_keys=True, allow_nan=False) + "\n", path)


def write_text(text: str, path: Path) -> None:
    """The same for any text, in UTF-8."""
    write_bytes(text.encode(), path)


def write_bytes(content: bytes, path: Path) -> None:
    """The same for any content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
