"""The file that a benchmark leaves: flat keys, written whole."""

import json
import os
from pathlib import Path

import psutil

from benchmarks.registry import Figures

OUTPUT_DIR = Path(__file__).resolve().parent.parent / "build" / "bench"


def machine_figures() -> Figures:
    """What one must know of the machine to read the others."""
    return {
        "machine.cores": os.cpu_count() or 1,
        "machine.memory_mb": round(psutil.virtual_memory().total / 1e6),
        # Runnable processes before the measurement: above 0, others had their share of the cores.
        "machine.load_at_start": round(os.getloadavg()[0], 2),
    }


def write_figures(figures: Figures, path: Path) -> None:
    """Writes figures as JSON, beside the file's place first: nobody reads half a file.

    Args:
      figures: Flat.
      path: The file; one that is there is replaced.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        text = json.dumps(figures, indent=1, sort_keys=True, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
