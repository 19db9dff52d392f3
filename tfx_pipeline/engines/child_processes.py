"""Processes that end with the one that started them, however that ends.

Who is killed tells its children nothing, and they would measure, train or serve on. So Linux does:
it sends a child a signal once the thread that started it is no more.
"""

import os
import signal
import sys
from collections.abc import Sequence

# Asks for the signal, looks whether its parent has gone meanwhile, and becomes the program. In the
# child itself: between a fork and the program no Python may run where there are threads.
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
    """A command line whose process is sent a signal when this one is gone.

    Args:
      command: The command line. It is to be started from a thread that lives as long as it is
        wanted.
      number: SIGKILL, or SIGTERM for one that has something to end.

    Returns:
      The command line to start in its place.
    """
    launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER]
    return [*launcher, str(int(number)), str(os.getpid()), *command]
