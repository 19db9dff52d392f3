"""The folder of the benchmarks' figures, and figures that describe the machine."""

import os
from pathlib import Path

import psutil

from benchmarks.registry import Figures

OUTPUT_DIR = Path(__file__).resolve().parent.parent / "build" / "bench"


def machine_figures() -> Figures:
    """Returns figures of the machine that are needed to interpret the others."""
    return {
        "machine.cores": os.cpu_count() or 1,
        "machine.memory_mb": round(psutil.virtual_memory().total / 1e6),
        # Runnable processes before the measurement: above 0, other processes used the cores, too.
        "machine.load_at_start": round(os.getloadavg()[0], 2),
    }
