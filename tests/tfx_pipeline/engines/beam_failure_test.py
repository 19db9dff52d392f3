import socket

import apache_beam as beam
import grpc
import pytest

from tfx_pipeline.engines.beam_failure import (
    BeamJobError,
    failure_reason,
    one_line_failures,
    require_job_server,
)

# As Beam's Flink runner words them.
JAVA = "java.lang.RuntimeException: Error received from SDK harness for instruction 10: "
PYTHON = """Traceback (most recent call last):
  File "apache_beam/runners/common.py", line 1501, in apache_beam.runners.common.DoFnRunner.process
  File "x.py", line 12, in read
    raise KeyError("a: b")
{first}

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "x.py", line 12, in read
    raise {first}
{last} [while running 'Read/Map(read)']
"""


def failed(text: str, state: str = "FAILED") -> RuntimeError:
    return RuntimeError(f"Pipeline BeamApp-root-1_2-3 failed in state {state}: {text}")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            JAVA + PYTHON.format(first="KeyError: 'k'", last="pyarrow.lib.ArrowInvalid: bad page"),
            "ArrowInvalid: bad page",
        ),
        (
            JAVA + PYTHON.format(first="ValueError: `k`", last="ValueError: `k` must be 1: no."),
            "`k` must be 1: no.",
        ),
        (
            "org.apache.beam.vendor.grpc.v1p60p1.io.grpc.StatusRuntimeException: "
            "org.apache.beam.vendor.grpc.v1p60p1.io.grpc.StatusRuntimeException: "
            "CANCELLED: client cancelled",
            "a Python worker died, and so did those that replaced it",
        ),
        (
            "java.io.IOException: Insufficient number of network buffers: required 512.\n\tat x",
            "Insufficient number of network buffers: required 512.",
        ),
    ],
    ids=["library", "mistake", "worker", "java"],
)
def test_failed_job_is_one_line(text, reason):
    assert failure_reason(failed(text)) == reason


def test_error_of_a_worker_process_of_this_machine_is_one_line():
    text = PYTHON.format(first="KeyError: 'k'", last="OSError: [Errno 28] No space left on device")

    assert failure_reason(RuntimeError(text)) == "OSError: [Errno 28] No space left on device"
    assert failure_reason(RuntimeError(f"It failed: {text}")) is None


def test_job_without_slots_names_both_causes():
    reason = failure_reason(
        failed("java.util.concurrent.TimeoutException: Timeout has occurred: 60000 ms")
    )

    assert "task manager" in reason and "`beam.flink.parallelism`" in reason


def test_cancelled_job_says_so():
    assert failure_reason(failed("unknown error", "CANCELLED")) == "the job was cancelled"


def test_lost_job_server_is_named():
    class Lost(grpc.RpcError):
        def code(self):
            return grpc.StatusCode.UNAVAILABLE

    assert failure_reason(Lost()) == "Beam's job server was lost (UNAVAILABLE)"


def test_line_says_where_the_log_is():
    with (
        pytest.raises(BeamJobError, match=r"^the job failed: X: y \(.* is in run\.log\)$"),
        one_line_failures("run.log"),
    ):
        raise failed(JAVA + PYTHON.format(first="X: z", last="X: y"))


def divide(number: int) -> float:
    return 1 / number


def test_error_of_memory_stays_as_it_is():
    with pytest.raises(ZeroDivisionError), one_line_failures("run.log"):  # noqa: SIM117
        with beam.Pipeline() as pipeline:
            _ = pipeline | beam.Create([0]) | beam.Map(divide)


def test_job_server_that_does_not_answer_is_one_clear_line():
    with socket.socket() as probe:
        # Bound, and not listening.
        probe.bind(("localhost", 0))
        endpoint = f"localhost:{probe.getsockname()[1]}"
        with pytest.raises(
            ValueError, match=f"`beam.flink.job_endpoint` must .* Received: {endpoint}, "
        ):
            require_job_server(["--runner=PortableRunner", f"--job_endpoint={endpoint}"])
        probe.listen()
        require_job_server([f"--job_endpoint={endpoint}"])
    require_job_server(["--runner=DirectRunner"])
