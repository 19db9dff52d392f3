"""The reference of all configuration keys, generated from the dataclasses: docs/configuration.md.

    python -m tfx_pipeline.reference.configuration > docs/configuration.md

Keys, types and defaults are those of the dataclasses, meanings those of their docstrings; nothing
is written twice.
"""

import dataclasses
import inspect
import sys
import types
import typing
from collections.abc import Iterator
from typing import Any, Literal, Union

import yaml

from tfx_pipeline.config.option_help import option_help
from tfx_pipeline.config.pipeline import PipelineConfig
from trainer.contract.config_loader import RemovedKey

_INTRODUCTION = """\
# Configuration

<!-- Generated from the dataclasses by `make docs`; a test holds both equal. -->

Every key of the YAML file that `tagtower run --config FILE` reads. A key that is not listed here, a
value of the wrong type and values that do not go together are refused with their dotted path. Keys
whose default is **required** must be given; of a section that is left out, every key has its
default. In a dotted key, `[]` stands for each entry of a list and `<name>` for a name of yours.

The file is one YAML document in UTF-8. Dates, times (`12:30:00`) and numbers with a zero in front
are text, `1e-3` and `1_000` are numbers, `yes`, `no`, `on` and `off` are true or false where a key
takes these and text elsewhere. A key that is there twice in its section, a tag (`!!python/...`) and
aliases that blow the file up are refused with their line.
"""
_REMOVED = """\
## Removed keys

Keys that earlier versions had. A configuration that still sets one is refused with the line that is
here; what an earlier version saved itself is read on, as long as the key had its default.
"""
_SCALARS = {int: "integer", float: "number", str: "text", bool: "`true` or `false`"}


def configuration_reference(cls: type = PipelineConfig) -> str:
    """Returns the whole page: a section for each dataclass, a row for each key.

    Args:
      cls: Dataclass of the whole file.

    Returns:
      Markdown, ending with a line break.

    Raises:
      ValueError: An attribute is not documented in its class.
    """
    return "\n".join([_INTRODUCTION, *_sections(cls, ""), *_removed(cls)])


def _sections(cls: type, path: str) -> Iterator[str]:
    """Yields the section of `cls`, then those of the dataclasses in it."""
    if path:
        # The first paragraph of the class's docstring describes the section.
        summary = inspect.cleandoc(cls.__doc__ or "").partition("\n\n")[0]
        yield f"## `{path}`\n\n{' '.join(summary.split())}\n"
    hints = typing.get_type_hints(cls)
    texts = option_help(cls)
    yield "| key | type | default | meaning |\n| --- | --- | --- | --- |"
    nested: list[tuple[type, str]] = []
    for field in dataclasses.fields(cls):
        if not texts.get(field.name):
            raise ValueError(
                f"`{cls.__name__}.{field.name}` must be documented under `Attributes:`. "
                "Received: no text."
            )
        key = f"{path}.{field.name}" if path else field.name
        kind, inner = _describe(hints[field.name], key)
        nested += inner
        cells = (f"`{key}`", kind, _default(field, bool(inner)), texts[field.name])
        # A bar ends a cell, even within code.
        yield "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"
    yield ""
    for inner_class, inner_path in nested:
        yield from _sections(inner_class, inner_path)


def _removed(cls: type) -> Iterator[str]:
    """Yields the section of removed keys; nothing where there are none."""
    lines = [f"- `{key}`: {removed.instead}" for key, removed in removed_keys(cls)]
    if lines:
        yield "\n".join([_REMOVED, *lines, ""])


def removed_keys(cls: type, path: str = "") -> Iterator[tuple[str, RemovedKey]]:
    """Yields every removed key of a dataclass and of those in it.

    Args:
      cls: Dataclass with the keys.
      path: Dotted path of the dataclass.

    Yields:
      The dotted path of the key, and its `RemovedKey`.
    """
    for name, removed in getattr(cls, "REMOVED_KEYS", {}).items():
        yield f"{path}.{name}" if path else name, removed
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        key = f"{path}.{field.name}" if path else field.name
        for inner_class, inner_path in _describe(hints[field.name], key)[1]:
            yield from removed_keys(inner_class, inner_path)


def _describe(kind: Any, key: str) -> tuple[str, list[tuple[type, str]]]:
    """Returns a type in words, and the dataclasses in it with their dotted paths."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Union, types.UnionType):
        described = [_describe(one, key) for one in arguments if one is not type(None)]
        words = [word for word, _ in described]
        if type(None) in arguments:
            words.append("null")
        return " or ".join(words), [section for _, inner in described for section in inner]
    if origin is Literal:
        return " or ".join(f"`{choice}`" for choice in arguments), []
    if origin is tuple:
        word, inner = _describe(arguments[0], f"{key}[]")
        return f"list of {word}", inner
    if origin is dict:
        word, inner = _describe(arguments[1], f"{key}.<name>")
        return f"{word} by name", inner
    if dataclasses.is_dataclass(kind):
        # GitHub's anchors keep letters, digits, - and _ of a heading.
        anchor = "".join(c for c in key.lower() if c.isalnum() or c in "-_")
        return f"[section](#{anchor})", [(typing.cast(type, kind), key)]
    return _SCALARS[kind], []


def _default(field: dataclasses.Field[Any], has_sections: bool) -> str:
    if field.default is not dataclasses.MISSING:
        default = field.default
    elif field.default_factory is dataclasses.MISSING:
        return "**required**"
    else:
        default = field.default_factory()
    if dataclasses.is_dataclass(default) and has_sections:
        return "its defaults"
    value = list(default) if isinstance(default, tuple) else default
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000)
    # YAML ends a bare scalar with a line `...`.
    return f"`{text.strip().removesuffix('...').strip()}`"


if __name__ == "__main__":
    sys.stdout.write(configuration_reference())
