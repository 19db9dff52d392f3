"""Reads frozen dataclasses from plain mappings (parsed YAML or JSON), strictly.

Unknown keys, missing keys and wrong types are refused with the dotted path of the key, so that a
typing error in a configuration file gives one clear line. The module reads no files and knows no
particular configuration.
"""

import dataclasses
import difflib
import re
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar, Union

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class RemovedKey:
    """A configuration key that an earlier version had.

    A dataclass names its removed keys in a class variable `REMOVED_KEYS`, by key, without a type
    annotation, so that it is no field.

    Attributes:
      instead: Sentence that tells the user what to do.
      built_in: Value that the program now uses in place of the key, which was its default; None:
        the key has no effect any more, whatever its value was.
    """

    instead: str
    built_in: bool | int | float | str | None = None


class BareWord(str):
    """The word `yes`, `no`, `on` or `off`, written in a file without quotation marks.

    For a key that takes true or false it means a boolean, for others it is the text as written.
    """

    BOOLEANS = {"yes": True, "on": True, "no": False, "off": False}


def from_mapping(cls: type[T], mapping: Any, path: str = "") -> T:
    """Builds the dataclass `cls` from a mapping that a user wrote.

    Args:
      cls: A (frozen) dataclass; its fields may be scalars, `Literal`s, optionals, tuples,
        string-keyed dictionaries, other dataclasses, and `Any`, whose value is kept as it is.
      mapping: The parsed YAML or JSON value.
      path: Dotted path of this value in the whole configuration, used in messages.

    Returns:
      The instance; its own `__post_init__` has checked the consistency of its values.

    Raises:
      ValueError: A key is unknown, missing, or one of the class's `REMOVED_KEYS`, or a value has
        the wrong type or is inconsistent. The message starts with the dotted path.
    """
    return _from_mapping(cls, mapping, path, is_saved=False)


def from_saved(cls: type[T], mapping: Any, path: str = "") -> T:
    """Builds the dataclass `cls` from what `to_mapping` of this or an earlier version wrote.

    An earlier version wrote every key, also keys that were removed since. A removed key whose value
    is the one built in now is left out: the user never asked for it.

    Args:
      cls: A (frozen) dataclass, as for `from_mapping`.
      mapping: The mapping that `to_mapping` wrote.
      path: Dotted path of this value in the whole configuration, used in messages.

    Returns:
      The instance; its own `__post_init__` has checked the consistency of its values.

    Raises:
      ValueError: The mapping has a fault that `from_mapping` names, or a removed key has another
        value than the one built in.
    """
    return _from_mapping(cls, mapping, path, is_saved=True)


def _from_mapping(cls: type[T], mapping: Any, path: str, is_saved: bool) -> T:
    if mapping is None:
        mapping = {}
    if not isinstance(mapping, Mapping):
        hint = ""
        if isinstance(mapping, str) and re.match(r"\w+:\S", mapping):
            hint = " Put a space after the colon of a key."
        raise ValueError(
            f"{_quoted(path)} must be a mapping of keys to values. Received: {mapping!r}.{hint}"
        )
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    removed: Mapping[str, RemovedKey] = getattr(cls, "REMOVED_KEYS", {})
    for key, value in mapping.items():
        if key in removed:
            _check_removed(removed[key], value, _join(path, key), is_saved)
        elif key not in fields:
            close = difflib.get_close_matches(str(key), fields, n=1)
            hint = f" Did you mean `{close[0]}`?" if close else f" Known keys: {', '.join(fields)}."
            raise ValueError(f"{_quoted(_join(path, key))} is not a known key.{hint}")
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    for name, field in fields.items():
        here = _join(path, name)
        if name in mapping:
            values[name] = _convert(hints[name], mapping[name], here, is_saved)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ValueError(f"{_quoted(here)} is missing and has no default.")
    try:
        return cls(**values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}" if path else str(error)) from error


def _check_removed(key: RemovedKey, value: Any, path: str, is_saved: bool) -> None:
    """Refuses a removed key, unless it is a saved one whose value is the one built in."""
    if not is_saved or key.built_in is None or value != key.built_in:
        raise ValueError(f"{_quoted(path)} is no longer a key. {key.instead}")


def unique_names(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Builds a JSON object and refuses repeated names, of which `json` would keep the last.

    Args:
      pairs: Names and values in the order of the text, as `json` gives them to its
        `object_pairs_hook`.

    Returns:
      The object as a dictionary.

    Raises:
      RepeatedName: A name occurs twice.
    """
    pairs = list(pairs)
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise RepeatedName(f"`{repeated}` appears more than once")
    return values


class RepeatedName(ValueError):
    """A JSON object has a name twice."""


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
      condition: Whether the value is valid.
      name: Name of the argument or key.
      demand: The requirement, completing "`name` must ...".
      value: The value received.

    Raises:
      ValueError: `condition` is false.
    """
    if not condition:
        raise ValueError(f"`{name}` must {demand}. Received: {name}={value!r}.")


def _convert(kind: Any, value: Any, path: str, is_saved: bool) -> Any:
    if kind is Any:
        return value
    origin = typing.get_origin(kind)
    if origin in (Union, types.UnionType):
        options = typing.get_args(kind)
        if value is None and type(None) in options:
            return None
        (inner,) = (option for option in options if option is not type(None))
        return _convert(inner, value, path, is_saved)
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
        return tuple(
            _convert(inner, item, f"{path}[{i}]", is_saved) for i, item in enumerate(value)
        )
    if origin is dict:
        if not isinstance(value, Mapping):
            raise ValueError(f"{_quoted(path)} must be a mapping. Received: {value!r}.")
        inner = typing.get_args(kind)[1]
        return {
            str(key): _convert(inner, item, _join(path, key), is_saved)
            for key, item in value.items()
        }
    if dataclasses.is_dataclass(kind):
        return _from_mapping(typing.cast(type, kind), value, path, is_saved)
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
