"""The terminal of a long command: the program's own lines, without the libraries' output.

Libraries write to the process's standard output and error from Python and from C++; both go to a
log file while a command runs, and the program's own lines (loggers named `tagtower...`, and
`Console.line`) go to the terminal.
"""

import contextlib
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from typing import TextIO

from tfx_pipeline.terminal import interrupts
from tfx_pipeline.terminal.full_disk import full_disk
from trainer.contract.file_system import make_folders, remove_folder

PROGRESS_LOGGER = "tagtower"


class Console:
    """The terminal to which the program writes its own lines.

    Attributes:
      log_path: File with the output of the libraries; None: it is not redirected.
    """

    def __init__(self, stream: TextIO, log_path: str | None = None):
        """Initializes with the stream of the terminal.

        Args:
          stream: Stream to write to.
          log_path: File with the output of the libraries; None: it is not redirected.
        """
        self._stream = stream
        self.log_path = log_path

    def line(self, text: str = "") -> None:
        """Writes one line (or a block of them)."""
        self._stream.write(text + "\n")
        self._stream.flush()


@contextlib.contextmanager
def quiet_libraries(log_path: str) -> Iterator[Console]:
    """Redirects the output of libraries to a file for the duration of a command.

    Args:
      log_path: Path of the file; appended to.

    Yields:
      The console of the terminal.
    """
    make_folders(os.path.dirname(os.path.abspath(log_path)))
    sys.stdout.flush()
    sys.stderr.flush()
    saved_out, saved_err = os.dup(1), os.dup(2)
    with open(log_path, "ab") as log, os.fdopen(os.dup(saved_out), "w") as terminal:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        console = Console(terminal, log_path)
        handler = _ProgressHandler(console)
        progress = logging.getLogger(PROGRESS_LOGGER)
        progress.addHandler(handler)
        progress.setLevel(logging.INFO)
        # The root logger's handlers belong to the libraries.
        progress.propagate = False
        try:
            yield console
        finally:
            progress.removeHandler(handler)
            progress.propagate = True
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError):  # the log may be on a full disk
                    stream.flush()
            os.dup2(saved_out, 1)
            os.dup2(saved_err, 2)
            os.close(saved_out)
            os.close(saved_err)


@contextlib.contextmanager
def temporary_log(name: str, kept_on: type[Exception] | tuple[()] = ()) -> Iterator[str]:
    """Provides a log file for a command without output folder; it is kept only if needed.

    Args:
      name: Name of the file.
      kept_on: Types of errors whose line names the log, so that it is kept.

    Yields:
      Path of the log file.
    """
    folder = tempfile.mkdtemp(prefix="tagtower-")
    try:
        yield os.path.join(folder, name)
    except kept_on:
        raise
    except (ValueError, KeyboardInterrupt, BrokenPipeError):
        remove_folder(folder)
        raise
    except Exception as error:
        if interrupts.requested() or full_disk(error) is not None:
            remove_folder(folder)
            raise
        print(f"unexpected error; what the libraries said is in {folder}", file=sys.stderr)
        raise
    remove_folder(folder)


def silence_imports() -> None:
    """Silences the libraries at import, for commands whose output is short."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings.filterwarnings("ignore")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    logging.getLogger("apache_beam").setLevel(logging.ERROR)


class _ProgressHandler(logging.Handler):
    def __init__(self, console: Console):
        super().__init__(logging.INFO)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        interrupts.check()
        self._console.line(f"    {record.getMessage()}")
