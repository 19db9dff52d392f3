"""The reason why a job on a cluster failed, in one line.

In memory, Beam raises the error of the function. A cluster's runner raises a `RuntimeError` with
the text of two stack traces, Java's and Python's, or an error of gRPC; with worker processes on
this machine it has Python's alone. Errors in memory are not handled here.
"""

import contextlib
import logging
import re
import socket
from collections.abc import Iterator, Sequence

import grpc

from tfx_pipeline.terminal import interrupts

_logger = logging.getLogger(__name__)

_FAILED_JOB = re.compile(r"Pipeline \S+ failed in state (\w+): (.*)", re.DOTALL)
_TRACEBACK = "Traceback (most recent call last)"
# The last line of a traceback: the exception's name, optionally with its module, and its text.
_RAISED = re.compile(r"^(?:[A-Za-z_]\w*\.)*([A-Z]\w*): (.*)$", re.MULTILINE)
_WHERE = re.compile(r"\s*\[while running '[^']*'\]")
_JAVA_CLASSES = re.compile(r"^(?:(?:[a-z]\w*\.)+[A-Z][\w$]*: )+")
# Messages of Java, and their meanings.
_MEANINGS = (
    (
        r"CANCELLED: client cancelled|UNAVAILABLE",
        "a Python worker died, and so did those that replaced it",
    ),
    (
        r"Timeout has occurred|NoResourceAvailable",
        "the cluster does not have enough slots: a task manager was lost and did not come back, or "
        "`beam.flink.parallelism` is above the number of slots",
    ),
)


class BeamJobError(ValueError):
    """The error that a job in other processes failed, in one line."""


def failure_reason(error: BaseException) -> str | None:
    """Returns the reason why a job failed.

    Args:
      error: Error that Beam raised.

    Returns:
      The reason in one line; a user's mistake in a worker keeps its wording. None: the error does
      not come from another process.
    """
    if isinstance(error, grpc.RpcError):
        code = getattr(error, "code", lambda: None)()
        return f"Beam's job server was lost ({getattr(code, 'name', type(error).__name__)})"
    if not isinstance(error, RuntimeError):
        return None
    state, text = "FAILED", str(error)
    if failed := _FAILED_JOB.fullmatch(text):
        state, text = failed.groups()
    elif not text.startswith(_TRACEBACK):
        return None
    raised = _RAISED.findall(text) if _TRACEBACK in text else []
    if raised:
        kind, said = raised[-1]
        said = without_place(said)
        return said if kind == "ValueError" else f"{kind}: {said}"
    if state == "CANCELLED":
        return "the job was cancelled"
    for pattern, meaning in _MEANINGS:
        if re.search(pattern, text):
            return meaning
    return _JAVA_CLASSES.sub("", text.strip().partition("\n")[0])


def without_place(text: str) -> str:
    """Removes Beam's note on the running step from the text of a function's error."""
    return _WHERE.sub("", text).strip()


@contextlib.contextmanager
def one_line_failures(log_path: str | None) -> Iterator[None]:
    """Turns errors of a cluster or of worker processes into one line that names the log.

    Beam turns an interrupt into an ordinary error; here it becomes an interrupt again.

    Args:
      log_path: File with the output of the libraries; None: there is none.

    Raises:
      BeamJobError: A job failed. Errors of this process are not changed.
      KeyboardInterrupt: The command was interrupted.
    """
    try:
        yield
    except Exception as error:
        if interrupts.requested():
            raise KeyboardInterrupt from error
        _raise_in_one_line(error, log_path)
        raise


def _raise_in_one_line(error: Exception, log_path: str | None) -> None:
    reason = failure_reason(error)
    if reason is not None:
        _logger.error("%s", error)
        where = "" if log_path is None else f" (what the libraries said is in {log_path})"
        raise BeamJobError(f"the job failed: {reason.rstrip('.')}{where}") from error


def require_job_server(pipeline_args: Sequence[str]) -> None:
    """Checks that the job server answers, if the engine has one.

    Beam itself would wait a minute, and then not name what it waited for.

    Args:
      pipeline_args: Arguments of Beam's command line.

    Raises:
      ValueError: The job server does not answer.
    """
    endpoints = [a.partition("=")[2] for a in pipeline_args if a.startswith("--job_endpoint=")]
    for endpoint in endpoints:
        host, _, port = endpoint.rpartition(":")
        if not port.isdigit():
            continue  # one of Beam's own words, e.g. `embed`
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except OSError as error:
            raise ValueError(
                "`beam.flink.job_endpoint` must be where Beam's job server answers. "
                f"Received: {endpoint}, {error.strerror or error}."
            ) from error
