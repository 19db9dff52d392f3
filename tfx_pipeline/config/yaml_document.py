"""Strict reading of one YAML document: values as people mean them, or an error with its line.

Differences from YAML 1.1 as PyYAML reads it:

- A key is the text that was written, and each key is there once: PyYAML silently keeps the last of
  two sections of one name.
- Text stays text: dates, times of day (`12:30:00` is 45,000 in YAML 1.1), numbers with leading
  zeros (octal there), `yes` and `no` (a key that takes true or false accepts them).
- `1e-3` is a number; in YAML 1.1 it is text.
- An alias may repeat a part of the file, and merge it (`<<: *name`), but only up to a limit on the
  values it adds.
- Only the tags of plain values are accepted.
- Texts contain no NUL and no lone surrogate, which no path and no file accepts.
"""

import math
import re
from collections.abc import Hashable, Iterator
from typing import Any

import yaml

from trainer.contract.config_loader import BareWord

_TAG_PREFIX = "tag:yaml.org,2002:"
_TAKEN_TAGS = {f"{_TAG_PREFIX}{name}" for name in "str int float bool null seq map merge".split()}
# Number of values that aliases may add to the written ones: a configuration has hundreds.
_MOST_REPEATED = 100_000
_MOST_DIGITS = 400
# PyYAML takes a second for some 100 kB on a busy machine, and twenty times as much memory; a list
# of 17,000 tags has 256 kB.
MOST_BYTES = 1 << 20
_MOST_LEVELS = 64

_NO_TEXT = re.compile("[\0\ud800-\udfff]")
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*(?:_[0-9]+)*|0x[0-9a-fA-F]+)")
_FLOAT = re.compile(
    r"""[-+]?(?:(?:(?:0|[1-9][0-9]*(?:_[0-9]+)*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?
    |\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN)""",
    re.VERBOSE,
)
_RESOLVED = {
    "null": (re.compile(r"~|null|Null|NULL|"), "~nN"),
    "bool": (re.compile(r"true|True|TRUE|false|False|FALSE"), "tTfF"),
    "int": (_INTEGER, "-+0123456789"),
    "float": (_FLOAT, "-+.0123456789"),
    "merge": (re.compile(r"<<"), "<"),
}


def parse_yaml(content: bytes | str, name: str) -> Any:
    """Parses a YAML document strictly.

    Args:
      content: The bytes of the file, in UTF-8 or, with a byte order mark, UTF-16; or its text.
      name: Name of the file, for messages.

    Returns:
      Dictionaries whose keys are strings, lists, strings, numbers, Booleans and None.

    Raises:
      ValueError: The content is not YAML, or has a construct that is refused here; with the line.
    """
    if len(content) > MOST_BYTES:
        raise ValueError(
            f"`config` must be a file of at most {MOST_BYTES >> 20} MB. Received: {name}, which is "
            "larger. Check the path, or shorten its lists."
        )
    text = content if isinstance(content, str) else _decoded(content, name)
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _check(node, name)
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise ValueError(
            f"`config` must be valid YAML. Received: {name}: {_in_words(error, text)}."
        ) from error


def _decoded(content: bytes, name: str) -> str:
    is_utf16 = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        text = content.decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"`config` must be a YAML file in UTF-8. Received: {name} "
            f"({error.reason}, line {line})."
        ) from error
    if "\0" in text:
        raise ValueError(
            f"`config` must be a YAML file in UTF-8. Received: {name}, which has NUL characters: "
            "it is in UTF-16 or no text at all."
        )
    return text


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the differences that the module describes."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
    _level = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Composes a node as `yaml.SafeLoader` does; refuses nesting deeper than the limit."""
        self._level += 1
        if self._level > _MOST_LEVELS:
            raise yaml.composer.ComposerError(
                None,
                None,
                f"it is nested more than {_MOST_LEVELS} levels deep",
                self.peek_event().start_mark,
            )
        node = super().compose_node(parent, index)
        self._level -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Builds a dictionary as `yaml.SafeLoader` does, with keys as they were written."""
        self.flatten_mapping(node)
        # The keys were checked: each is the written text and occurs once.
        return {key.value: self.construct_object(value, deep=True) for key, value in node.value}

    def construct_text(self, node: yaml.ScalarNode) -> str:
        """Returns a string; a bare `yes`, `no`, `on` or `off` becomes a `BareWord`."""
        text = self.construct_scalar(node)
        is_bare = node.style is None and text.lower() in BareWord.BOOLEANS
        return BareWord(text) if is_bare else text


_Loader.add_constructor(f"{_TAG_PREFIX}str", _Loader.construct_text)
for _name, (_pattern, _firsts) in _RESOLVED.items():
    _whole = re.compile(rf"(?:{_pattern.pattern})\Z", _pattern.flags)
    _Loader.add_implicit_resolver(f"{_TAG_PREFIX}{_name}", _whole, list(_firsts))
_Loader.add_implicit_resolver(f"{_TAG_PREFIX}null", re.compile(r"\Z"), [""])


def _check(root: yaml.Node, name: str) -> None:
    """Refuses repeated keys, tags and excessive aliases, before values are built from the nodes.

    `<<` may occur once in a mapping, and the mapping's own keys win over merged ones.
    """
    places: dict[int, tuple[int, str]] = {}  # line and key by node
    sizes: dict[int, int | None] = {}  # values by node, aliases expanded; None: in progress

    def size(node: yaml.Node, path: str) -> int:
        known = sizes.get(id(node), 0)
        if known is None:
            raise _refused(name, node, "must not have an alias that contains itself", path)
        if known:
            return known
        sizes[id(node)] = None
        places[id(node)] = (node.start_mark.line + 1, f", `{path}`" if path else "")
        if node.tag not in _TAKEN_TAGS:
            raise _refused(
                name, node, "must have plain values without tags", _shown_tag(node.tag), path
            )
        total = 1
        if isinstance(node, yaml.ScalarNode):
            _check_scalar(node, name, path)
        else:
            for child, child_path in _children(node, name, path):
                total += size(child, child_path)
        sizes[id(node)] = total
        return total

    total = size(root, "")
    if total - len(sizes) > _MOST_REPEATED:
        # The smallest node that is too large.
        _, smallest = min((n or 0, node) for node, n in sizes.items() if (n or 0) > _MOST_REPEATED)
        line, key = places[smallest]
        raise ValueError(
            f"`config` must stay small when its aliases are expanded. Received: {name}, whose "
            f"{len(sizes)} values become {total:.3g}; line {line}{key}."
        )


def _children(node: yaml.Node, name: str, path: str) -> Iterator[tuple[yaml.Node, str]]:
    if isinstance(node, yaml.SequenceNode):
        for i, child in enumerate(node.value):
            yield child, f"{path}[{i}]"
        return
    lines: dict[str, int] = {}
    for key, child in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise _refused(name, key, "must have keys that are text", "a list or mapping", path)
        line = key.start_mark.line + 1
        if key.value in lines:
            raise ValueError(
                f"`config` must have each key once. Received: {name}: "
                f"`{_join(path, key.value)}` in line {lines[key.value]} and in line {line}."
            )
        lines[key.value] = line
        yield child, _join(path, key.value)


def _check_scalar(node: yaml.ScalarNode, name: str, path: str) -> None:
    """Refuses a scalar whose text does not match its tag (`!!int x`) or has no usable value."""
    kind = node.tag.removeprefix(_TAG_PREFIX)
    pattern = _RESOLVED[kind][0] if kind in _RESOLVED else None
    is_number = kind in ("int", "float")
    if pattern is not None and not pattern.fullmatch(node.value):
        demand = f"must have a value that matches its tag !!{kind}"
        raise _refused(name, node, demand, node.value, path)
    if is_number and len(node.value) > _MOST_DIGITS:
        demand = f"must have numbers of at most {_MOST_DIGITS} digits"
        raise _refused(name, node, demand, f"{node.value[:20]}...", path)
    is_written_infinite = node.value.lower().endswith("inf")
    if kind == "float" and not is_written_infinite and math.isinf(_as_float(node.value)):
        raise _refused(name, node, "must have numbers below 1.8e308", node.value[:20], path)
    if kind == "str" and _NO_TEXT.search(node.value):
        shown = ascii(node.value[:40])
        demand = "must have text without NUL and lone surrogates"
        raise _refused(name, node, demand, shown, path)


def _as_float(text: str) -> float:
    return 0.0 if text.lower().endswith("nan") else float(text.replace("_", ""))


def _refused(name: str, node: yaml.Node, demand: str, received: str, path: str = "") -> ValueError:
    key = f", `{path}`" if path else ""
    line = node.start_mark.line + 1
    return ValueError(f"`config` {demand}. Received: {name}, line {line}{key}: {received}.")


def _shown_tag(tag: str) -> str:
    return f"!!{tag.removeprefix(_TAG_PREFIX)}" if tag.startswith(_TAG_PREFIX) else tag


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _in_words(error: yaml.YAMLError, text: str) -> str:
    """Returns PyYAML's error in one line: the problem and its place, without the excerpt."""
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return f"line {line}: a character that YAML does not allow ({ascii(chr(error.character))})"
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None)
    if mark is None or problem is None:
        return " ".join(str(error).split()).rstrip(".")
    context = getattr(error, "context", None)
    words = f"{context}: {problem}" if context else problem
    if "'\\t'" in problem:
        words = "a tab indents or separates: YAML allows only spaces"
    elif "expected a single document" in words:
        words = "a second document begins: only one is allowed"
    return f"line {mark.line + 1}, column {mark.column + 1}: {words}"
