"""Processes that end when the process that started them ends, in whatever way.

A killed process cannot notify its children, which would go on measuring, training or serving. Linux
does it instead: it sends a child a signal once the thread that started it has ended.
"""

import os
import signal
import sys
from collections.abc import Sequence

# Requests the signal, checks whether the parent has ended meanwhile, and becomes the program. It
# runs in the child's own Python: between a fork and the program no Python may run in a process with
# threads.
_LAUNCHER = """
import ctypes, os, sys
PR_SET_PDEATHSIG = 1
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(sys.argv[1]))
if os.getppid() != int(sys.argv[2]):
    os._exit(1)
os.execvp(sys.argv[3], sys.argv[3:])
"""


def tied_to_this_process(
    command: Sequence[str], number: signal.Signals = signal.SIGKILL
) -> list[str]:
    """Returns a command line whose process gets a signal when this process ends.

    Args:
      command: Command line. It must be started from a thread that lives as long as the process is
        needed.
      number: Signal to send: SIGKILL, or SIGTERM for a process that must clean up.

    Returns:
      The command line to start instead.
    """
    launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER]
    return [*launcher, str(int(number)), str(os.getpid()), *command]
