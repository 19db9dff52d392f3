"""Builds the programs of docs/clients/ as a reader does: a copy of the folder, the protos beside it.

Libraries come from the registry of the language into the user's own cache; what is built stays in
the copy.
"""

import dataclasses
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PROTOS = ROOT / "serving" / "protos"
# Nobody waits longer for a registry or a compiler.
_LONGEST_S = 900
# What Go, npm and Maven say of a registry that they cannot reach.
_UNREACHABLE = re.compile(
    r"dial tcp|no such host|i/o timeout|disabled by GOPROXY=off"
    r"|\b(?:ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ENETUNREACH|ETIMEDOUT|ENOTCACHED)\b"
    r"|Could not transfer artifact|Cannot access \S+ .*in offline mode|Unknown host"
)


@dataclasses.dataclass(frozen=True)
class Language:
    """How the program of a language is built and run.

    Attributes:
      tools: Programs that must be on PATH.
      build: Commands, in the folder of the copy.
      run: Command before the program's flags.
    """

    tools: tuple[str, ...]
    build: tuple[tuple[str, ...], ...]
    run: tuple[str, ...]


LANGUAGES = {
    "go": Language(
        ("go", "protoc"),
        (("go", "generate"), ("go", "build", "-o", "bin/retrieve", ".")),
        ("bin/retrieve",),
    ),
    "java": Language(
        ("java", "mvn"),
        (("mvn", "--quiet", "--batch-mode", "compile"),),
        ("java", "-cp", "target/classes:target/lib/*", "example.Retrieve"),
    ),
    "node": Language(
        ("node", "npm"),
        (("npm", "ci", "--prefer-offline"), ("npm", "run", "build")),
        ("node", "build/retrieve.js"),
    ),
}


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


def build(name: str, folder: Path) -> Program:
    """Builds the program of a language in a folder that does not exist yet.

    A missing tool, or a registry that cannot be reached, skips the test.
    """
    language = LANGUAGES[name]
    missing = [tool for tool in language.tools if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed")
    shutil.copytree(ROOT / "docs" / "clients" / name, folder)
    shutil.copytree(PROTOS, folder / "protos")
    for command in language.build:
        done = subprocess.run(
            command,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_LONGEST_S,
        )
        if done.returncode != 0:
            reason = unreachable(done.stdout)
            if reason:
                pytest.skip(f"{command[0]} cannot reach its registry: {reason}")
            pytest.fail(f"{' '.join(command)} failed:\n{done.stdout}")
    return Program(folder, language.run)


def unreachable(output: str) -> str:
    """Returns the line in which a tool says that it cannot reach its registry, or ""."""
    return next((line for line in output.splitlines() if _UNREACHABLE.search(line)), "")
