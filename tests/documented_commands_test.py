"""The parser accepts every command on the pages, and the configuration every YAML block.

No command is run here: the end-to-end tests run such commands on their own logs.
"""

import re
import shlex
from pathlib import Path

import pytest

from tfx_pipeline.config.pipeline import PipelineConfig
from tfx_pipeline.config.yaml_document import parse_yaml
from tfx_pipeline.terminal.command_line import build_parser
from trainer.contract.config_loader import from_mapping

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_BLOCK = re.compile(r"^( *)```\w*\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
# A command stands alone, or behind the time of a scheduler or variables of its own.
_COMMAND = re.compile(
    r"(?:[\d*]+ [\d*]+ \* \* \*|\w+=\S+)?\s*(?:\.venv/bin/)?tagtower (?!\S+: )(.+)"
)


def commands_of(page: str) -> list[list[str]]:
    """Returns the arguments of each `tagtower` command in the page's code blocks."""
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


def yaml_blocks(path: Path) -> list[dict]:
    """Returns the page's YAML blocks; a line `...` stands for lines that are left out."""
    blocks = re.findall(r"^```yaml\n(.*?)^```", path.read_text(encoding="utf-8"), re.M | re.S)
    return [parse_yaml(re.sub(r"^ *\.\.\.$", "", block, flags=re.M), path.name) for block in blocks]


WHOLE_FILE = yaml_blocks(ROOT / "docs" / "your-own-log.md")[0]
CONFIGURATIONS = [
    pytest.param(mapping, id=f"{path.name}: {', '.join(mapping)}")
    for path in PAGES
    for mapping in yaml_blocks(path)
]


@pytest.mark.parametrize("shown", CONFIGURATIONS)
def test_shown_configuration_is_taken(shown):
    # What a page shows in part is a part of the file that the guide shows.
    mapping = {**WHOLE_FILE, **shown}
    mapping["features"] = {**WHOLE_FILE["features"], **shown.get("features", {})}

    config = from_mapping(PipelineConfig, mapping)

    assert config.name == "my-log"


def test_pages_show_configurations():
    assert len(CONFIGURATIONS) >= 4
