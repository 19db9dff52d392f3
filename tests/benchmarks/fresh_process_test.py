import operator
import os
import time

import pytest

from benchmarks import fresh_process
from benchmarks.fresh_process import call_in_fresh_process


def test_each_call_has_a_process_of_its_own():
    lines = []
    pids = {call_in_fresh_process(lines.append, "asking", os.getpid) for _ in range(2)}

    assert len(pids | {os.getpid()}) == 3
    assert lines == ["asking ...", "asking ..."]


def test_error_of_the_function_reaches_the_caller():
    with pytest.raises(ZeroDivisionError):
        call_in_fresh_process(print, "dividing", operator.truediv, 1, 0)


def test_process_that_dies_is_an_error_and_no_endless_wait():
    with pytest.raises(fresh_process.futures.process.BrokenProcessPool):
        call_in_fresh_process(print, "dying", os._exit, 1)


def test_long_call_tells_that_it_still_runs(monkeypatch):
    monkeypatch.setattr(fresh_process, "_REMINDER_S", 0.05)
    lines = []
    call_in_fresh_process(lines.append, "waiting", time.sleep, 0.3)

    assert lines[:2] == ["waiting ...", "waiting: 0 s so far"]
