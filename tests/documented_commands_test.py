"""Every `tagtower` command that a page shows is one: the parser takes it, flag for flag.

Nothing is run here. What runs commands as pages show them are the end-to-end tests.
"""

import re
import shlex
from pathlib import Path

import pytest

from tfx_pipeline.command_line import build_parser

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_BLOCK = re.compile(r"^( *)```\w*\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
# A command stands alone, or behind the time of a scheduler or variables of its own.
_COMMAND = re.compile(
    r"(?:[\d*]+ [\d*]+ \* \* \*|\w+=\S+)?\s*(?:\.venv/bin/)?tagtower (?!\S+: )(.+)"
)


def commands_of(page: str) -> list[list[str]]:
    """The arguments of each `tagtower` command in the page's blocks of code."""
    found = []
    for _, block in _BLOCK.findall(page):
        for line in block.replace("\\\n", " ").splitlines():
            match = _COMMAND.match(line.strip())
            if match:
                words = shlex.split(match[1], comments=True)
                found.append([word for word in words if word not in ("&", "...")])
    return found


COMMANDS = [
    pytest.param(words, id=f"{path.name}: {' '.join(words)}"[:100])
    for path in PAGES
    for words in commands_of(path.read_text(encoding="utf-8"))
]


@pytest.fixture(scope="module")
def parser():
    return build_parser()


@pytest.mark.parametrize("words", COMMANDS)
def test_shown_command_is_taken_by_the_parser(parser, words, capsys):
    try:
        parser.parse_args(words)
    except SystemExit:
        message = capsys.readouterr().err
        # `...` stands for what is required.
        assert "the following arguments are required" in message, message


def test_pages_show_commands():
    assert len(COMMANDS) > 25


def test_commands_are_read_with_their_continuations_and_without_comments():
    page = "```\n15 3 * * *  tagtower run --day x\n.venv/bin/tagtower a \\\n  'b c' & # d\n```\n"

    assert commands_of(page) == [["run", "--day", "x"], ["a", "b c"]]
