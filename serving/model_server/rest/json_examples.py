"""The bodies of REST classify and regress requests, and their answers."""

from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import classification_pb2, input_pb2, regression_pb2

from serving.model_server.errors import ServingError, invalid_argument
from serving.model_server.rest.json_tensor import (
    decode_base64,
    format_error,
    is_base64,
    is_lossless,
    string_bytes,
    type_text,
)
from serving.model_server.rest.json_text import decimal_text, quoted, value_text

_KINDS = {"bytes_list": "bytes", "float_list": "float", "int64_list": "int64", None: "UNKNOWN"}
_LARGEST_INTEGER = 2**63 - 1


def read_examples(document: dict[str, Any]) -> input_pb2.Input:
    """Reads the examples of a body, `{"context": {...}, "examples": [{...}, ...]}`.

    Args:
      document: Parsed body of the request.

    Returns:
      The examples. The type of a feature is that of its JSON values: an integer does not become a
      float.

    Raises:
      ServingError: If the body has no examples, or a feature has values that are none.
    """
    examples = input_pb2.Input()
    messages = examples.example_list.examples
    if "context" in document:
        _fill_example(document["context"], examples.example_list_with_context.context)
        messages = examples.example_list_with_context.examples
    if "examples" not in document:
        raise format_error(
            document, "When method is classify, key 'examples' is expected and was not found"
        )
    rows = document["examples"]
    if not isinstance(rows, list):
        raise format_error(document, "Expecting 'examples' value to be an list/array")
    if not rows:
        raise format_error(document, "'examples' value is an empty array")
    for row in rows:
        _fill_example(row, messages.add())
    return examples


def _fill_example(value: Any, example: tf.train.Example) -> None:
    if not isinstance(value, dict):
        raise invalid_argument(f"Example must be JSON object but got JSON {type_text(value)}")
    for name, content in value.items():
        feature = example.features.feature[name]
        for element in content if isinstance(content, list) else [content]:
            _add_value(name, element, feature)


def _add_value(name: str, value: Any, feature: tf.train.Feature) -> None:
    if isinstance(value, str):
        _require_kind(name, feature, "bytes_list")
        feature.bytes_list.value.append(string_bytes(value))
    elif is_base64(value):
        _require_kind(name, feature, "bytes_list")
        feature.bytes_list.value.append(decode_base64(value))
    elif isinstance(value, float):
        _require_kind(name, feature, "float_list")
        if not is_lossless(value, np.float32):
            raise invalid_argument(
                f"Cannot convert JSON value: {value_text(value)} to {_KINDS['float_list']} without "
                "loss of precision."
            )
        feature.float_list.value.append(value)
    elif isinstance(value, int):  # or a bool, which is 0 or 1
        _require_kind(name, feature, "int64_list")
        if value > _LARGEST_INTEGER:
            raise invalid_argument(f"Feature: {name} has uint64 element. Only int64 is supported.")
        feature.int64_list.value.append(int(value))
    else:
        raise _wrong_element(name, value)


def _require_kind(name: str, feature: tf.train.Feature, kind: str) -> None:
    found = feature.WhichOneof("kind")
    if found not in (None, kind):
        raise invalid_argument(
            f"Unexpected element type in feature: {name} expecting type: {_KINDS[found]}"
        )


def _wrong_element(name: str, value: Any) -> ServingError:
    return invalid_argument(
        f"Feature: {name} has element with unexpected JSON type: {type_text(value)}"
    )


def classifications_text(result: classification_pb2.ClassificationResult) -> str:
    """Writes the answer to a classify request, pairs of class and score of each example."""
    rows = [
        "["
        + ", ".join(f"[{quoted(c.label)}, {_score_text(c.score)}]" for c in example.classes)
        + "]"
        for example in result.classifications
    ]
    # TensorFlow Serving changes its writer's layout midway, as in the answer to `instances`.
    return f'{{\n    "results": [{", ".join(rows)}\n    ]\n}}'


def regressions_text(result: regression_pb2.RegressionResult) -> str:
    """Writes the answer to a regress request, a number of each example."""
    values = ", ".join(_score_text(regression.value) for regression in result.regressions)
    return f'{{\n    "results": [{values}]\n}}'


def _score_text(value: float) -> str:
    return decimal_text(value, np.float32)
