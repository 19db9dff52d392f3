"""A starting server is waited for while it makes progress; else one line says its last words.

Real processes of `tagtower serve`: slow ones, stopped ones, and ones that die.
"""

import os
import re
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from serving.client import TagClient
from tests.serving.model_server import toy_models
from tfx_pipeline.engines.process_progress import ProcessProgress, last_words, stop_process
from tfx_pipeline.runs import local_server as local_server_module
from tfx_pipeline.runs.local_server import ServerNotUp, local_server


@pytest.fixture(scope="module")
def versions(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    toy_models.save_toy(folder / "7", 7)
    return folder


def come_up(base_path, log, *flags, **options) -> str:
    """Starts a server; returns why it did not come up."""
    with pytest.raises(ServerNotUp) as caught, local_server(base_path, log, *flags, **options):
        pass
    text = str(caught.value)
    assert len(text.splitlines()) == 1 and "Traceback" not in text
    assert text.startswith("the model server did not come up: ")
    assert text.endswith(f"(see {log})")
    return text


def when_started(monkeypatch, act):
    """Calls `act(process)` in a thread as soon as the server's process exists."""
    started = subprocess.Popen

    def popen(*arguments, **options):
        process = started(*arguments, **options)
        if "serve" in arguments[0]:
            threading.Thread(target=act, args=(process,)).start()
        return process

    monkeypatch.setattr(local_server_module.subprocess, "Popen", popen)


def test_slow_server_outlasts_any_patience_and_says_what_it_does(tmp_path, versions, monkeypatch):
    # Stopped for longer than it takes to lose patience twice if that were a time limit, but never
    # for the whole of it.
    def slow_down(process):
        for _ in range(4):
            time.sleep(0.5)
            process.send_signal(signal.SIGSTOP)
            time.sleep(1.5)
            process.send_signal(signal.SIGCONT)

    when_started(monkeypatch, slow_down)
    log = tmp_path / "logs" / "server.log"

    with local_server(versions, log, has_rest=False, patience_s=4) as server:
        assert server.startup_seconds > 4
        with TagClient(server.target) as client:
            statuses = server.ask(lambda timeout_s: client.model_status(timeout_s=timeout_s))
    assert [(status.version, status.state) for status in statuses] == [(7, "AVAILABLE")]

    lines = [re.sub(r"^20\d\d-\S+Z ", "", line) for line in log.read_text().splitlines()]
    assert lines[0] == "Loading TensorFlow ..."
    assert lines[1] == f"Loading version 7 of default from {versions / '7'} ..."
    assert lines[2] == f"Version 7 has no manifest, not checked: {versions / '7'}"
    assert lines[3].startswith("Loaded version 7 of default in ")
    assert lines[4] == f"Serving default version 7: gRPC on {server.port}."
    assert not psutil.pid_exists(server.process_id)


def test_server_that_stands_still_is_given_up_with_what_it_did_last(
    tmp_path, versions, monkeypatch
):
    def stop(process):
        while "Loading" not in (tmp_path / "log").read_text():
            time.sleep(0.05)
        process.send_signal(signal.SIGSTOP)

    when_started(monkeypatch, stop)

    reason = come_up(versions, tmp_path / "log", patience_s=2)
    assert re.search(r"it has done nothing for 2 s: \S+Z Loading TensorFlow \.\.\.", reason)


@pytest.mark.parametrize(
    ("flag", "reason"),
    [
        ("--no_such_flag", "it ended with status 2: tagtower: unrecognized arguments"),
        ("--drain_seconds=-1", "it ended with status 2: tagtower serve: `--drain_seconds` must"),
    ],
)
def test_server_that_ends_is_named_with_its_last_words(tmp_path, flag, reason):
    log = tmp_path / "log"
    log.write_text("of an earlier run\n")

    assert f"up: {reason}" in come_up(tmp_path, log, flag)


def test_server_that_is_killed_is_named_with_the_signal(tmp_path, versions, monkeypatch):
    when_started(monkeypatch, lambda process: process.kill())

    assert ": it was ended by SIGKILL: it printed nothing (see" in come_up(
        versions, tmp_path / "log"
    )


def test_version_that_does_not_load_is_not_waited_for(tmp_path):
    (tmp_path / "versions" / "3").mkdir(parents=True)
    (tmp_path / "versions" / "3" / "saved_model.pb").write_bytes(b"\x00broken")

    reason = come_up(tmp_path / "versions", tmp_path / "log")
    assert ": version 3 does not load: " in reason
    assert "Version 3 of default does not load" in reason.partition("does not load: ")[2]


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_time_in_which_the_watcher_itself_was_stopped_does_not_count():
    clock = Clock()
    with subprocess.Popen(["sleep", "60"]) as idle:
        progress = ProcessProgress(lambda: [idle.pid], patience_s=60, clock=clock)
        clock.now += 3600
        assert not progress.is_standing_still()
        for _ in range(11):
            clock.now += 5
            assert not progress.is_standing_still()
        clock.now += 5
        assert progress.is_standing_still()
        idle.kill()


@pytest.mark.parametrize(
    "code",
    [
        "while True: pass",
        "import subprocess, sys; subprocess.run([sys.executable, '-c', 'while True: pass'])",
        "while True: open('/dev/zero', 'rb').read(1 << 20)",
    ],
    ids=["computes", "child computes", "reads"],
)
def test_work_of_a_process_or_its_child_is_progress(code):
    clock = Clock()
    with subprocess.Popen([sys.executable, "-c", code], start_new_session=True) as process:
        progress = ProcessProgress(lambda: [process.pid], patience_s=6, clock=clock)
        for _ in range(3):  # an hour and more
            time.sleep(0.5)
            clock.now += 5
            assert not progress.is_standing_still()
        os.killpg(process.pid, signal.SIGKILL)


def test_process_that_will_not_stop_is_killed():
    code = "import signal; signal.signal(15, signal.SIG_IGN); print(1, flush=True); signal.pause()"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"1\n"
        stop_process(process, patience_s=0.6)
        assert process.returncode == -signal.SIGKILL


def test_last_words_are_one_line_without_stacks(tmp_path):
    log = tmp_path / "log"
    log.write_text(
        "first\nLoading ...\nTraceback (most recent call last):\n"
        '  File "x.py", line 1, in <module>\n    import y\n\nModuleNotFoundError: No module y\n'
    )

    words = last_words(log)
    assert words == f"first | Loading ... | ModuleNotFoundError: No module y (see {log})"
    assert last_words(log, 6).startswith("Loading ... | Module")
    assert last_words(tmp_path / "none") == f"it printed nothing (see {tmp_path / 'none'})"


def test_server_without_a_version_is_stopped_without_a_word_of_requests(tmp_path):
    log = tmp_path / "log"
    command = [sys.executable, "-m", "tfx_pipeline.cli", "serve", "--port=0", "--rest_api_port=0"]
    with log.open("w") as file:
        process = subprocess.Popen(
            [*command, f"--model_base_path={tmp_path / 'nothing'}"], stdout=file, stderr=file
        )
    deadline = time.monotonic() + 120
    while "Waiting for it" not in log.read_text():
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
    process.terminate()

    assert process.wait(120) == 0
    assert "Stopped by SIGTERM" in log.read_text()
    assert "cut off" not in log.read_text()
