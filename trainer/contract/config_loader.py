"""Reads frozen dataclasses from plain mappings (parsed YAML or JSON), strictly.

Unknown keys, missing keys and wrong types are refused with the dotted path of the key, so that a
typing error in a configuration file gives one clear line. The module reads no files and knows no
particular configuration.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from tagtower_client.requirement import require as require

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
    from trainer.contract.config_validator import validated

    return validated(cls, mapping, path, is_saved=False)


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
    from trainer.contract.config_validator import validated

    return validated(cls, mapping, path, is_saved=True)


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
