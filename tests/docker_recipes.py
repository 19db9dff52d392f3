"""Reads Dockerfiles as data."""

import re
import shlex
from pathlib import Path


def instructions(path: Path) -> list[tuple[str, str]]:
    """Returns instruction and arguments of each line of a Dockerfile; joins continued lines."""
    lines = [line for line in path.read_text("utf-8").splitlines() if not re.match(r"\s*#", line)]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [tuple(line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


def environment_of(path: Path) -> dict[str, str]:
    """Returns the variables that an image sets."""
    words = [
        word for name, args in instructions(path) if name == "ENV" for word in shlex.split(args)
    ]
    return dict(word.split("=", 1) for word in words)
