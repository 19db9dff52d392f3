"""Conversion of users' features from Python values to padded tensors, as signatures take them.

Line breaks in text values are replaced, as in the tables (`tagtower_client.line_breaks`).
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Union

import numpy as np

from tagtower_client.line_breaks import one_line
from tagtower_client.messages import DataType
from tagtower_client.signatures import weights_name

# The smallest number that float32, the type of a request, rounds to infinity.
_BEYOND_FLOAT32 = (2 - 2.0**-24) * 2.0**127

FeatureValue = Union[str, float, None, Sequence[str], Sequence[float]]


@dataclasses.dataclass(frozen=True)
class InputSlot:
    """One input of a signature.

    Attributes:
      is_text: Whether its values are strings; otherwise they are numbers.
      is_list: Whether an instance has a list of values; otherwise it has one value.
    """

    is_text: bool
    is_list: bool


def input_slots(definition: Any) -> dict[str, InputSlot]:
    """Reads which inputs a signature takes.

    Args:
      definition: Definition of the signature; an input of rank 1 has one value per instance, one of
        a higher rank a list.

    Returns:
      Input slots by input name, in the order of the names.
    """
    return {
        name: InputSlot(
            is_text=definition.inputs[name].dtype == DataType.DT_STRING,
            is_list=len(definition.inputs[name].tensor_shape.dim) > 1,
        )
        for name in sorted(definition.inputs)
    }


def to_tensors(
    features: Sequence[Mapping[str, FeatureValue]],
    slots: Mapping[str, InputSlot],
    list_width: int | None = None,
) -> dict[str, np.ndarray]:
    """Converts instances to one tensor per input.

    Lists are padded to the longest of the batch with empty strings and zero weights. A feature that
    an instance leaves out is unknown (an empty string; NaN for a number, which may also be given as
    None) or an empty list; weights that are left out are 1 each.

    Args:
      features: One mapping per user, from feature name to value.
      slots: Inputs of the signature, by name.
      list_width: Width n of lists; None: length of the feature's longest list, at least 1.

    Returns:
      Arrays [batch] or [batch, n] by input name; strings are object arrays of bytes.

    Raises:
      ValueError: If there is no instance, a feature is unknown, a value is of the wrong kind (a
        number that is not a finite float32, NaN in a list, a negative weight), or a list is longer
        than `list_width`.
    """
    if not features:
        raise ValueError("`features` must hold at least one instance. Received: none.")
    known = set(slots)
    for position, instance in enumerate(features):
        unknown = set(instance) - known
        if unknown:
            raise ValueError(
                f"`features[{position}]` must name features of the model ({', '.join(slots)}). "
                f"Received: {', '.join(sorted(unknown))}."
            )
    tensors = {}
    weights_of = {weights_name(name): name for name in slots if weights_name(name) in slots}
    for name, slot in slots.items():
        if not slot.is_list:
            values = [_scalar(features, position, name, slot) for position in range(len(features))]
            tensors[name] = np.array(values, dtype=object if slot.is_text else np.float32)
            continue
        rows = _rows(features, name, slot, name in weights_of)
        if name in weights_of:
            rows = [
                _weights(features, position, weights_of[name], name, row)
                for position, row in enumerate(rows)
            ]
        width = _width(name, rows, list_width, at_least=1)
        tensors[name] = (
            _padded_text(name, rows, width) if slot.is_text else _padded_numbers(rows, width)
        )
    return tensors


def to_list_tensor(
    name: str,
    rows: Sequence[Sequence[str]] | None,
    num_instances: int,
    list_width: int | None = None,
) -> np.ndarray:
    """Converts one list of strings per user, which is not a feature, to a tensor.

    Args:
      name: Name of the input, for error messages.
      rows: One list for each instance; None: all lists are empty.
      num_instances: Number of instances.
      list_width: Width n of the lists; None: length of the longest list.

    Returns:
      Object array of bytes [num_instances, n], padded with empty strings.

    Raises:
      ValueError: If `rows` is not one list of strings for each instance, or a list is longer than
        `list_width`.
    """
    rows = [()] * num_instances if rows is None else rows
    if isinstance(rows, str) or any(not _is_list_of_text(row) for row in rows):
        raise ValueError(f"`{name}` must be a list of lists of strings. Received: {rows!r}.")
    _check_count(name, rows, num_instances)
    return _padded_text(name, rows, _width(name, rows, list_width))


def to_nested_list_tensor(
    name: str,
    rows: Sequence[Sequence[Sequence[str]]],
    num_instances: int,
    list_width: int | None = None,
) -> np.ndarray:
    """Converts several lists of strings per user, such as the tags of items, to a tensor.

    Args:
      name: Name of the input, for error messages.
      rows: Lists of each user.
      num_instances: Number of users.
      list_width: Both m and n; None: the largest number of lists and the length of the longest
        list, each at least 1.

    Returns:
      Object array of bytes [num_instances, m, n], padded with empty strings.

    Raises:
      ValueError: If `rows` is not one list of lists of strings for each instance, or a user has
        more lists or a list has more strings than `list_width`.
    """
    if isinstance(rows, str) or any(
        isinstance(row, str) or not all(_is_list_of_text(inner) for inner in row) for row in rows
    ):
        raise ValueError(
            f"`{name}` must be, for each instance, a list of lists of strings. Received: {rows!r}."
        )
    _check_count(name, rows, num_instances)
    num_lists = _width(name, rows, list_width, at_least=1)
    lists = [inner for row in rows for inner in [*row, *[()] * (num_lists - len(row))]]
    width = _width(name, lists, list_width, at_least=1)
    return _padded_text(name, lists, width).reshape(num_instances, num_lists, width)


def to_bytes(name: str, values: Sequence[str]) -> list[bytes]:
    """Encodes texts as UTF-8, with blanks in place of line breaks.

    Args:
      name: Name of the input, for error messages.
      values: The texts.

    Returns:
      The texts as bytes.

    Raises:
      ValueError: If UTF-8 cannot hold a text.
    """
    joined = "".join(values)
    if "\n" in joined or "\r" in joined:
        values = list(map(one_line, values))
    try:
        return list(map(str.encode, values))
    except UnicodeEncodeError as error:
        raise _no_utf8(name, error) from error


def _is_list(row: Any) -> bool:
    if type(row) is list:  # the usual case; `isinstance` takes ten times as long
        return True
    return isinstance(row, (Sequence, np.ndarray)) and not isinstance(row, (str, bytes))


def _are_text(values: Sequence[Any]) -> bool:
    # The distinct types are few: a request has thousands of values, nearly always of one type.
    return all(issubclass(kind, str) for kind in set(map(type, values)))


def _is_list_of_text(row: Any) -> bool:
    return _is_list(row) and _are_text(row)


def _check_count(name: str, rows: Sequence[Any], num_instances: int) -> None:
    if len(rows) != num_instances:
        raise ValueError(
            f"`{name}` must have one list for each of the {num_instances} instances. "
            f"Received: {len(rows)} lists."
        )


def _width(
    name: str, rows: Sequence[Sequence[Any]], list_width: int | None, at_least: int = 0
) -> int:
    longest = max((len(row) for row in rows), default=0)
    if list_width is None:
        return max(at_least, longest)
    if longest > list_width:
        raise ValueError(
            f"`{name}` must have at most `list_width`={list_width} values. Received: {longest}."
        )
    return list_width


def _padded_text(name: str, rows: Sequence[Sequence[str]], width: int) -> np.ndarray:
    """Returns an object array of bytes [len(rows), width], filled at once and not row by row."""
    tensor = np.full((len(rows), width), b"", object)
    values = list(itertools.chain.from_iterable(rows))
    tensor[_is_filled(rows, width)] = to_bytes(name, values)
    return tensor


def _no_utf8(name: str, error: UnicodeEncodeError) -> ValueError:
    return ValueError(
        f"`{name}` must be text that UTF-8 can hold, without lone surrogates. "
        f"Received: {error.object!a}."
    )


def _padded_numbers(rows: Sequence[Sequence[float]], width: int) -> np.ndarray:
    """Returns float32 [len(rows), width], filled at once and not row by row."""
    tensor = np.zeros((len(rows), width), np.float32)
    values = list(itertools.chain.from_iterable(rows))
    tensor[_is_filled(rows, width)] = np.array(values, np.float64)
    return tensor


def _is_filled(rows: Sequence[Sequence[Any]], width: int) -> np.ndarray:
    """Returns bool [len(rows), width], whether a place has a value and not padding."""
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    return np.arange(width) < lengths[:, np.newaxis]


def _scalar(
    features: Sequence[Mapping[str, Any]], position: int, name: str, slot: InputSlot
) -> bytes | float:
    value = features[position].get(name, "" if slot.is_text else math.nan)
    if slot.is_text and isinstance(value, str):
        try:
            return one_line(value).encode()
        except UnicodeEncodeError as error:
            raise _no_utf8(name, error) from error
    if not slot.is_text and value is None:  # JSON has no NaN, so its instances use null
        return math.nan
    if not slot.is_text and (_is_number(value) or _is_nan(value)):
        return value
    kind = "a string" if slot.is_text else "a finite number of float32, or NaN where unknown"
    raise _wrong_kind(position, name, kind, value)


def _rows(
    features: Sequence[Mapping[str, Any]], name: str, slot: InputSlot, are_weights: bool
) -> list[Sequence[Any]]:
    """Returns the lists of a feature, checked at once; one by one only to find a wrong one."""
    rows = [instance.get(name, ()) for instance in features]
    are_right = _are_text if slot.is_text else _are_weights if are_weights else _are_numbers
    if all(map(_is_list, rows)) and are_right(list(itertools.chain.from_iterable(rows))):
        return rows
    position = next(i for i, row in enumerate(rows) if not (_is_list(row) and are_right(row)))
    kind = "a list of strings" if slot.is_text else "a list of finite numbers of float32"
    if are_weights:
        kind += ", 0 or more"
    raise _wrong_kind(position, name, kind, rows[position])


def _weights(
    features: Sequence[Mapping[str, Any]],
    position: int,
    domain: str,
    name: str,
    weights: Sequence[Any],
) -> Sequence[Any]:
    num_values = len(features[position].get(domain, ()))
    if name not in features[position]:
        return [1.0] * num_values
    if len(weights) != num_values:
        raise ValueError(
            f"`{name}` of `features[{position}]` must have a weight for each of the {num_values} "
            f"values of `{domain}`. Received: {len(weights)} weights."
        )
    return weights


def _are_weights(values: Sequence[Any]) -> bool:
    return _are_numbers(values, at_least=0.0)


def _are_numbers(values: Sequence[Any], at_least: float = -_BEYOND_FLOAT32) -> bool:
    if set(map(type, values)) <= {float}:
        array = np.array(values, np.float64)
        # Both comparisons are false for NaN.
        return not array.size or bool(array.min() >= at_least and array.max() < _BEYOND_FLOAT32)
    return all(_is_number(value) and value >= at_least for value in values)


def _is_number(value: Any) -> bool:
    is_real = isinstance(value, (int, float, np.floating, np.integer))
    return is_real and not isinstance(value, bool) and abs(value) < _BEYOND_FLOAT32


def _is_nan(value: Any) -> bool:
    return isinstance(value, (float, np.floating)) and bool(np.isnan(value))


def _wrong_kind(position: int, name: str, kind: str, value: Any) -> ValueError:
    return ValueError(f"`{name}` of `features[{position}]` must be {kind}. Received: {value!r}.")
