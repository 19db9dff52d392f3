import subprocess
import sys

import psutil
import pytest

from tfx_pipeline.runs.memory import PeakMemory

FILLING = "held = b'x' * 200_000_000; print('full', flush=True); input()"


@pytest.fixture
def stranger():
    """Runs a process with 200 MB that is no child of this one."""
    with subprocess.Popen(
        [sys.executable, "-S", "-c", FILLING],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "full\n"
        yield psutil.Process(process.pid)
        process.communicate("\n")


def test_others_are_counted_beside_what_this_process_started(stranger):
    with PeakMemory() as own:
        pass
    with PeakMemory(lambda: [stranger]) as with_others:
        pass

    # It is a child here, too, so it is counted twice.
    assert with_others.peak_mb > own.peak_mb + 190
