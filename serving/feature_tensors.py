"""Plain feature values of users to the padded tensors of a signature such as `retrieve`."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from trainer.features import weights_name

FeatureValue = str | Sequence[str] | Sequence[float]


@dataclasses.dataclass(frozen=True)
class InputSlot:
    """One input of a signature.

    Attributes:
      is_text: Whether its values are strings, else they are numbers.
      is_list: Whether an instance has a list of values, else it has one.
    """

    is_text: bool
    is_list: bool


def input_slots(definition: meta_graph_pb2.SignatureDef) -> dict[str, InputSlot]:
    """Reads which features a signature takes.

    Args:
      definition: The signature; an input of rank 1 is a profile feature, one of rank 2 a list.

    Returns:
      Input name -> what it takes, by name.
    """
    return {
        name: InputSlot(
            is_text=definition.inputs[name].dtype == types_pb2.DT_STRING,
            is_list=len(definition.inputs[name].tensor_shape.dim) > 1,
        )
        for name in sorted(definition.inputs)
    }


def to_tensors(
    features: Sequence[Mapping[str, FeatureValue]], slots: Mapping[str, InputSlot]
) -> dict[str, np.ndarray]:
    """Makes one tensor an input out of instances.

    Lists are padded to the longest of the batch with empty strings and zero weights; what an
    instance leaves out is unknown (an empty string) or an empty list; weights left out are 1 each.

    Args:
      features: One mapping a user, feature name -> value.
      slots: The inputs there are.

    Returns:
      Input name -> array [batch] or [batch, n], n at least 1; strings are object arrays of bytes.

    Raises:
      ValueError: If there is no instance, a feature is unknown, or a value is of the wrong kind.
    """
    if not features:
        raise ValueError("`features` must hold at least one instance. Received: none.")
    for position, instance in enumerate(features):
        unknown = sorted(set(instance) - set(slots))
        if unknown:
            raise ValueError(
                f"`features[{position}]` must name features of the model ({', '.join(slots)}). "
                f"Received: {', '.join(unknown)}."
            )
    tensors = {}
    weights_of = {weights_name(name): name for name in slots if weights_name(name) in slots}
    for name, slot in slots.items():
        if not slot.is_list:
            values = [_scalar(features, position, name, slot) for position in range(len(features))]
            tensors[name] = np.array(values, dtype=object if slot.is_text else np.float32)
            continue
        rows = [_row(features, position, name, slot) for position in range(len(features))]
        if name in weights_of:
            rows = [
                _weights(features, position, weights_of[name], name, row)
                for position, row in enumerate(rows)
            ]
        width = max(1, *(len(row) for row in rows))
        tensor = np.full(
            (len(rows), width), b"" if slot.is_text else 0, object if slot.is_text else np.float32
        )
        for position, row in enumerate(rows):
            tensor[position, : len(row)] = row
        tensors[name] = tensor
    return tensors


def _scalar(
    features: Sequence[Mapping[str, Any]], position: int, name: str, slot: InputSlot
) -> bytes | float:
    value = features[position].get(name, "" if slot.is_text else 0.0)
    if slot.is_text and isinstance(value, str):
        return value.encode()
    if not slot.is_text and _is_number(value):
        return value
    raise _wrong_kind(position, name, "a string" if slot.is_text else "a finite number", value)


def _row(
    features: Sequence[Mapping[str, Any]], position: int, name: str, slot: InputSlot
) -> list[bytes] | list[float]:
    values = features[position].get(name, ())
    is_list = isinstance(values, Sequence | np.ndarray) and not isinstance(values, str | bytes)
    if is_list and slot.is_text and all(isinstance(value, str) for value in values):
        return [value.encode() for value in values]
    if is_list and not slot.is_text and all(_is_number(value) for value in values):
        return list(values)
    kind = "a list of strings" if slot.is_text else "a list of finite numbers"
    raise _wrong_kind(position, name, kind, values)


def _weights(
    features: Sequence[Mapping[str, Any]],
    position: int,
    domain: str,
    name: str,
    weights: list[Any],
) -> list[Any]:
    num_values = len(features[position].get(domain, ()))
    if name not in features[position]:
        return [1.0] * num_values
    if len(weights) != num_values:
        raise ValueError(
            f"`{name}` of `features[{position}]` must have a weight for each of the {num_values} "
            f"values of `{domain}`. Received: {len(weights)} weights."
        )
    return weights


def _is_number(value: Any) -> bool:
    is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    try:
        return is_number and math.isfinite(value)
    except OverflowError:  # an integer beyond any float
        return False


def _wrong_kind(position: int, name: str, kind: str, value: Any) -> ValueError:
    return ValueError(f"`{name}` of `features[{position}]` must be {kind}. Received: {value!r}.")
