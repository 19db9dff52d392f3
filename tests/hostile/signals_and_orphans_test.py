"""A closed terminal, a killed parent, and what killed runs leave behind."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tfx_pipeline.engines.child_processes import tied_to_this_process
from tfx_pipeline.runs.leftovers import remove_leftovers
from tfx_pipeline.versions.base_path_lock import new_staging
from trainer.contract.whole_files import unfinished

PATIENCE_S = 300
COMMAND = """
import sys, time
from tfx_pipeline import cli
from tfx_pipeline.terminal import command_line

def command(parsed):
    print("waits", flush=True)
    time.sleep(3600)

command_line.run_command = command
sys.argv = ["tagtower", "runs"]
sys.exit(cli.main())
"""
# A command that is killed while a process that it has started works on.
PARENT = """
import subprocess, sys
from tfx_pipeline.engines.child_processes import tied_to_this_process
child = [sys.executable, "-c", "import time; print('works', flush=True); time.sleep(3600)"]
process = subprocess.Popen(tied_to_this_process(child), stdout=subprocess.PIPE)
process.stdout.readline()
print(process.pid, flush=True)
process.wait()
"""


def start(script: str, *arguments: str, **options) -> subprocess.Popen:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", script, *arguments], **{**pipes, **options})


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGHUP, 129), (signal.SIGTERM, 143), (signal.SIGINT, 130)]
)
def test_command_that_is_ended_says_so_in_a_line(number, status):
    # pytest under `nohup` ignores SIGHUP, and so would the command that it starts.
    process = start(COMMAND, preexec_fn=lambda: signal.signal(number, signal.SIG_DFL))
    assert process.stdout.readline() == "waits\n"
    process.send_signal(number)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, err) == (status, "tagtower runs: interrupted\n")


def test_what_nohup_started_goes_on():
    process = start(COMMAND, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    assert process.stdout.readline() == "waits\n"
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, err) == (143, "tagtower runs: interrupted\n")


def test_terminal_that_is_gone_is_no_error():
    main, terminal = os.openpty()
    # As above: not what `nohup` passes on.
    process = start(
        COMMAND,
        stderr=terminal,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )
    os.close(terminal)
    assert process.stdout.readline() == "waits\n"
    os.close(main)
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=PATIENCE_S) == 129


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_child_ends_with_its_parent_however_that_ends(number):
    with start(PARENT) as parent:
        child = psutil.Process(int(parent.stdout.readline()))
        parent.send_signal(number)
        parent.wait(timeout=PATIENCE_S)
    end = time.monotonic() + PATIENCE_S
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < end
        time.sleep(0.02)


def test_child_is_the_program_with_its_arguments_status_and_input():
    code = "import sys; print(sys.argv[1:], sys.stdin.read()); sys.exit(7)"
    command = tied_to_this_process([sys.executable, "-c", code, "a b", "--c"])
    done = subprocess.run(command, input="x", capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, "['a b', '--c'] x\n", "")


# Files that another, killed process had begun.
KILLED = """
import os, sys
from tfx_pipeline.versions.base_path_lock import new_staging
from trainer.contract.whole_files import unfinished
for path in sys.argv[1:3]:
    open(unfinished(path), "w").close()
os.makedirs(os.path.join(new_staging(sys.argv[3]), "variables"))
"""


def test_leftovers_of_killed_runs_go_and_nothing_else(tmp_path):
    output, base = tmp_path / "run", tmp_path / "serving"
    report = output / "runs" / "1" / "report.json"
    metrics = output / "artifacts" / "Evaluator" / "evaluation" / "4" / "metrics.json"
    partial = output / "artifacts" / "Trainer" / "model" / "5" / "saved_model.pb"
    unknown = output / "artifacts" / "Trainer" / "model" / "77" / "saved_model.pb"
    system = output / "artifacts" / "Trainer" / ".system" / "executor_execution"
    users = output / "notes" / "mine.tmp"
    version = base / "8" / "saved_model.pb"
    whole = [report, metrics, unknown, users, version, system / "5" / "executor_output.pb"]
    for path in (*whole, partial, system / "5" / ".temp" / "x"):
        path.parent.mkdir(parents=True)
        path.write_text("x")
    with sqlite3.connect(output / "metadata.sqlite") as store:
        store.execute("CREATE TABLE Execution (id INTEGER, last_known_state INTEGER)")
        store.executemany("INSERT INTO Execution VALUES (?, ?)", [(4, 3), (5, 2)])
    store.close()
    assert start(KILLED, str(report), str(metrics), str(base)).wait(timeout=PATIENCE_S) == 0
    own = [Path(unfinished(str(report))), Path(new_staging(str(base)))]
    own[0].write_text("")
    own[1].mkdir()

    said = remove_leftovers(str(output), [str(base), str(tmp_path / "nowhere")])

    assert said == [
        "2 unfinished files",
        "1 working folders of nodes",
        "1 outputs of nodes that did not end",
        "1 versions that were not pushed to the end",
    ]
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    kept = {*whole, own[0], output / "metadata.sqlite", base / ".lock"}
    assert set(left) == kept and own[1].is_dir()
    assert not partial.parent.exists() and not (system / "5" / ".temp").exists()
    assert remove_leftovers(str(output), [str(base)]) == []


# A run that is killed between making a link to an output and renaming it.
KILLED_LINK = """
import os, sys
from trainer.contract import whole_files
os.replace = lambda *names: os._exit(0)
whole_files.replace_link(sys.argv[1], sys.argv[2])
"""


def test_beside_our_folders_only_names_with_our_mark_go(tmp_path):
    output = tmp_path / "run"
    artifact = output / "artifacts" / "ExampleGen" / "instances" / "3"
    artifact.mkdir(parents=True)
    (artifact / "part").write_text("x")
    own = output / "runs" / "1" / "report.json.tmp"  # as older releases wrote them
    own.parent.mkdir(parents=True)
    users = [output / "notes.tmp", output / "export.tmp"]
    for path in (own, *users):
        path.write_text("x")
    (output / "kept.tmp").symlink_to(artifact)
    (own.parent / "linked.tmp").symlink_to(artifact)
    for path in (own, *users, output / "kept.tmp", own.parent / "linked.tmp"):
        two_hours_ago = time.time() - 2 * 3600
        os.utime(path, (two_hours_ago, two_hours_ago), follow_symlinks=False)
    killed = start(KILLED_LINK, str(artifact), str(output / "instances"))
    assert killed.wait(timeout=PATIENCE_S) == 0
    assert len([path for path in output.iterdir() if path.name.startswith("instances.")]) == 1

    assert remove_leftovers(str(output), []) == ["3 unfinished files"]

    left = {path.name for path in output.iterdir()}
    assert left == {"artifacts", "runs", "notes.tmp", "export.tmp", "kept.tmp"}
    assert (artifact / "part").exists() and not any(own.parent.iterdir())
