import os

import numpy as np
import pytest

from benchmarks.resident_process import ResidentProcess


class Counter:
    """Counts its calls, and can allocate memory."""

    def __init__(self, start: int):
        if start < 0:
            raise ValueError("`start` must not be negative.")
        self.value = start

    def add(self, number: int) -> int:
        self.value += number
        return self.value

    def pid(self) -> int:
        return os.getpid()

    def take(self, num_bytes: int) -> None:
        np.ones(num_bytes, np.uint8)

    def cores(self) -> int:
        return len(os.sched_getaffinity(0))


def test_object_stays_between_calls_in_a_process_of_its_own():
    with ResidentProcess(Counter, 5) as first, ResidentProcess(Counter, 0) as second:
        assert [first.call("add", 2), second.call("add", 1), first.call("add", 2)] == [7, 1, 9]
        assert first.submit("add", 1).result() == 10
        assert len({os.getpid(), first.call("pid"), second.call("pid")}) == 3


def test_peak_memory_is_the_highest_of_the_process_alone():
    with ResidentProcess(Counter, 0) as one, ResidentProcess(Counter, 0) as other:
        before = one.peak_mb()
        one.call("take", 300_000_000)
        assert one.peak_mb() - before > 250
        assert other.peak_mb() < before + 50


def test_error_of_factory_and_of_method_reach_the_caller():
    with ResidentProcess(Counter, -1) as process:
        with pytest.raises(ValueError, match="`start` must not be negative."):
            process.wait()
    with ResidentProcess(Counter, 0) as process:
        with pytest.raises(TypeError):
            process.call("add", "x")
        assert process.call("add", 1) == 1


def test_process_may_use_no_more_cores_than_said():
    with ResidentProcess(Counter, 0, num_cores=1) as process:
        assert process.call("cores") == 1
    with ResidentProcess(Counter, 0) as process:
        assert process.call("cores") == len(os.sched_getaffinity(0))
