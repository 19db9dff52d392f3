"""docs/commands.md agrees with the parsers."""

import argparse
from pathlib import Path

import pytest

from tfx_pipeline.reference.commands import command_reference
from tfx_pipeline.terminal.command_line import COMMANDS, build_parser

PAGE = Path(__file__).resolve().parents[3] / "docs" / "commands.md"


def made_up_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tool")
    commands = parser.add_subparsers()
    first = commands.add_parser("first", help="does one thing")
    first.add_argument("files", nargs="+", help="what is read")
    first.add_argument(
        "-n", "--number", type=int, default=3, help="how many (default: %(default)s)"
    )
    first.add_argument("--kind", choices=["a", "b"], required=True, help="a | b, x < y, `z < 1`")
    first.add_argument("--quiet", action="store_true", help="say nothing, 100 %%")
    first.add_argument("--secret", help=argparse.SUPPRESS)
    inner = commands.add_parser("second", help="h", description="has its own.").add_subparsers()
    inner.add_parser("part", help="a part of it")
    return parser


def test_page_equals_the_parsers():
    assert PAGE.read_text(encoding="utf-8") == command_reference(), "run `make docs`"


def test_section_has_the_sentence_and_the_arguments_of_its_command():
    page = command_reference(made_up_parser())

    assert page[page.index("## tool first") :] == (
        "## tool first\n\nDoes one thing.\n\n"
        "| argument | meaning |\n| --- | --- |\n"
        "| `FILES [FILES ...]` | what is read |\n"
        "| `-n NUMBER`, `--number NUMBER` | how many (default: 3) |\n"
        "| `--kind {a,b}` | **required**; a \\| b, x &lt; y, `z < 1` |\n"
        "| `--quiet` | say nothing, 100 % |\n\n"
        "## tool second\n\nHas its own.\n\n"
        "## tool second part\n\nA part of it.\n"
    )


def test_every_command_and_every_flag_is_on_the_page():
    page = PAGE.read_text(encoding="utf-8")
    parser = build_parser()
    (commands,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))

    assert set(commands.choices) == set(COMMANDS)
    for name, command in commands.choices.items():
        section = page.partition(f"\n## tagtower {name}\n")[2]
        assert section, name
        flags = [a.option_strings[-1] for a in command._actions if a.option_strings[-1:]]
        section = section.partition("\n## ")[0]
        assert [f for f in flags if f"`{f}" not in section and f != "--help"] == []


def test_argument_without_a_text_is_refused_by_name():
    parser = argparse.ArgumentParser(prog="tool")
    parser.add_subparsers().add_parser("first", help="h").add_argument("--bare")

    with pytest.raises(ValueError, match=r"^`tool first` must say what `--bare BARE` is"):
        command_reference(parser)
