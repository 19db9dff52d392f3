"""Builds the programs of docs/clients/ by the commands of docs/other-languages.md, in a copy.

Libraries come from the registry of the language into the user's own cache; what is built stays in
the copy.
"""

import dataclasses
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "other-languages.md"
PROTOS = ROOT / "serving" / "protos"
# Nobody waits longer for a registry or a compiler.
_LONGEST_S = 900
# What Go, npm and Maven say of a registry that they cannot reach.
_UNREACHABLE = re.compile(
    r"dial tcp|no such host|i/o timeout|disabled by GOPROXY=off"
    r"|\b(?:ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ENETUNREACH|ETIMEDOUT|ENOTCACHED)\b"
    r"|Could not transfer artifact|Cannot access \S+ .*in offline mode|Unknown host"
)


# What must be on PATH, by heading of the page.
TOOLS = {"Go": ("go", "protoc"), "Java": ("java", "mvn"), "Node": ("node", "npm")}


def shown_commands(language: str) -> list[str]:
    """Returns the lines of the block of commands below a heading of the page."""
    section = PAGE.read_text("utf-8").partition(f"\n## {language}\n")[2]
    return re.search(r"^```sh\n(.*?)^```", section, re.MULTILINE | re.DOTALL)[1].splitlines()


@dataclasses.dataclass(frozen=True)
class Program:
    """A program that was built.

    Attributes:
      folder: Where it was built.
      command: Command before its flags.
    """

    folder: Path
    command: tuple[str, ...]

    def start(self, **flags: object) -> subprocess.Popen:
        """Starts it with flags; its output is text."""
        words = [f"--{name}={value}" for name, value in flags.items()]
        return subprocess.Popen(
            [*self.command, *words],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def build(language: str, folder: Path) -> Program:
    """Builds a program by the page's commands in a folder that does not exist yet.

    A missing tool, or a registry that cannot be reached, skips the test.
    """
    missing = [tool for tool in TOOLS[language] if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    shutil.copytree(ROOT / "docs" / "clients" / language.lower(), folder)
    shutil.copytree(PROTOS, folder / "protos")
    _, *commands, run = map(shlex.split, shown_commands(language))
    for command in commands:
        done = subprocess.run(
            command,
            cwd=folder,
            # npm asks its registry for no more than its cache lacks, as Go and Maven do.
            env={**os.environ, "npm_config_prefer_offline": "true"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_LONGEST_S,
        )
        if done.returncode != 0:
            reason = unreachable(done.stdout)
            if reason:
                pytest.skip(f"{command[0]} cannot reach its registry: {reason}")
            pytest.fail(f"{shlex.join(command)} failed:\n{done.stdout}")
    return Program(folder, tuple(run[:-1]))


def unreachable(output: str) -> str:
    """Returns the line in which a tool says that it cannot reach its registry, or ""."""
    return next((line for line in output.splitlines() if _UNREACHABLE.search(line)), "")
