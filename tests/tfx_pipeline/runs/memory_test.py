import contextlib
import subprocess
import sys
import time

import psutil
import pytest

from tfx_pipeline.runs.memory import PeakMemory

FILLING = "held = b'x' * 200_000_000; print('full', flush=True); input()"


@contextlib.contextmanager
def process_of_200_mb():
    """Runs a process with 200 MB."""
    with subprocess.Popen(
        [sys.executable, "-S", "-c", FILLING],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "full\n"
        yield psutil.Process(process.pid)
        process.communicate("\n")


@pytest.fixture
def stranger():
    """A process that counts for this one as nobody's child would."""
    with process_of_200_mb() as process:
        yield process


def test_others_are_counted_beside_what_this_process_started(stranger):
    with PeakMemory() as own:
        pass
    with PeakMemory(lambda: [stranger]) as with_others:
        pass

    # It is a child here, too, so it is counted twice.
    assert with_others.peak_mb > own.peak_mb + 190


def test_process_started_meanwhile_is_counted():
    deadline = time.monotonic() + 600
    with PeakMemory() as memory:
        own = psutil.Process().memory_info().rss / 1e6
        with process_of_200_mb():  # it stays until it is counted
            while memory.peak_mb < own + 190:
                assert time.monotonic() < deadline
                time.sleep(0.05)
