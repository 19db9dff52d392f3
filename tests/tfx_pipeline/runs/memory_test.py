import subprocess
import sys

import psutil
import pytest

from tfx_pipeline.runs.memory import PeakMemory

FILLING = "held = b'x' * 200_000_000; print('full', flush=True); input()"


@pytest.fixture
def stranger():
    """A process with 200 MB that counts for this one as nobody's child would."""
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

    # A child it is here, too, so that it is counted twice.
    assert with_others.peak_mb > own.peak_mb + 190
