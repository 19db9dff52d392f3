import json

import numpy as np
import pytest

from serving.model_server.errors import ServingError
from serving.model_server.rest.json_text import columns_text, decimal_text, rows_text


@pytest.mark.parametrize(
    ("value", "float_type", "text"),
    [
        (np.float32(0.1), np.float32, "0.1"),
        (2.0, np.float32, "2.0"),
        (4500002.0, np.float32, "4500002.0"),
        (9000000.0, np.float32, "9e+06"),
        (np.float32(0.337362468), np.float32, "0.337362468"),
        (1 / 3, np.float64, "0.33333333333333331"),
        (float("nan"), np.float32, "NaN"),
        (float("-inf"), np.float32, "-Infinity"),
    ],
)
def test_decimal_is_short_and_gives_the_number_back(value, float_type, text):
    assert decimal_text(float(value), float_type) == text


@pytest.mark.parametrize("float_type", [np.float16, np.float32, np.float64])
def test_tensor_of_floats_has_the_text_of_each_number(float_type):
    rng = np.random.default_rng(0)
    words = [0.0, -0.0, 2.0, 4500002.0, 0.1, 1e-7, 1e9, np.nan, np.inf, -np.inf]
    exponents = 10.0 ** rng.integers(-20, 20, 400)
    with np.errstate(over="ignore"):
        array = np.concatenate([words, rng.normal(size=400) * exponents]).astype(float_type)

    text = columns_text({"floats": array})

    lines = [line.strip(" ,") for line in text.splitlines()[2:-2]]
    assert lines == [decimal_text(value, float_type) for value in array.tolist()]


@pytest.mark.parametrize("digits", [4, 6, 7, 9])
def test_numbers_at_the_limit_of_six_digits_have_the_text_of_each(digits):
    rng = np.random.default_rng(digits)
    # Numbers of so many digits and their neighbours, of all sizes, and those about powers of ten.
    drawn = rng.integers(1, 10**digits, 3000) * 10.0 ** rng.integers(
        -38 - digits, 37 - digits, 3000
    )
    exact = np.concatenate([drawn, 10.0 ** np.arange(-37, 38), [99999.0, 100000.0, 100001.0]])
    exact = exact.astype(np.float32)
    up, down = (np.nextafter(exact, np.float32(end)) for end in (np.inf, 0))
    array = np.concatenate([exact, -up, down])

    text = columns_text({"floats": array})

    lines = [line.strip(" ,") for line in text.splitlines()[2:-2]]
    assert lines == [decimal_text(value, np.float32) for value in array.tolist()]


def test_strings_that_come_again_have_the_same_text():
    values = np.array([[b"a", b'"', b"a"], [b"\xff", b"a", b""]], dtype=object)
    assert columns_text({"y": values}).split() == [
        *("{", '"outputs":', "[", "[", '"a",', '"\\"",', '"a"', "],"),
        *("[", '"\udcff",', '"a",', '""', "]", "]", "}"),
    ]


@pytest.mark.parametrize("write", [rows_text, columns_text])
def test_random_tensors_come_back_from_the_text(write):
    rng = np.random.default_rng(0)
    outputs = {
        "floats": rng.normal(size=(3, 2, 4)).astype(np.float32),
        "integers": rng.integers(-(2**62), 2**62, size=(3,)),
        "strings": np.array([["a", 'q"'], ["é", "\n"], ["", "\\"]], dtype=object),
    }
    encoded = outputs | {"strings": np.vectorize(str.encode, otypes=[object])(outputs["strings"])}
    document = json.loads(write(encoded))
    if write is rows_text:
        rows = document["predictions"]
        document = {"outputs": {name: [row[name] for row in rows] for name in outputs}}
    floats = np.array(document["outputs"]["floats"], np.float32)
    np.testing.assert_array_equal(floats, outputs["floats"])
    assert document["outputs"]["integers"] == outputs["integers"].tolist()
    assert document["outputs"]["strings"] == outputs["strings"].tolist()


def test_layout_is_the_real_servers():
    values = np.array([2.5, 3.0], np.float32)
    assert rows_text({"y": values}) == '{\n    "predictions": [2.5, 3.0\n    ]\n}'
    assert columns_text({"y": values}) == '{\n    "outputs": [\n        2.5,\n        3.0\n    ]\n}'


def test_bytes_that_are_no_text_survive_and_named_bytes_are_base64():
    values = np.array([b"\xff\x00"], dtype=object)
    assert columns_text({"y": values}).encode("utf-8", "surrogateescape").count(b"\xff") == 1
    assert json.loads(columns_text({"y_bytes": values})) == {"outputs": [{"b64": "/wA="}]}


def test_rows_of_unequal_number_are_refused():
    with pytest.raises(ServingError, match="Tensor name: b has inconsistent batch size: 1"):
        rows_text({"a": np.zeros(2), "b": np.zeros(1)})


def test_no_rows_give_an_empty_list():
    assert json.loads(rows_text({"a": np.zeros([0, 3])})) == {"predictions": []}
