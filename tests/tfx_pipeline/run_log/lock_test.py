"""One run at a time in an output folder, whatever ends it."""

import os
import signal
import subprocess
import sys

import pytest

from tfx_pipeline.run_log.lock import only_run
from tfx_pipeline.terminal.refusals import OutputInUse

HOLDER = """
import sys
from tfx_pipeline.run_log.lock import only_run
with only_run(sys.argv[1]):
    print("mine", flush=True)
    sys.stdin.read()
"""


def test_second_run_is_refused_with_the_owners_process_in_one_line(tmp_path):
    with only_run(str(tmp_path)):
        for _ in range(2):  # the refused one leaves the owner's name alone
            with pytest.raises(OutputInUse) as error, only_run(str(tmp_path)):
                pass
            assert f"{tmp_path}, in use by process {os.getpid()} on " in str(error.value)
            assert "\n" not in str(error.value)

    with only_run(str(tmp_path)):
        pass


def test_lock_of_a_killed_process_is_gone(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout.readline() == "mine\n"
        with pytest.raises(OutputInUse, match=f"process {holder.pid} "), only_run(str(tmp_path)):
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait(timeout=60)

    with only_run(str(tmp_path)):
        pass
