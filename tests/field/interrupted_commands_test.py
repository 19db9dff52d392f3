"""Signals and closed pipes at several moments of real commands: at most one line, no leftovers."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from tests.serving.model_server import toy_models

INTERRUPTED = {signal.SIGINT: 130, signal.SIGTERM: 143}
MARK = "TAGTOWER_TEST"
# Takes minutes.
LARGE = ["--num_users=200000"]


@contextlib.contextmanager
def started(*command, folder, **options):
    """Runs a process; the test fails if a part of it is left at the end."""
    mark = f"{folder}-{time.monotonic()}"
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**os.environ, MARK: mark, "PYTHONUNBUFFERED": "1"},
        **options,
    )
    yield process
    process.wait()
    left = [p.cmdline() for p in psutil.process_iter() if environment(p).get(MARK) == mark]
    assert left == []


def environment(process):
    with contextlib.suppress(psutil.Error, OSError):
        return process.environ()
    return {}


def tagtower(*arguments, folder, **options):
    return started(sys.executable, "-m", "tfx_pipeline.cli", *arguments, folder=folder, **options)


def assert_interrupted(process, number):
    """Waits for the end, and checks the exit status and the line."""
    _, err = process.communicate()
    assert process.returncode == INTERRUPTED[number], err
    assert err.splitlines()[-1] == f"tagtower {process.args[3]}: interrupted"
    assert "Traceback" not in err


@pytest.mark.parametrize("number", INTERRUPTED)
@pytest.mark.parametrize(
    "engine",
    [[], pytest.param(["--runner=multi_process"], marks=pytest.mark.e2e)],
    ids=["", "in processes"],
)
def test_tables_that_are_being_written_leave_nothing(tmp_path, number, engine):
    def is_writing():
        return any(name.startswith("out.partial") for name in os.listdir(tmp_path))

    with tagtower("prepare", "demo", "--output=out", *LARGE, *engine, folder=tmp_path) as process:
        while not is_writing():
            assert process.poll() is None
            time.sleep(0.02)
        if engine:  # until its workers are there
            while process.poll() is None and not psutil.Process(process.pid).children():
                time.sleep(0.02)
        process.send_signal(number)
        assert_interrupted(process, number)
    assert os.listdir(tmp_path) == []


@pytest.fixture(scope="module")
def versions(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    toy_models.save_toy(folder / "7", 7)
    return folder


@pytest.mark.parametrize(
    ("number", "until", "status"),
    [
        (signal.SIGINT, "Loading TensorFlow", 130),
        (signal.SIGTERM, "Loading TensorFlow", 143),
        (signal.SIGINT, "Serving", 130),
        # The way to stop a server.
        (signal.SIGTERM, "Serving", 0),
    ],
)
def test_server_ends_in_order(tmp_path, versions, number, until, status):
    with tagtower(
        "serve", "--port=0", "--rest_api_port=0", f"--model_base_path={versions}", folder=tmp_path
    ) as process:
        stream = process.stdout if until == "Serving" else process.stderr
        assert until in stream.readline()
        process.send_signal(number)
        _, err = process.communicate()
    assert process.returncode == status
    assert "Traceback" not in err
    assert err.endswith("tagtower serve: interrupted\n") == (status != 0)


SCRIPT = """
import os, signal, sys, time
from tfx_pipeline import cli
from tfx_pipeline.terminal import command_line, interrupts

def command(parsed):
    {}

command_line.run_command = command
sys.argv = ["tagtower", "runs"]
sys.exit(cli.main())
"""
BEAM = """import logging
    logging.disable()  # to a file, in a command
    import apache_beam as beam
    from tfx_pipeline.engines.beam_failure import one_line_failures
    def interrupt(element):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(3600)
    try:
        with one_line_failures(None), beam.Pipeline() as pipeline:
            pipeline | beam.Create([1]) | beam.Map(interrupt)
    except KeyboardInterrupt:
        print("as itself")
        raise"""
IMPORT = """try:
        os.kill(os.getpid(), signal.SIGINT)
    except KeyboardInterrupt as error:
        raise ImportError("half a module") from None"""
MISTAKE = IMPORT.replace("ImportError", "ValueError")
LOST = """class Lost:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)
    lost = Lost()
    del lost
    time.sleep(3600)"""
SWALLOWED = """try:
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        pass
    interrupts.check()"""
THREAD = """import threading
    def fail():
        time.sleep(0.3)
        raise OSError("the other end is gone")
    threading.Thread(target=fail).start()
    try:
        os.kill(os.getpid(), signal.SIGINT)
    finally:
        time.sleep(0.6)"""
WAITING_THREAD = """import threading
    threading.Thread(target=time.sleep, args=(3600,)).start()
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(3600)"""
DEFERRED = """with interrupts.deferred():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)
        print("as itself")"""
ORPHAN = """import subprocess
    subprocess.run(["sh", "-c", "sleep 3600 & sleep 3600 & exit 0"])
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(3600)"""
TWICE = """try:
        os.kill(os.getpid(), signal.SIGINT)
    finally:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(3600)"""


@pytest.mark.parametrize(
    ("code", "said"),
    [
        pytest.param(BEAM, "as itself\n", id="inside Beam"),
        pytest.param(IMPORT, "", id="import"),
        pytest.param(MISTAKE, "", id="taken for a mistake"),
        pytest.param(LOST, "", id="in a destructor"),
        pytest.param(SWALLOWED, "", id="swallowed"),
        pytest.param(THREAD, "", id="error of a thread"),
        pytest.param(WAITING_THREAD, "", id="thread that waits"),
        pytest.param(DEFERRED, "as itself\n", id="steps that belong together"),
        pytest.param(ORPHAN, "", id="processes without a parent"),
        pytest.param(TWICE, "", id="twice"),
    ],
)
def test_whatever_becomes_of_an_interrupt_is_one_line(tmp_path, code, said):
    with started(sys.executable, "-c", SCRIPT.format(code), folder=tmp_path) as process:
        out, err = process.communicate(timeout=600)  # not for ever
    assert process.returncode == 130
    assert err.splitlines()[-1] == "tagtower runs: interrupted"
    assert "Traceback" not in err and "Exception ignored" not in err
    assert out == said


@pytest.mark.parametrize(
    ("arguments", "streams"),
    [
        (["--help"], "stdout"),
        (["study", "--help"], "stdout"),
        (["prepare", "demo", "--output=out", "--num_users=30"], "stdout"),
        (["versions", "--model_base_path=versions", "--json"], "stdout"),
        (["versions", "--model_base_path=versions"], "stdout"),
        (["runs", "--output=none"], "stderr"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
)
def test_closed_pipe_ends_quietly(tmp_path, arguments, streams):
    for number in range(1, 400):
        (tmp_path / "versions" / str(number)).mkdir(parents=True)
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "tfx_pipeline.cli", *arguments]

    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | {streams: writer}
    finished = subprocess.run(command, cwd=tmp_path, text=True, check=False, **pipes)
    os.close(writer)

    assert finished.returncode == 141
    assert not finished.stdout and not finished.stderr
