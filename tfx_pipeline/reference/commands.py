"""The reference of all commands, generated from their parsers: docs/commands.md.

    python -m tfx_pipeline.reference.commands > docs/commands.md

Flags, choices, defaults and texts are those of `--help`; nothing is written twice.
"""

import argparse
import re
import sys
from collections.abc import Iterator

from tfx_pipeline.terminal.command_line import build_parser

_INTRODUCTION = """\
# Commands

<!-- Generated from the parsers by `make docs`; a test holds both equal. -->

Every command of `tagtower` with its flags, as `tagtower COMMAND --help` prints them. Exit
statuses: 0 when it is done, 2 for a mistake, which is one line, 3 where a gate held the push, 4
where another run is using the output folder or the base path, 130, 143 and 129 after an interrupt
([what they mean to a scheduler](daily.md#exit-statuses-started-twice-killed-broken)). Keys of the
configuration are in [configuration.md](configuration.md).
"""
# Characters that Markdown reads as HTML.
_ESCAPES = {"<": "&lt;", ">": "&gt;"}


def command_reference(parser: argparse.ArgumentParser | None = None) -> str:
    """Returns the whole page: a section for each command, a row for each flag.

    Args:
      parser: Parser of all commands; None: that of `tagtower`.

    Returns:
      Markdown, ending with a line break.

    Raises:
      ValueError: A flag or a command has no help.
    """
    parser = build_parser() if parser is None else parser
    return "\n".join([_INTRODUCTION, *_sections(parser)])


def _sections(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yields the section of each command, each followed by those of its own commands."""
    for action in parser._actions:
        if not isinstance(action, argparse._SubParsersAction):
            continue
        texts = {choice.dest: choice.help for choice in action._choices_actions}
        for name, command in action.choices.items():
            text = command.description or texts.get(name)
            if not text:
                raise ValueError(f"`{command.prog}` must have a help. Received: no text.")
            yield f"## {command.prog}\n\n{_sentence(text)}\n"
            yield from _table(command)
            yield from _sections(command)


def _table(command: argparse.ArgumentParser) -> Iterator[str]:
    """Yields the rows of a command's own arguments; nothing where it has none."""
    rows = [
        _row(command, action)
        for action in command._actions
        if action.help is not argparse.SUPPRESS
        and not isinstance(action, argparse._HelpAction | argparse._SubParsersAction)
    ]
    if rows:
        yield "| argument | meaning |\n| --- | --- |"
        yield from rows
        yield ""


def _row(command: argparse.ArgumentParser, action: argparse.Action) -> str:
    formatter = command._get_formatter()
    # The placeholder of the value if the parser names none.
    value = formatter._format_args(action, action.dest.upper())
    names = [f"{name} {value}".strip() for name in action.option_strings or [""]]
    if not action.help:
        raise ValueError(f"`{command.prog}` must say what `{names[0]}` is. Received: no text.")
    text = _escaped(formatter._expand_help(action))
    is_required = action.required and action.option_strings
    shown = ", ".join(f"`{name}`" for name in names).replace("|", r"\|")
    return f"| {shown} | {'**required**; ' if is_required else ''}{text} |"


def _sentence(text: str) -> str:
    """Returns a command's text as a sentence."""
    text = _escaped(text.rstrip("."))
    return text[0].upper() + text[1:] + "."


def _escaped(text: str) -> str:
    """Returns the text in one line, with the markup of HTML and of tables escaped."""
    line = " ".join(text.split()).replace("|", r"\|")
    # Markdown shows text within backquotes as it is.
    return re.sub("`[^`]*`|[<>]", lambda found: _ESCAPES.get(found[0], found[0]), line)


if __name__ == "__main__":
    sys.stdout.write(command_reference())
