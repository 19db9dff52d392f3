"""Reads damaged files in processes that are watched for death, hanging and growth."""

import collections
import dataclasses
import json
import os
import selectors
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.hostile_mutations import mutated_file
from benchmarks.hostile_reader import OVER_MEMORY, READ, REFUSED, TRACEBACK, UNCLEAR
from benchmarks.registry import Figures, Progress

CRASH, HANG = "crash", "hang"
OUTCOMES = (READ, REFUSED, UNCLEAR, TRACEBACK, OVER_MEMORY, CRASH, HANG)
_MEMORY_MB = 2_000
# Time limit, far beyond what reading a file of some kilobytes takes on a busy machine.
_HANG_S = 180.0
_TOLD_EVERY = 250


@dataclasses.dataclass
class FileOutcomes:
    """Outcomes of reading damaged files.

    Attributes:
      counts: Numbers of files by outcome.
      bad: Number, outcome and message of files that were neither read nor refused in a line.
    """

    counts: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    bad: list[tuple[int, str, str]] = dataclasses.field(default_factory=list)


class _Reader:
    """A process of `benchmarks.hostile_reader`, which is started again when it has died."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, path: str, kind: str) -> tuple[str, str]:
        if self._process is None:
            self._process = self._start()
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        stdin.write(json.dumps({"path": path, "kind": kind}).encode() + b"\n")
        stdin.flush()
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            if not selector.select(_HANG_S):
                self.stop()
                return HANG, f"no answer in {_HANG_S:.0f} s"
        line = stdout.readline()
        if line:
            answer = json.loads(line)
            return answer["outcome"], answer["said"]
        status = self._process.wait()
        self._process = None
        return CRASH, f"the process ended with {status}"

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @staticmethod
    def _start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "benchmarks.hostile_reader", str(_MEMORY_MB)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        )


def read_mutated(num_files: int, kept: Path, progress: Progress, first: int = 0) -> FileOutcomes:
    """Damages files and reads them.

    Args:
      num_files: Number of files.
      kept: Folder that keeps files that were neither read nor refused in a line.
      progress: Function that shows a line from time to time.
      first: Number of the first file.

    Returns:
      The outcomes.
    """
    found = FileOutcomes()
    reader = _Reader()
    with tempfile.TemporaryDirectory(prefix="hostile-") as folder:
        try:
            for number in range(first, first + num_files):
                suffix, kind, content = mutated_file(number)
                path = Path(folder) / f"{number}{suffix}"
                path.write_bytes(content)
                outcome, said = reader.ask(str(path), kind)
                found.counts[outcome] += 1
                if outcome not in (READ, REFUSED):
                    found.bad.append((number, outcome, said))
                    kept.mkdir(parents=True, exist_ok=True)
                    (kept / path.name).write_bytes(content)
                    progress(f"file {path.name} ({kind}): {outcome}: {said}")
                path.unlink()
                if (number + 1 - first) % _TOLD_EVERY == 0:
                    progress(f"{number + 1 - first} of {num_files} files: {dict(found.counts)}")
        finally:
            reader.stop()
    return found


def file_figures(found: FileOutcomes) -> Figures:
    """Returns the figures of the files by key."""
    figures: Figures = {"hostile.files.tried": sum(found.counts.values())}
    return figures | {f"hostile.files.{name}": found.counts[name] for name in OUTCOMES}
