"""JSON text in TensorFlow Serving's layout: four spaces, short decimals, bytes as base64."""

import base64
import decimal
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from tensorflow.core.framework import types_pb2

from serving.model_server.errors import invalid_argument
from tagtower_client.tensor_proto import data_type_name, data_type_of

_INDENT = "    "
_BYTES_SUFFIX = "_bytes"
# A control character's escape; after an odd number of backslashes the last one escapes.
_CONTROL = re.compile(r"((?<!\\)(?:\\\\)*\\)u(00[01][0-9a-f])")
_LARGEST_FLOAT = 3.4028234e38
_MOST_DIGITS = 21
# Sizes between which a number that needs more than six digits has a point or an exponent.
_LEAST_USUAL, _MOST_USUAL = 1e-30, 1e5
# Maximum number of characters of a value that an error quotes. The layout indents an element by
# four characters per level: the quotation of a megabyte of deep lists would have a gigabyte.
MAX_QUOTED = 2**16
_WRITTEN_KINDS = "fiubO"  # of numpy: floats, integers, bools, objects (strings)


def value_text(value: Any) -> str:
    """Writes any JSON value as text, as TensorFlow Serving quotes it in errors.

    TensorFlow Serving's writer stops at a number in a list or an object that is not finite. This
    function does the same, and also stops after `MAX_QUOTED` characters.
    """
    value = _as_parsed(value)
    if isinstance(value, float):
        # TensorFlow Serving writes a number as float32 if it is in the range of float32.
        if abs(value) <= _LARGEST_FLOAT:
            return decimal_text(float(np.float32(value)), np.float32)
        return decimal_text(value, np.float64)
    parts: list[str] = []
    left = MAX_QUOTED
    for piece in _pieces(value, "\n"):
        if piece is None:
            break
        if len(piece) > left:
            parts += [piece[:left], "...TRUNCATED"]
            break
        parts.append(piece)
        left -= len(piece)
    return "".join(parts)


def error_text(message: str) -> str:
    """Writes the body of an answer that is an error."""
    return f'{{\n{_INDENT}"error": {quoted(message)}\n}}'


def decimal_text(value: float, float_type: type) -> str:
    """Writes a number with six digits if these give the same number back, else with more digits.

    Args:
      value: Number to write.
      float_type: numpy type of the number, float16, float32 or float64.

    Returns:
      Text such as `0.1`, `2.0`, `1e+09`, `NaN` or `-Infinity`.
    """
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "Infinity" if value > 0 else "-Infinity"
    text = f"{value:.6g}"
    if float_type(text) != value:
        text = f"{value:.{_most_digits(float_type)}g}"
    return text if "." in text or "e" in text else text + ".0"


def _most_digits(float_type: type) -> int:
    """Returns how many digits give any number of the type back."""
    return 17 if float_type is np.float64 else 9


def _decimal_texts(flat: np.ndarray) -> list[str]:
    """Writes all values of a float array as `decimal_text` does, most of them at once."""
    is_long = _needs_most_digits(flat)
    if not is_long.any():
        return _tried_texts(flat)
    long_texts = _formatted(flat[is_long].tolist(), _most_digits(flat.dtype.type))
    if is_long.all():
        return long_texts
    texts = np.empty(len(flat), object)
    # As arrays of objects: numpy would copy a list of texts into an array of fixed width first.
    texts[is_long] = np.array(long_texts, object)
    texts[~is_long] = np.array(_tried_texts(flat[~is_long]), object)
    written: list[str] = texts.tolist()
    return written


def _tried_texts(flat: np.ndarray) -> list[str]:
    """Writes values with six digits where these give the number back, else with more."""
    values = flat.tolist()
    texts = [f"{value:.6g}" for value in values]
    is_same = np.array(list(map(float, texts)), np.float64).astype(flat.dtype) == flat
    digits = _most_digits(flat.dtype.type)
    for position in np.flatnonzero(~is_same).tolist():
        texts[position] = f"{values[position]:.{digits}g}"
    for position in np.flatnonzero(~np.isfinite(flat)).tolist():
        texts[position] = decimal_text(values[position], flat.dtype.type)
    return [
        text if "." in text or "e" in text or "I" in text or "N" in text else text + ".0"
        for text in texts
    ]


def _formatted(values: list[float], num_digits: int) -> list[str]:
    # One formatting of all values takes half of the time of one for each.
    return (f"%.{num_digits}g " * len(values) % tuple(values)).split()


def _needs_most_digits(flat: np.ndarray) -> np.ndarray:
    """Returns which values surely need more than six digits, and have a point or an exponent then.

    Six digits are computed here with an error that is far below the distance of two float32: what
    differs from the value by that distance cannot give it back. All others are tried.
    """
    if flat.dtype != np.float32:
        return np.zeros(flat.shape, bool)
    values = flat.astype(np.float64)
    size = np.abs(values)
    is_usual = (size >= _LEAST_USUAL) & (size < _MOST_USUAL)
    size = np.where(is_usual, size, 1.0)
    scale = 10.0 ** (5 - np.floor(np.log10(size)))
    error = np.abs(np.rint(size * scale) / scale - size)
    is_long: np.ndarray = is_usual & (error > size * 2.0**-23)
    return is_long


def rows_text(outputs: Mapping[str, np.ndarray]) -> str:
    """Writes output tensors row by row: the answer to a request with `instances`.

    Args:
      outputs: Arrays [batch, ...] by output name.

    Returns:
      JSON `{"predictions": [...]}`: a list of values if there is one output, else of objects.

    Raises:
      ServingError: If a tensor has rank 0, another number of rows, or a type that JSON lacks.
    """
    batch_size = None
    for name, array in outputs.items():
        if array.ndim == 0:
            raise invalid_argument(f"Tensor name: {name} has no shape information ")
        if batch_size is not None and len(array) != batch_size:
            raise invalid_argument(
                f"Tensor name: {name} has inconsistent batch size: {len(array)} "
                f"expecting: {batch_size}"
            )
        batch_size = len(array)
    leaves = {name: _leaf_texts(name, array) for name, array in outputs.items()}
    rows = []
    for position in range(batch_size or 0):
        if len(outputs) == 1:
            rows.append(_inline(next(iter(leaves.values()))[position]))
            continue
        members = (f'"{name}": {_inline(leaf[position])}' for name, leaf in leaves.items())
        separator = ",\n" + _INDENT * 3
        rows.append(f"{{\n{_INDENT * 3}{separator.join(members)}\n{_INDENT * 2}}}")
    if not rows:
        return f'{{\n{_INDENT}"predictions": []\n}}'
    if len(outputs) == 1:
        # TensorFlow Serving changes its writer's layout midway, so the list begins on this line.
        body = ", ".join(rows)
    else:
        body = "\n" + ",\n".join(_INDENT * 2 + row for row in rows)
    return f'{{\n{_INDENT}"predictions": [{body}\n{_INDENT}]\n}}'


def columns_text(outputs: Mapping[str, np.ndarray]) -> str:
    """Writes output tensors as a whole: the answer to a request with `inputs`.

    Args:
      outputs: Arrays of any shape by output name.

    Returns:
      JSON `{"outputs": ...}`: the value if there is one output, else an object.

    Raises:
      ServingError: If a tensor has a type that JSON lacks.
    """
    texts = {
        name: _nested(_leaf_texts(name, array), 1 if len(outputs) == 1 else 2)
        for name, array in outputs.items()
    }
    if len(texts) == 1:
        return f'{{\n{_INDENT}"outputs": {next(iter(texts.values()))}\n}}'
    members = f",\n{_INDENT * 2}".join(f'"{name}": {text}' for name, text in texts.items())
    return f'{{\n{_INDENT}"outputs": {{\n{_INDENT * 2}{members}\n{_INDENT}}}\n}}'


def _leaf_texts(name: str, array: np.ndarray) -> Any:
    """Converts a tensor to nested lists of JSON texts, or to one text if it has rank 0."""
    kind = array.dtype.kind
    if kind not in _WRITTEN_KINDS:
        raise invalid_argument(
            f"Failed to write JSON value for tensor type: {data_type_name(data_type_of(array))}"
        )
    flat = array.reshape(-1)
    if kind == "f":
        texts = _decimal_texts(flat)
    elif data_type_of(array) == types_pb2.DT_STRING:
        write = _base64_text if name.endswith(_BYTES_SUFFIX) else _string_text
        values = flat.tolist()
        # The same tags come for many users.
        written = {value: write(value) for value in set(values)}
        texts = [written[value] for value in values]
    else:
        texts = [json.dumps(value) for value in flat.tolist()]
    return np.array(texts, dtype=object).reshape(array.shape).tolist()


def _string_text(value: bytes) -> str:
    # Bytes that are not UTF-8 become surrogates, which the encoding of the answer turns back.
    return quoted(value.decode("utf-8", "surrogateescape"))


def quoted(text: str) -> str:
    """Writes a string with its quotation marks."""
    written = json.encoder.encode_basestring(text)
    # RapidJSON writes the hexadecimal digits of a control character in upper case.
    return _CONTROL.sub(_upper_escape, written) if "\\u00" in written else written


def _upper_escape(match: re.Match[str]) -> str:
    backslashes, digits = match.groups()
    return f"{backslashes}u{digits.upper()}"


def _as_parsed(value: Any) -> Any:
    """Returns a value as RapidJSON holds it: an integer beyond 64 bits becomes a double."""
    if not isinstance(value, int) or -(2**63) <= value < 2**64:
        return value
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def _pieces(value: Any, line: str) -> Iterator[str | None]:
    """Yields a value's text in pieces; `line` begins a line at its depth; None: the text stops."""
    value = _as_parsed(value)
    if isinstance(value, str):
        yield quoted(value)
    elif isinstance(value, float):
        is_finite = value == value and value not in (float("inf"), float("-inf"))
        yield _shortest(value) if is_finite else None
    elif isinstance(value, list | dict):
        opening, closing = "[]" if isinstance(value, list) else "{}"
        separator = opening
        for item in value:
            yield separator + line + _INDENT
            separator = ","
            if isinstance(value, dict):
                yield f"{quoted(item)}: "
                item = value[item]
            yield from _pieces(item, line + _INDENT)
        yield line + closing if value else opening + closing
    else:
        yield json.dumps(value)


def _shortest(value: float) -> str:
    """Writes a finite number in RapidJSON's layout, with exponents beyond 21 digits, below 1e-6."""
    sign, digits, exponent = decimal.Decimal(repr(float(value))).normalize().as_tuple()
    assert isinstance(exponent, int)
    text = "".join(map(str, digits))
    point = len(text) + exponent
    if text == "0":
        text = "0.0"
    elif 0 <= exponent and point <= _MOST_DIGITS:
        text = text + "0" * exponent + ".0"
    elif 0 < point <= _MOST_DIGITS:
        text = f"{text[:point]}.{text[point:]}"
    elif -6 < point <= 0:
        text = "0." + "0" * -point + text
    else:
        fraction = f".{text[1:]}" if len(text) > 1 else ""
        text = f"{text[0]}{fraction}e{point - 1}"
    return ("-" if sign else "") + text


def _base64_text(value: bytes) -> str:
    return f'{{"b64": "{base64.b64encode(value).decode()}"}}'


def _inline(texts: Any) -> str:
    if isinstance(texts, str):
        return texts
    if texts and not isinstance(texts[0], str):
        texts = [_inline(text) for text in texts]
    return "[" + ", ".join(texts) + "]"


def _nested(texts: Any, depth: int) -> str:
    if isinstance(texts, str) or not texts:
        return texts if isinstance(texts, str) else "[]"
    separator = ",\n" + _INDENT * (depth + 1)
    if not isinstance(texts[0], str):
        texts = [_nested(text, depth + 1) for text in texts]
    values = separator.join(texts)
    return f"[\n{_INDENT * (depth + 1)}{values}\n{_INDENT * depth}]"
