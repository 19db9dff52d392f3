"""Validation of configuration dataclasses by pydantic, with the project's one form of errors.

pydantic makes the schema of a dataclass from its annotations. `_strict` makes it as strict as a
configuration file is read; `_message` words the first error. Importing pydantic takes 0.1 s:
`trainer.contract.config_loader` imports this module when the first configuration is made.
"""

import dataclasses
import difflib
import functools
import re
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import TypeAdapter
from pydantic_core import (
    ArgsKwargs,
    PydanticCustomError,
    SchemaValidator,
    ValidationError,
    core_schema,
)

from trainer.contract.config_loader import BareWord, RemovedKey

T = TypeVar("T")

# What a value must be, by the type of pydantic's error.
_KINDS = {
    "bool_type": "true or false",
    "float_type": "a number",
    "int_type": "an integer",
    "string_type": "a string",
}


def validated(cls: type[T], mapping: Any, path: str, is_saved: bool) -> T:
    """Builds a dataclass as `trainer.contract.config_loader.from_mapping` describes.

    Args:
      cls: The dataclass.
      mapping: The parsed YAML or JSON value.
      path: Dotted path of the value, used in messages.
      is_saved: Whether removed keys may have the value that is built in.

    Returns:
      The instance.

    Raises:
      ValueError: The mapping does not fit the dataclass.
    """
    try:
        return _validator(cls).validate_python(mapping, context=is_saved)  # type: ignore[arg-type]
    except ValidationError as error:
        raise ValueError(_message(error, path)) from error


def initialize(instance: Any, arguments: dict[str, Any]) -> None:
    """Sets the fields of a dataclass from the arguments of its constructor.

    Args:
      instance: The new instance, without values.
      arguments: Arguments by name.

    Raises:
      ValueError: An argument does not fit the dataclass.
    """
    try:
        validator = _validator(type(instance))  # type: ignore[arg-type]
        validator.validate_python(ArgsKwargs((), arguments), self_instance=instance)
    except ValidationError as error:
        raise ValueError(_message(error, "")) from error


@functools.cache
def _validator(cls: type) -> SchemaValidator:
    return SchemaValidator(_strict(TypeAdapter(cls).core_schema))


def _strict(schema: Any) -> Any:
    """Returns a part of pydantic's schema with the rules of `config_loader.from_mapping`."""
    if isinstance(schema, list):
        return [_strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: _strict(part) for key, part in schema.items()}
    kind = made.get("type")
    if kind in ("int", "float", "str", "bool"):
        made["strict"] = True
    elif kind == "dict":
        made["keys_schema"] = core_schema.no_info_plain_validator_function(str)
    if kind in ("str", "bool"):
        read = functools.partial(_read_bare, is_bool=kind == "bool")
        return core_schema.no_info_before_validator_function(read, made)
    if kind == "dataclass":
        check = functools.partial(_check_section, made["cls"])
        section = core_schema.with_info_before_validator_function(check, made)
        return {**section, "ref": made.pop("ref")} if "ref" in made else section
    return made


def _read_bare(value: Any, is_bool: bool) -> Any:
    if not isinstance(value, BareWord):
        return value
    return BareWord.BOOLEANS[value.lower()] if is_bool else str(value)


def _check_section(cls: type, value: Any, info: core_schema.ValidationInfo) -> Any:
    """Returns the known keys of a section; the arguments of a constructor stay as they are."""
    if isinstance(value, (ArgsKwargs, cls)):
        return value
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        hint = ""
        if isinstance(value, str) and re.match(r"\w+:\S", value):
            hint = " Put a space after the colon of a key."
        raise _fault(None, f"must be a mapping of keys to values. Received: {value!r}.{hint}")
    fields = [field.name for field in dataclasses.fields(cls)]
    removed: Mapping[str, RemovedKey] = getattr(cls, "REMOVED_KEYS", {})
    for key, item in value.items():
        if key in removed:
            built_in = removed[key].built_in
            if not info.context or built_in is None or item != built_in:
                raise _fault(key, f"is no longer a key. {removed[key].instead}")
        elif key not in fields:
            close = difflib.get_close_matches(str(key), fields, n=1)
            hint = f" Did you mean `{close[0]}`?" if close else f" Known keys: {', '.join(fields)}."
            raise _fault(key, f"is not a known key.{hint}")
    return {key: item for key, item in value.items() if key in fields}


def _fault(key: Any, fault: str) -> PydanticCustomError:
    """Returns the error of a section, or of the key in it that is named."""
    return PydanticCustomError("fault", "fault", {"key": key, "fault": fault})


def _message(errors: ValidationError, path: str) -> str:
    """Returns the first error in one line, with the dotted path of its key."""
    error = errors.errors(include_url=False)[0]
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    section, here = path, path
    for key in error["loc"]:
        section, here = here, _join(here, key)
    if kind == "bound":
        name = error["loc"][-1]
        demand, received = context["demand"], context["value"]
        return _within(section, f"`{name}` must {demand}. Received: {name}={received!r}.")
    if kind == "value_error":
        return _within(here, str(context["error"]))
    if kind == "fault":
        key = context["key"]
        return _line(here if key is None else _join(here, str(key)), context["fault"])
    if kind == "missing":
        return _line(here, "is missing and has no default.")
    if kind == "literal_error":
        choices = re.findall(r"'([^']*)'", context["expected"])
        return _line(here, f"must be one of {', '.join(choices)}. Received: {value!r}.")
    if kind == "tuple_type":
        return _line(here, f"must be a list. Received: {value!r}.")
    if kind == "dict_type":
        return _line(here, f"must be a mapping. Received: {value!r}.")
    is_bare = value is None or isinstance(value, (bool, int, float))
    hint = " In quotation marks it is text." if kind == "string_type" and is_bare else ""
    demand = _KINDS.get(kind, error["msg"])
    return _line(here, f"must be {demand}. Received: {value!r}.{hint}")


def _within(section: str, text: str) -> str:
    return f"{section}: {text}" if section else text


def _line(path: str, fault: str) -> str:
    return f"`{path}` {fault}" if path else f"the configuration {fault}"


def _join(path: str, key: Any) -> str:
    if isinstance(key, int):
        return f"{path}[{key}]"
    return f"{path}.{key}" if path else str(key)
