"""The reference of the Python API, generated from the docstrings: docs/api.md.

    python -m tfx_pipeline.reference.api > docs/api.md

Names, defaults and texts are those of `help()`; nothing is written twice. The code has the types.
"""

import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence

import serving.client
from trainer.contract.tag_items import TagItems

_INTRODUCTION = """\
# Python API

<!-- Generated from the docstrings by `make docs`; a test holds both equal. -->

What a program imports to ask for tags: `tagtower_client`, the light client; `EventFeatures`, which
computes features in Python; and `TagItems`, which leads from tags to items. How each is used:
[the client](client.md) and [from tags to items](your-own-log.md#from-tags-to-items).
"""
_SECTION = re.compile(r"(Args|Attributes|Returns|Raises):")
_ENTRY = re.compile(r"(\w+): (.*)")


def api_reference(classes: Sequence[type] | None = None) -> str:
    """Returns the whole page: a section for each class, with its public methods.

    Args:
      classes: Classes to describe; None: those that callers import, clients first.

    Returns:
      Markdown, ending with a line break.
    """
    if classes is None:
        exported = [getattr(serving.client, name) for name in serving.client.__all__]
        # The blocking client comes first, to which the other one refers; then the classes that a
        # caller makes, then those that calls return, both by name.
        is_answer = {cls: cls.__module__.endswith(".answers") for cls in exported}
        exported.sort(key=lambda cls: (is_answer[cls], cls is not serving.client.TagClient))
        classes = [*exported, TagItems]
    return "\n".join([_INTRODUCTION, *(line for cls in classes for line in _of_class(cls))])


def _of_class(cls: type) -> Iterator[str]:
    module = cls.__module__
    for package in ("serving.client", "tagtower_client"):
        if module.startswith(f"{package}."):
            module = package
    yield f"## {cls.__name__}\n\n```python\nfrom {module} import {cls.__name__}\n```\n"
    yield from docstring_lines(inspect.getdoc(cls) or "")
    # The docstring of the class or of its constructor describes the arguments.
    constructor = vars(cls).get("__init__")
    if constructor is not None and constructor.__doc__ and "Args:" in constructor.__doc__:
        yield from docstring_lines(inspect.getdoc(constructor) or "")
    for name, member in vars(cls).items():
        function = getattr(member, "__func__", member)
        if name.startswith("_") or not inspect.isfunction(function):
            continue
        yield f"### {cls.__name__}.{name}\n\n```\n{_call(cls, name, function)}\n```\n"
        yield from docstring_lines(inspect.getdoc(function) or "")


def _call(cls: type, name: str, function: Callable[..., object]) -> str:
    """Returns the call of a method: the names of its arguments and their defaults."""
    signature = inspect.signature(function)
    parameters = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in list(signature.parameters.values())[1:]
    ]
    bare = signature.replace(parameters=parameters, return_annotation=inspect.Signature.empty)
    prefix = "await " if inspect.iscoroutinefunction(function) else ""
    return f"{prefix}{cls.__name__}.{name}{bare}"


def docstring_lines(text: str) -> Iterator[str]:
    """Converts a Google-style docstring to Markdown.

    Args:
      text: Docstring without the indentation of its code.

    Yields:
      Paragraphs, a heading in bold for each section, and a list of its entries.
    """
    section = False
    for block in text.split("\n\n"):
        lines = block.split("\n")
        heading = _SECTION.fullmatch(lines[0])
        if heading is None:
            # A section continues after an empty line where its text is indented.
            yield (textwrap.dedent(block) if section and block.startswith(" ") else block) + "\n"
            continue
        section = True
        yield f"**{heading[1]}**\n"
        yield from _entries(lines[1:], is_list=heading[1] != "Returns")
        yield ""


def _entries(lines: Sequence[str], is_list: bool) -> Iterator[str]:
    """Yields the entries of a section in one line each; text without names is one paragraph."""
    joined: list[str] = []
    for line in textwrap.dedent("\n".join(lines)).split("\n"):
        if joined and line.startswith(" ") or (joined and not is_list):
            joined[-1] += f" {line.strip()}"
        else:
            joined.append(line)
    for line in joined:
        entry = _ENTRY.fullmatch(line) if is_list else None
        yield line if entry is None else f"- `{entry[1]}`: {entry[2]}"


if __name__ == "__main__":
    sys.stdout.write(api_reference())
