"""The command `tagtower`, which ends in an orderly way in every case.

A user's mistake is one line (`tfx_pipeline.terminal.command_line`), an interrupt is one as well,
and a closed pipe none. Nothing is imported here before signals are handled.
"""

import contextlib
import os
import sys
from collections.abc import Sequence

from tfx_pipeline.terminal import interrupts

# A mistake can be found while threads of a library still read: an interpreter that shuts down while
# they run may abort.
_MISTAKE = 2
_ENDS_AT_ONCE = (_MISTAKE, *map(interrupts.exit_status, interrupts.SIGNALS))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status.

    Args:
      arguments: Command line; None: that of the process, which then ends with the command: an
        interrupted one waits neither for threads nor for processes that it started.

    Returns:
      The exit status: 0, 2 for a user's mistake, 3 where a gate held the push, 4 where another run
      is using the output folder or the base path, 130 when interrupted (143: by SIGTERM, 129: by
      SIGHUP), 141 when its output is no longer read.
    """
    is_process = arguments is None
    given = sys.argv[1:] if arguments is None else arguments
    # If it is not the name of a command, the parser reports that.
    name = f" {given[0]}" if given and not given[0].startswith("-") else ""
    with interrupts.interruptible(name):
        try:
            status = _run(given, is_process)
        except BaseException as error:
            status = _status_of(error, name)
        if is_process and status in _ENDS_AT_ONCE:
            _end_process(status)
    return status


def _run(arguments: Sequence[str], is_process: bool) -> int:
    from tfx_pipeline.engines.direct_loopback import reach_loopback_directly
    from tfx_pipeline.terminal.command_line import build_parser, run_command

    if is_process:
        interrupts.mark_started_processes()
    reach_loopback_directly()
    try:
        parser = build_parser(arguments[0] if arguments else None)
        return run_command(parser.parse_args(arguments))
    finally:
        sys.stdout.flush()


def _status_of(error: BaseException, name: str) -> int:
    """Returns the exit status of a command that raised an error; reports an interrupt."""
    from tfx_pipeline.terminal.closed_pipe import (
        EXIT_CLOSED_PIPE,
        forget_closed_pipes,
        is_of_closed_pipe,
    )

    number = interrupts.requested()
    if number is not None or isinstance(error, KeyboardInterrupt):
        forget_closed_pipes()
        with contextlib.suppress(OSError):  # the terminal may be gone
            print(f"tagtower{name}: interrupted", file=sys.stderr, flush=True)
        return interrupts.exit_status(number)
    if is_of_closed_pipe(error):
        forget_closed_pipes()
        return EXIT_CLOSED_PIPE
    raise error


def _end_process(status: int) -> None:
    """Ends the process without waiting for the threads of libraries."""
    interrupts.end_started_processes()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # the disk may be full, or the terminal gone
            stream.flush()
    os._exit(status)


if __name__ == "__main__":
    sys.exit(main())
