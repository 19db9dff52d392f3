"""Rows of plain values, which are converted at once, have the values of each by itself."""

import numpy as np
import pytest
from tensorflow.core.framework import types_pb2

from serving.model_server.errors import ServingError
from serving.model_server.rest.json_tensor import read_inputs
from serving.model_server.session.signature import Signature, TensorSlot


def read(rows, data_type):
    signature = Signature("s", {"x": TensorSlot("x", "x:0", data_type)}, {}, ("x:0",))
    inputs, _ = read_inputs({"inputs": rows}, signature)
    return inputs["x"]


@pytest.mark.parametrize(
    "row",
    [
        ["a", "", "b c"],
        ["", "", ""],
        ["a\0b", "", "c"],
        ["\0", "\0\0", "x"],
        ["café", "a", "\0"],
        ["\udcff", "\ud83d", "a"],
    ],
)
def test_strings_are_the_bytes_of_each(row):
    expected = [
        text.encode("utf-8", "surrogatepass" if "\ud83d" in text else "surrogateescape")
        for text in row
    ]
    assert read([row, row], types_pb2.DT_STRING).tolist() == [expected, expected]
    assert read([row[:1]], types_pb2.DT_STRING).tolist() == [expected[:1]]


def test_floats_that_are_not_finite_are_read_wherever_they_are():
    largest = float(np.finfo(np.float32).max)
    for row in (
        [1.5, np.nan, np.inf],
        [np.nan, 2.0, -np.inf],
        [largest, -largest, 0.0],
    ):
        np.testing.assert_array_equal(read([row], types_pb2.DT_FLOAT), np.float32([row]))


@pytest.mark.parametrize("row", [[1e39, 0.0], [np.nan, -1e39], [1.0, np.nan, 1e39], [np.inf, 1e39]])
def test_number_beyond_the_type_is_refused_wherever_it_is(row):
    with pytest.raises(ServingError, match="1e\\+39 to float without loss of precision"):
        read([row], types_pb2.DT_FLOAT)
