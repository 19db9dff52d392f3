"""Runs `python -m MODULE ARGUMENTS` in forks of a process that has imported the module.

It is for commands whose imports take long, as those of TFX's entry point of a container do. A fork
has the environment and the folder of the process that it comes from, and runs the module as
`__main__` with its own arguments; of what it imports nothing has run but the imports themselves.
"""

import dataclasses
import json
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

# Reads a line a command. Each runs in a process of its own; its parent, nothing but a fork of this
# one, says how it ended. So no thread is needed here, beside which there may be no fork.
_SERVER = """
import importlib, json, os, runpy, signal, sys, traceback

importlib.import_module(sys.argv[1])
print(json.dumps({"ready": True}), flush=True)

def run(request):
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, number in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, number)
    sys.argv = request["argv"]
    try:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)

signal.signal(signal.SIGCHLD, signal.SIG_IGN)
while line := sys.stdin.readline():
    request = json.loads(line)
    if os.fork():
        continue
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    child = os.fork()
    if not child:
        run(request)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    answer = json.dumps({"id": request["id"], "status": status}) + chr(10)
    os.write(1, answer.encode())
    os._exit(0)
"""


@dataclasses.dataclass
class Finished:
    """The end of a command: its exit status, negative for a signal, and its output."""

    returncode: int
    stdout: str


class ForkedCommands:
    """Runs commands of one module; several threads may call it at once.

    Args:
      module: Module that is imported once.
      environment: Variables of the process.
      working_dir: Folder in which the commands run.
      log_dir: Folder for the output of commands while they run.
    """

    def __init__(
        self, module: str, environment: Mapping[str, str], working_dir: Path, log_dir: Path
    ):
        self._log_dir = log_dir
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SERVER, module],
            env=dict(environment),
            cwd=working_dir,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._num = 0
        self._ended: dict[int, int] = {}
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def run(self, argv: Sequence[str], timeout: float) -> Finished:
        """Runs `python -m ARGV` in a fork."""
        with self._changed:
            number = self._num = self._num + 1
            log = self._log_dir / f"{number}.log"
            request = {"id": number, "argv": list(argv), "log": str(log)}
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            is_done = self._changed.wait_for(
                lambda: number in self._ended or not self._reader.is_alive(), timeout
            )
            assert is_done and number in self._ended, f"{argv[0]} did not end: {log.read_text()}"
        return Finished(self._ended[number], log.read_text(errors="replace"))

    def close(self) -> None:
        """Ends the process that imports the module."""
        self._process.stdin.close()
        self._process.wait()
        self._reader.join()
        self._process.stdout.close()

    def _read(self) -> None:
        for line in self._process.stdout:
            answer = json.loads(line)
            with self._changed:
                if "id" in answer:
                    self._ended[answer["id"]] = answer["status"]
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()
