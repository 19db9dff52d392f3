"""The blocks of code that the pages of Start and How-to show, and the shell that runs them.

A comment right above a block, which no reader sees, says what becomes of it in the tests:

    <!-- file: NAME -->        it is the file NAME of the reader's folder
    <!-- not run: REASON -->   it cannot be run here
    <!-- run by FILES -->      tests of these files run it, or the same with smaller sizes
    <!-- run on PAGE -->       its commands are run on another page

A block of commands without such a comment is run by `tests/e2e/shown_commands_test.py`.
"""

import dataclasses
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Mapping
from pathlib import Path

import yaml

from scripts.site_pages import ROOT_PAGES

ROOT = Path(__file__).resolve().parent.parent
# What a reader types: into a shell, or into Python.
COMMAND_LANGUAGES = ("sh", "python")
# The Python of this page is parts of modules; `tests/contributing_test.py` reads it.
_WITHOUT_PROGRAMS = "CONTRIBUTING.md"
_SECTIONS = ("Start", "How-to")
_BLOCK = re.compile(
    r"^(?P<indent> *)(?:<!-- (?P<mark>file:|not run:|run by|run on) (?P<said>[^\n]+) -->\n *)?"
    r"```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
# What a test changes in the commands that it runs, and nothing else: the ports, which others may
# use meanwhile, and the number of the version, which is the time of the push.
SUBSTITUTIONS = {
    r"\btagtower serve\b": "tagtower serve --port={port} --rest_api_port={rest_port}",
    r"\btagtower query\b": "tagtower query --server=localhost:{port}",
    r"\blocalhost:8500\b": "localhost:{port}",
    r"\blocalhost:8501\b": "localhost:{rest_port}",
    r"\b1732550400\b": "{version}",
}
# Nobody waits longer for one block: a server that never answers must not hold the tests.
_LONGEST_S = 1800


@dataclasses.dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
      page: Path of the page below the root.
      line: Line of the fence.
      language: What the fence says.
      text: Its lines, without the page's indent.
      mark: `file:`, `not run:`, `run by`, `run on`, or "".
      said: What the mark says.
    """

    page: str
    line: int
    language: str
    text: str
    mark: str
    said: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def is_command(self) -> bool:
        """Whether a reader types it."""
        if self.page == _WITHOUT_PROGRAMS and self.language == "python":
            return False
        return self.language in COMMAND_LANGUAGES

    @property
    def commands(self) -> list[str]:
        """The commands of a shell, a line each, without comments, path and `&`."""
        lines = self.text.replace("\\\n", " ").replace(".venv/bin/", "").splitlines()
        bare = [re.sub(r"(^|\s+)#.*| &\s*(#.*)?$", "", line) for line in lines]
        return [" ".join(line.split()) for line in bare if line.strip()]


def blocks_of(page: str, text: str) -> list[Block]:
    """Reads the blocks of one page, in order."""
    return [
        Block(
            page,
            text[: match.start("language")].count("\n") + 1,
            match["language"],
            textwrap.dedent(match["text"]),
            match["mark"] or "",
            match["said"] or "",
        )
        for match in _BLOCK.finditer(text)
    ]


def shown_blocks() -> list[Block]:
    """The blocks of all pages of Start and How-to, in the order of the site's navigation."""
    navigation = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    sections = {title: pages for section in navigation for title, pages in section.items()}
    names = [name for title in _SECTIONS for page in sections[title] for name in page.values()]
    paths = [ROOT_PAGES.get(name, f"docs/{name}") for name in names]
    return [b for p in paths for b in blocks_of(p, (ROOT / p).read_text(encoding="utf-8"))]


class ReadersShell:
    """One bash in which blocks run after one another; a command that fails ends it.

    Args:
      folder: The working directory.
      log: Gets what the blocks write.
      programs: A folder of programs that are found first.
    """

    def __init__(self, folder: Path, log: Path, programs: Path | None = None):
        self._folder, self._log = folder, log
        self._num = 0
        found_first = [str(programs)] if programs else []
        path = [*found_first, str(Path(sys.prefix) / "bin"), os.environ["PATH"]]
        # A reader has none of the variables that tests and imports set.
        own = {name: v for name, v in os.environ.items() if not name.startswith("TF_")}
        self._process = subprocess.Popen(
            ["bash", "-e"],
            cwd=folder,
            env={**own, "PATH": os.pathsep.join(path), "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, block: Block, values: Mapping[str, object]) -> str:
        """Runs one block.

        Args:
          block: The block of commands.
          values: Values of the substitutions, by name.

        Returns:
          What it wrote.

        Raises:
          AssertionError: A command of the block failed.
        """
        text = block.text
        for pattern, replacement in SUBSTITUTIONS.items():
            text = re.sub(pattern, lambda _, r=replacement: r.format(**values), text)
        self._num += 1
        script = self._log.with_suffix(f".{self._num}.{block.language}")
        script.write_text(text, encoding="utf-8")
        begin = self._log.stat().st_size if self._log.exists() else 0
        runs = "." if block.language == "sh" else "python"
        too_long = threading.Timer(_LONGEST_S, self._kill)
        too_long.start()
        try:
            self._process.stdin.write(f"{runs} '{script}' </dev/null >>'{self._log}' 2>&1\n")
            self._process.stdin.write("echo done\n")
            self._process.stdin.flush()
            ended = self._process.stdout.readline()
        finally:
            too_long.cancel()
        written = self._log.read_bytes()[begin:].decode("utf-8", "replace")
        assert ended == "done\n", f"{block} failed:\n{text}\n{written}"
        return written

    def close(self) -> None:
        """Ends what was started with `&`, and the shell, in order."""
        try:
            self._process.communicate("kill $(jobs -p) 2>/dev/null; wait\n", timeout=120)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            pass
        finally:
            self._kill()
            self._process.wait()

    def _kill(self) -> None:
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
