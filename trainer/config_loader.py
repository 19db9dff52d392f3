"""Reads frozen dataclasses from plain mappings (parsed YAML or JSON), strictly.

Unknown keys, missing keys and wrong types are refused with the dotted path of the key, so that a
typing error in a configuration file is one clear line. It does not read files and knows no
configuration by name.
"""

import dataclasses
import difflib
import re
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar, Union

T = TypeVar("T")


class BareWord(str):
    """`yes`, `no`, `on` or `off` without quotation marks, as a file has it.

    Where a key takes true or false it is one of these, elsewhere the text that was written.
    """

    BOOLEANS = {"yes": True, "on": True, "no": False, "off": False}


def from_mapping(cls: type[T], mapping: Any, path: str = "") -> T:
    """Builds the dataclass `cls` from `mapping`.

    Args:
      cls: A (frozen) dataclass; its fields may be scalars, `Literal`s, optionals, tuples,
        string-keyed dictionaries, other dataclasses, and `Any`, which is taken as it is.
      mapping: The parsed YAML or JSON value.
      path: Dotted path of this value in the whole configuration, used in messages.

    Returns:
      The instance; its own `__post_init__` has checked the consistency of its values.

    Raises:
      ValueError: A key is unknown, missing, or one of the class's `REMOVED_KEYS`, or a value has
        the wrong type or is inconsistent. The message starts with the dotted path.
    """
    if mapping is None:
        mapping = {}
    if not isinstance(mapping, Mapping):
        hint = ""
        if isinstance(mapping, str) and re.match(r"\w+:\S", mapping):
            hint = " After the colon of a key comes a blank."
        raise ValueError(
            f"{_quoted(path)} must be a mapping of keys to values. Received: {mapping!r}.{hint}"
        )
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in mapping:
        if key in (removed := getattr(cls, "REMOVED_KEYS", {})):
            raise ValueError(f"{_quoted(_join(path, key))} is no key any more. {removed[key]}")
        if key not in fields:
            close = difflib.get_close_matches(str(key), fields, n=1)
            hint = f" Did you mean `{close[0]}`?" if close else f" Known keys: {', '.join(fields)}."
            raise ValueError(f"{_quoted(_join(path, key))} is not a known key.{hint}")
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    for name, field in fields.items():
        here = _join(path, name)
        if name in mapping:
            values[name] = _convert(hints[name], mapping[name], here)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ValueError(f"{_quoted(here)} is missing and has no default.")
    try:
        return cls(**values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}" if path else str(error)) from error


def unique_names(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose names differ: `object_pairs_hook` of `json`, which keeps the last else.

    Args:
      pairs: Names and values, as they were written.

    Returns:
      The object.

    Raises:
      RepeatedName: A name is there twice.
    """
    pairs = list(pairs)
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise RepeatedName(f"`{repeated}` is there more than once")
    return values


class RepeatedName(ValueError):
    """An object has a name twice."""


def to_mapping(config: Any) -> Any:
    """Turns a configuration dataclass back into plain dictionaries, lists and scalars."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {f.name: to_mapping(getattr(config, f.name)) for f in dataclasses.fields(config)}
    if isinstance(config, (list, tuple)):
        return [to_mapping(value) for value in config]
    if isinstance(config, Mapping):
        return {str(key): to_mapping(value) for key, value in config.items()}
    return config


def require(condition: bool, name: str, demand: str, value: Any) -> None:
    """Raises the project's one form of `ValueError` unless `condition` holds.

    Args:
      condition: What must be true.
      name: Name of the argument or key.
      demand: What it must be, completing "`name` must ...".
      value: The value received.

    Raises:
      ValueError: `condition` is false.
    """
    if not condition:
        raise ValueError(f"`{name}` must {demand}. Received: {name}={value!r}.")


def _convert(kind: Any, value: Any, path: str) -> Any:
    if kind is Any:
        return value
    origin = typing.get_origin(kind)
    if origin in (Union, types.UnionType):
        options = typing.get_args(kind)
        if value is None and type(None) in options:
            return None
        (inner,) = (option for option in options if option is not type(None))
        return _convert(inner, value, path)
    if origin is Literal:
        choices = typing.get_args(kind)
        if value not in choices:
            raise ValueError(
                f"{_quoted(path)} must be one of {', '.join(map(str, choices))}. "
                f"Received: {value!r}."
            )
        return choices[choices.index(value)]
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ValueError(f"{_quoted(path)} must be a list. Received: {value!r}.")
        inner = typing.get_args(kind)[0]
        return tuple(_convert(inner, item, f"{path}[{i}]") for i, item in enumerate(value))
    if origin is dict:
        if not isinstance(value, Mapping):
            raise ValueError(f"{_quoted(path)} must be a mapping. Received: {value!r}.")
        inner = typing.get_args(kind)[1]
        return {str(key): _convert(inner, item, _join(path, key)) for key, item in value.items()}
    if dataclasses.is_dataclass(kind):
        return from_mapping(typing.cast(type, kind), value, path)
    return _scalar(kind, value, path)


def _scalar(kind: type, value: Any, path: str) -> Any:
    is_bool = isinstance(value, bool)
    if kind is float and isinstance(value, (int, float)) and not is_bool:
        return float(value)
    if kind is int and isinstance(value, int) and not is_bool:
        return value
    if isinstance(value, BareWord) and kind in (str, bool):
        return str(value) if kind is str else BareWord.BOOLEANS[value.lower()]
    if kind in (str, bool) and isinstance(value, kind):
        return value
    names = {int: "an integer", float: "a number", str: "a string", bool: "true or false"}
    raise ValueError(
        f"{_quoted(path)} must be {names.get(kind, kind.__name__)}. Received: {value!r}."
        + (" In quotation marks it is text." if kind is str and _is_bare(value) else "")
    )


def _is_bare(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float))


def _join(path: str, key: Any) -> str:
    return f"{path}.{key}" if path else str(key)


def _quoted(path: str) -> str:
    return f"`{path}`" if path else "the configuration"
