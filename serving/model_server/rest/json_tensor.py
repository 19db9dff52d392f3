"""The body of a REST predict request: JSON is converted to tensors, by row or by column.

A request has exactly one of two forms: `instances` is a list with one element per example, `inputs`
has one value per input. Error messages are those of TensorFlow Serving.
"""

import base64
import binascii
from collections.abc import Callable
from typing import Any

import numpy as np
from tensorflow.core.framework import types_pb2

from serving.model_server.errors import ServingError, invalid_argument, unimplemented
from serving.model_server.rest.json_parser import parse_json
from serving.model_server.rest.json_text import value_text
from serving.model_server.session.signature import Signature
from tagtower_client.tensor_proto import data_type_name

_INT32 = (-(2**31), 2**31 - 1)
_INTEGERS: dict[int, tuple[type, tuple[int, int]]] = {
    types_pb2.DT_INT32: (np.int32, _INT32),
    types_pb2.DT_INT16: (np.int16, _INT32),  # wrapped to its width later, as in TensorFlow Serving
    types_pb2.DT_INT8: (np.int8, _INT32),
    types_pb2.DT_UINT8: (np.uint8, _INT32),
    types_pb2.DT_INT64: (np.int64, (-(2**63), 2**63 - 1)),
    types_pb2.DT_UINT32: (np.uint32, (0, 2**32 - 1)),
    types_pb2.DT_UINT64: (np.uint64, (0, 2**64 - 1)),
}
_FLOATS: dict[int, type] = {types_pb2.DT_FLOAT: np.float32, types_pb2.DT_DOUBLE: np.float64}
_LARGEST = {data_type: float(np.finfo(kind).max) for data_type, kind in _FLOATS.items()}

# Maximum rank of numpy's arrays.
MAX_RANK = 32


def parse_body(body: bytes) -> dict[str, Any]:
    """Parses the body of a request, in which NaN and the infinities are allowed.

    Raises:
      ServingError: If the body is not a JSON object.
    """
    document = parse_json(body)
    if not isinstance(document, dict):
        raise format_error(document, "Is not object")
    return document


def signature_name(document: dict[str, Any]) -> str:
    """Returns the request's `signature_name`, or an empty string if it has none.

    Raises:
      ServingError: If `signature_name` is not a string.
    """
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise format_error(
            document, "not formatted correctly. 'signature_name' key must be a string value."
        )
    return name


def read_inputs(
    document: dict[str, Any], signature: Signature
) -> tuple[dict[str, np.ndarray], bool]:
    """Reads the tensors of a predict request.

    Args:
      document: Parsed body of the request.
      signature: Signature that is called, which determines the type of each input.

    Returns:
      Arrays by input name, and whether the request is row by row (`instances`).

    Raises:
      ServingError: If the body has neither of the two forms, or values of other types than the
        signature's.
    """
    if "instances" in document:
        if "inputs" in document:
            raise format_error(
                document,
                "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to "
                "exist ",
            )
        instances = document["instances"]
        if not isinstance(instances, list):
            raise format_error(document, "Expecting 'instances' to be an list/array")
        if not instances:
            raise format_error(document, "No values in 'instances' array")
        return _read_rows(instances, signature), True
    if "inputs" in document:
        return _read_columns(document["inputs"], signature), False
    raise invalid_argument("Missing 'inputs' or 'instances' key")


class _Rows:
    """The values of one input, collected instance by instance."""

    def __init__(self, data_type: int):
        self.data_type = data_type
        self.shape: list[int] = []
        self.num_instances = 0
        self.values: list[Any] = []

    def add(self, item: Any) -> None:
        shape = _dense_shape(item)
        start = len(self.values)
        _fill(item, 0, shape, self.data_type, self.values)
        if self.num_instances:
            size, expected = len(self.values) - start, start // self.num_instances
            if size != expected:
                raise invalid_argument(f"Expecting tensor size: {expected} but got: {size}")
            if shape != self.shape:
                raise invalid_argument(
                    f"Expecting shape {_shape_text(self.shape)} but got: {_shape_text(shape)}"
                )
        self.shape = shape
        self.num_instances += 1

    def tensor(self) -> np.ndarray:
        return _tensor(self.values, [self.num_instances, *self.shape], self.data_type)


def _read_rows(instances: list[Any], signature: Signature) -> dict[str, np.ndarray]:
    if not isinstance(instances[0], dict) and len(signature.inputs) > 1:
        raise invalid_argument(
            "instances is a plain list, but expecting list of objects as multiple input tensors "
            "required as per tensorinfo_map"
        )
    rows = {name: _Rows(slot.data_type) for name, slot in signature.inputs.items()}
    has_names = _is_object(instances[0])
    for position, instance in enumerate(instances):
        if has_names != _is_object(instance):
            raise invalid_argument(
                f"Expecting object but got list at item {position} of input list"
                if has_names
                else f"Expecting value/list but got object at item {position} of input list"
            )
        if not has_names:
            name = next(iter(rows))
            with_place = f"Failed to process element: {position} of 'instances' list."
            _explained(with_place, rows[name].add, instance)
            continue
        for name, item in instance.items():
            with_place = f"Failed to process element: {position} key: {name} of 'instances' list."
            if name not in rows:
                raise invalid_argument(
                    f"{with_place} Error: INVALID_ARGUMENT: JSON object: does not have named "
                    f"input: {name}"
                )
            _explained(with_place, rows[name].add, item)
        if instance.keys() != rows.keys():
            raise invalid_argument(
                f"Failed to process element: {position} of 'instances' list. JSON object: "
                f"{value_text(instance)} keys must be equal to: {','.join(sorted(rows))}"
            )
    return {name: row.tensor() for name, row in rows.items() if row.num_instances}


def _read_columns(value: Any, signature: Signature) -> dict[str, np.ndarray]:
    if _is_object(value):
        items = {}
        for name in signature.inputs:
            if name not in value:
                raise invalid_argument(f"Missing named input: {name} in 'inputs' object.")
            items[name] = value[name]
    elif len(signature.inputs) > 1:
        raise invalid_argument(
            "inputs is a plain value/list, but expecting an object as multiple input tensors "
            "required as per tensorinfo_map"
        )
    else:
        items = dict.fromkeys(signature.inputs, value)
    tensors = {}
    for name, item in items.items():
        data_type = signature.inputs[name].data_type
        shape = _dense_shape(item)
        values: list[Any] = []
        _fill(item, 0, shape, data_type, values)
        tensors[name] = _tensor(values, shape, data_type)
    return tensors


def _explained(place: str, add: Callable[[Any], None], item: Any) -> None:
    try:
        add(item)
    except ServingError as error:
        raise invalid_argument(f"{place} Error: {error.code.name}: {error.message}") from error


def _dense_shape(value: Any) -> list[int]:
    """Returns the shape of a nested list, from its first elements."""
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    # One dimension is reserved for the batch.
    if len(shape) >= MAX_RANK:
        raise invalid_argument(f"Tensor of more than {MAX_RANK - 1} dimensions: {len(shape)}")
    return shape


def _fill(value: Any, level: int, shape: list[int], data_type: int, values: list[Any]) -> None:
    """Appends the leaves of a nested list of the given shape."""
    if not isinstance(value, list):
        if level != len(shape):
            raise invalid_argument(
                f"JSON Value: {value_text(value)} found at incorrect level: {level + 1} in the "
                f"JSON DOM. Expected at level: {len(shape)}"
            )
        values.append(_leaf(value, data_type))
        return
    if level >= len(shape):
        raise invalid_argument(
            f"Encountered list at unexpected level: {level} expected < {len(shape)}"
        )
    if len(value) != shape[level]:
        raise invalid_argument(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: "
            f"{shape[level]}"
        )
    if level + 1 == len(shape):
        leaves = _plain_leaves(value, data_type)
        if leaves is not None:
            values.extend(leaves)
            return
    for element in value:
        _fill(element, level + 1, shape, data_type, values)


def _plain_leaves(row: list[Any], data_type: int) -> list[Any] | None:
    """Converts a row as `_leaf` does, but at once if all its values are of the usual type.

    Returns:
      The converted values; None: they must be converted one by one.
    """
    kinds = set(map(type, row))
    if data_type == types_pb2.DT_STRING and kinds == {str}:
        return _all_string_bytes(row)
    if data_type in _FLOATS and kinds == {float}:
        limit = _LARGEST[data_type]
        if -limit <= min(row) and max(row) <= limit:
            return row
        size = np.abs(np.array(row))
        # NaN and the infinities are converted without loss as well.
        is_lossless = (size <= limit) | ~np.isfinite(size)
        return row if is_lossless.all() else None
    return None


def _leaf(value: Any, data_type: int) -> Any:
    """Converts one value of a tensor; raises TensorFlow Serving's error for a wrong type."""
    if data_type == types_pb2.DT_STRING:
        if isinstance(value, str):
            return string_bytes(value)
        if isinstance(value, dict):
            return decode_base64(value)
    elif data_type in _FLOATS:
        if isinstance(value, int | float) and not isinstance(value, bool):
            if not is_lossless(value, _FLOATS[data_type]):
                raise invalid_argument(
                    f"Cannot convert JSON value: {value_text(value)} to "
                    f"{data_type_name(data_type)} without loss of precision."
                )
            return value
    elif data_type in _INTEGERS:
        low, high = _INTEGERS[data_type][1]
        if type(value) is int and low <= value <= high:
            return value
    elif data_type == types_pb2.DT_BOOL:
        if isinstance(value, bool):
            return value
    else:
        raise unimplemented(
            f"Conversion of JSON Value: {value_text(value)} to type: {data_type_name(data_type)}"
        )
    raise invalid_argument(
        f"JSON Value: {value_text(value)} Type: {type_text(value)} is not of expected type: "
        f"{data_type_name(data_type)}"
    )


def _all_string_bytes(row: list[str]) -> list[bytes]:
    """Encodes strings as `string_bytes` does, all at once where that is possible."""
    joined = "\0".join(row)
    if not joined.isascii() or joined.count("\0") != len(row) - 1:
        return list(map(string_bytes, row))
    return joined.encode("ascii").split(b"\0")


def string_bytes(text: str) -> bytes:
    """Returns the bytes of a JSON string; those that are not UTF-8 are restored."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def is_lossless(value: int | float, float_type: type) -> bool:
    """Returns whether a number can be converted to a float type, as TensorFlow Serving sees it."""
    if value != value or value in (float("inf"), float("-inf")):
        return True
    limits: np.finfo[Any] = np.finfo(float_type)
    if isinstance(value, int) and -(2**63) <= value < 2**64:
        return abs(value) < 2 ** (limits.nmant + 1)
    return float(limits.min) <= value <= float(limits.max)


def decode_base64(value: dict[str, Any]) -> bytes:
    """Decodes `{"b64": "..."}`."""
    if not is_base64(value):
        raise invalid_argument(
            f"JSON Value: {value_text(value)} not formatted correctly for base64 data"
        )
    text = "".join(value["b64"].split())
    digits = text.rstrip("=.")  # both characters are padding
    padding = -len(digits) % 4
    if padding == 3 or len(text) - len(digits) not in (0, padding):
        raise invalid_argument("Unable to base64 decode")
    try:
        return base64.b64decode(digits + "=" * padding, validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid_argument("Unable to base64 decode") from error


def _tensor(values: list[Any], shape: list[int], data_type: int) -> np.ndarray:
    if data_type == types_pb2.DT_STRING:
        array = np.empty(len(values), dtype=object)
        array[:] = values
    elif data_type in _INTEGERS:
        numpy_type, (low, _) = _INTEGERS[data_type]
        array = np.array(values, dtype=np.uint64 if low == 0 else np.int64).astype(numpy_type)
    else:
        array = np.array(values, dtype=_FLOATS.get(data_type, np.bool_))
    return array.reshape(shape)


def is_base64(value: Any) -> bool:
    """Returns whether a JSON value is `{"b64": "..."}`."""
    return isinstance(value, dict) and list(value) == ["b64"] and isinstance(value["b64"], str)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict) and not is_base64(value)


def type_text(value: Any) -> str:
    """Returns RapidJSON's name of the type of a JSON value."""
    if value is None or isinstance(value, bool):
        return {None: "Null", False: "False", True: "True"}[value]
    for python_type, name in ((dict, "Object"), (list, "Array"), (str, "String")):
        if isinstance(value, python_type):
            return name
    return "Number"


def _shape_text(shape: list[int]) -> str:
    return "[" + ",".join(str(size) for size in shape) + "]"


def format_error(document: Any, reason: str) -> ServingError:
    """Returns the error for a JSON value, with the value and the reason."""
    return invalid_argument(f"JSON Value: {value_text(document)} {reason}")
