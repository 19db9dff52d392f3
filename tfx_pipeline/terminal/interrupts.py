"""Ctrl-C, SIGTERM and SIGHUP: they end a command in order, with clean-up and in one line.

Python raises `KeyboardInterrupt` wherever the main thread is, and a library in between may turn it
into another error (Beam into a `RuntimeError`, a failed import into an `ImportError`) or lose it
(in a callback or a destructor). So a signal is recorded as well, and any end of a command after one
is the interrupt. The module uses the standard library alone, so that it is active before anything
else is imported.
"""

import contextlib
import functools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# Environment variable of all processes that a command starts: finds them even if their parent has
# ended.
_MARK = "TAGTOWER_COMMAND"
# Variable of processes that outlive their command: those of a cluster
# (`tfx_pipeline.flink.processes`).
_OUTLIVES = b"TAGTOWER_FLINK_FOLDER="
_PATIENCE_S, _GRACE_S = 2.0, 5.0
_POLL_S = 0.02
_AGAIN_S = 0.05


class _State:
    requested: signal.Signals | None = None  # the received signal
    is_resent = False  # whether the next signal is only the same one again
    num_deferring = 0


_state = _State()


def requested() -> signal.Signals | None:
    """Returns the signal that interrupted the command; None: there was none."""
    return _state.requested


def check() -> None:
    """Interrupts a command whose interrupt a library has lost.

    Raises:
      KeyboardInterrupt: A signal was received earlier.
    """
    if _state.requested is not None and not _state.num_deferring:
        raise KeyboardInterrupt


def exit_status(number: int | None) -> int:
    """Returns the status that a shell shows: 130 for SIGINT, 143 for SIGTERM, 129 for SIGHUP."""
    return 128 + (number or signal.SIGINT)


def heeded_signals() -> list[signal.Signals]:
    """Returns the signals that end a command; SIGHUP stays ignored under `nohup`."""
    return [
        number
        for number in SIGNALS
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN
    ]


@contextlib.contextmanager
def interruptible(command: str) -> Iterator[None]:
    """Makes signals raise `KeyboardInterrupt`; a second signal ends the process at once.

    Args:
      command: Name of the command, with a leading blank, for the line on the interrupt.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are delivered to the main thread only
        return

    def on_signal(number: int, frame: object) -> None:
        del frame
        if _state.requested is not None and not _state.is_resent:
            with contextlib.suppress(OSError):  # the terminal may be gone
                os.write(terminal, f"tagtower{command}: interrupted\n".encode())
            end_started_processes(grace_s=0.0)
            os._exit(exit_status(number))
        if not _state.is_resent:
            _state.requested = signal.Signals(number)
            # A library may wait for its workers, which did not get the signal.
            _later(_PATIENCE_S, end_started_processes)
        _state.is_resent = False
        if not _state.num_deferring:
            raise KeyboardInterrupt

    terminal = os.dup(2)  # while a command runs, descriptor 2 may be the libraries' log
    previous = {number: signal.signal(number, on_signal) for number in heeded_signals()}
    hooks = sys.unraisablehook, threading.excepthook
    sys.unraisablehook = _on_lost_error
    threading.excepthook = _on_error_of_a_thread
    _state.requested, _state.is_resent = None, False
    try:
        yield
    finally:
        sys.unraisablehook, threading.excepthook = hooks
        for number, handler in previous.items():
            signal.signal(number, handler)
        os.close(terminal)


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Defers a signal to the end of a block of steps that belong together."""
    _state.num_deferring += 1
    try:
        yield
    finally:
        _state.num_deferring -= 1
    check()


def mark_started_processes() -> None:
    """Marks the processes started from now on, so that `end_started_processes` finds them."""
    os.environ[_MARK] = _own_mark()


def end_started_processes(grace_s: float = _GRACE_S) -> None:
    """Ends all processes that this process started, directly or indirectly.

    Args:
      grace_s: Number of seconds until they are killed.
    """
    end = time.monotonic() + grace_s
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process_id in (running := _started_processes()):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process_id, number)
        while running and time.monotonic() < end:
            time.sleep(_POLL_S)
            running = _started_processes()


def _later(seconds: float, function: Callable[[], object]) -> None:
    timer = threading.Timer(seconds, function)
    timer.daemon = True
    timer.start()


def _own_mark() -> str:
    return f"{os.getpid()}-{_start_of(os.getpid())}"


def _start_of(process_id: int) -> str:
    """Returns the start time of a process in ticks, as process ids are reused."""
    with open(f"/proc/{process_id}/stat", encoding="utf-8", errors="replace") as file:
        return file.read().rpartition(")")[2].split()[19]


def _started_processes() -> list[int]:
    mark = f"{_MARK}={_own_mark()}".encode()
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        if int(name) == os.getpid():
            continue
        with contextlib.suppress(OSError), open(f"/proc/{name}/environ", "rb") as file:
            variables = file.read().split(b"\0")
            if mark in variables and not any(v.startswith(_OUTLIVES) for v in variables):
                found.append(int(name))
    return found


def _on_lost_error(unraisable: "sys.UnraisableHookArgs") -> None:
    """Ignores an error lost in a callback or a destructor; sends a lost interrupt again."""
    if _state.requested is None:
        sys.__unraisablehook__(unraisable)
    elif issubclass(unraisable.exc_type, KeyboardInterrupt):
        _state.is_resent = True
        _later(_AGAIN_S, functools.partial(os.kill, os.getpid(), _state.requested))


def _on_error_of_a_thread(arguments: "threading.ExceptHookArgs") -> None:
    """Ignores the errors of threads once a command is interrupted."""
    if _state.requested is None:
        threading.__excepthook__(arguments)
