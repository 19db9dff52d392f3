"""Loads one version as a server does, and prints how much that adds to its memory.

    python -m tests.serving.load_growth VERSION_DIR

It prints bytes of resident memory at the peak, beyond those of the libraries.
"""

import sys
from pathlib import Path

from serving.inference_environment import prefer_small_batches

prefer_small_batches(1)

from serving.index.scann_index import register_scann_ops  # noqa: E402
from serving.model_server.models.loading import load_servable  # noqa: E402


def main(version_dir: str) -> None:
    register_scann_ops()
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = _resident("VmRSS")
    servable = load_servable(version_dir, 1)
    print(_resident("VmHWM") - before)
    servable.close()


def _resident(name: str) -> int:
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if name in line)
    return int(line.split()[1]) * 1024


main(*sys.argv[1:])
