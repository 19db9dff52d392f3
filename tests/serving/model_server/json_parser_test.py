"""What RapidJSON 1.1.0 takes and refuses, and where (rapidjson/reader.h, error/en.h)."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.model_server import json_parser
from serving.model_server.errors import ServingError
from serving.model_server.json_parser import parse_json


@pytest.mark.parametrize(
    ("body", "message"),
    [
        # TF Serving util/json_tensor.cc, ParseJson.
        (b"", "The document is empty"),
        # reader.h, Parse.
        (b"  \n", "The document is empty. at offset: 3"),
        (b"{} {}", "The document root must not be followed by other values. at offset: 3"),
        (b"{}x", "The document root must not be followed by other values. at offset: 2"),
        # reader.h, ParseObject.
        (b"{bad", "Missing a name for object member. at offset: 1"),
        (b"{", "Missing a name for object member. at offset: 1"),
        (b'{"a": 1,}', "Missing a name for object member. at offset: 8"),
        (b"{'a': 1}", "Missing a name for object member. at offset: 1"),
        (b'{"a" 1}', "Missing a colon after a name of object member. at offset: 5"),
        (b'{"a": 1 "b": 2}', "Missing a comma or } after an object member. at offset: 8"),
        (b'{"instances": [1.0]', "Missing a comma or } after an object member. at offset: 19"),
        # reader.h, ParseArray.
        (b'{"a": [1 2]}', "Missing a comma or ] after an array element. at offset: 9"),
        (b'{"a": [1', "Missing a comma or ] after an array element. at offset: 8"),
        (b'{"a": [01]}', "Missing a comma or ] after an array element. at offset: 8"),
        (b'{"a": [1,]}', "Invalid value. at offset: 9"),
        # reader.h, ParseNull, ParseTrue, ParseFalse: where the word goes wrong.
        (b'{"a": nul}', "Invalid value. at offset: 9"),
        (b'{"a": tru', "Invalid value. at offset: 9"),
        (b'{"a": True}', "Invalid value. at offset: 6"),
        (b'{"a": fals}', "Invalid value. at offset: 10"),
        (b'{"a": }', "Invalid value. at offset: 6"),
        (b"hello", "Invalid value. at offset: 0"),
        # reader.h, ParseNumber.
        (b'{"a": -}', "Invalid value. at offset: 7"),
        (b'{"a": +1}', "Invalid value. at offset: 6"),
        (b'{"a": .5}', "Invalid value. at offset: 6"),
        (b'{"a": 1.}', "Miss fraction part in number. at offset: 8"),
        (b'{"a": 1.e5}', "Miss fraction part in number. at offset: 8"),
        (b'{"a": 1e}', "Miss exponent in number. at offset: 8"),
        (b'{"a": 1e+}', "Miss exponent in number. at offset: 9"),
        (b'{"a": 1e400}', "Number too big to be stored in double. at offset: 6"),
        (b'{"a": -1e309}', "Number too big to be stored in double. at offset: 6"),
        (b'{"a": ' + b"9" * 5000, "Number too big to be stored in double. at offset: 6"),
        (b'{"a": Nan}', "Invalid value. at offset: 8"),
        (b'{"a": Infinit}', "Invalid value. at offset: 13"),
        # reader.h, ParseStringToStream.
        (b'{"a', "Missing a closing quotation mark in string. at offset: 3"),
        (b'{"a": "b}', "Missing a closing quotation mark in string. at offset: 9"),
        (b'{"a": "\\q"}', "Invalid escape character in string. at offset: 7"),
        (b'{"a": "x\ny"}', "Invalid escape character in string. at offset: 8"),
        (b'{"a": "\\u12g4"}', "Incorrect hex digit after \\u escape in string. at offset: 7"),
        (b'{"a": "\\ud800"}', "The surrogate pair in string is invalid. at offset: 7"),
        (b'{"a": "\\ud800\\u0041"}', "The surrogate pair in string is invalid. at offset: 7"),
    ],
)
def test_refused_text_has_rapidjsons_words_and_offset(body, message):
    with pytest.raises(ServingError) as caught:
        parse_json(body)
    assert caught.value.message == f"JSON Parse error: {message}"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),  # a byte order mark
        (b'{"a": [Inf, -Inf, Infinity, -Infinity]}', {"a": [math.inf, -math.inf] * 2}),
        (b'{"a": "\xff"}', {"a": "\udcff"}),  # encodings are not checked
        (b'{"a": "\\ud83d\\ude00"}', {"a": "\U0001f600"}),
        (b'{"a": 1e0308}', {"a": 1e308}),
        (b'{"a": 1e-400}', {"a": 0.0}),
        (b"{}\x00rest", {}),  # a zero byte ends the text
    ],
)
def test_taken_text_that_python_refuses_or_cannot_be_trusted_with(body, expected):
    assert parse_json(body) == expected


def test_nested_too_deeply_is_refused():
    with pytest.raises(ServingError, match="Nested too deeply"):
        parse_json(b"[" * 100_000)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda values: st.lists(values) | st.dictionaries(st.text(), values),
)


@given(_VALUES)
def test_slow_reader_agrees_with_python(value):
    text = json.dumps(value)
    assert json_parser._Reader(text.encode()).document() == json.loads(text)


@given(st.text(alphabet='{}[]",:0123456789.eE+-ntf\\u ', max_size=12))
def test_slow_reader_refuses_whatever_python_refuses(text):
    # Up to this length, and without I and N, the two grammars are one.
    try:
        expected = json.loads(text)
    except ValueError:
        with pytest.raises(json_parser._ParseError):
            json_parser._Reader(text.encode()).document()
    else:
        assert json_parser._Reader(text.encode()).document() == expected


# What is too large for the slow way.

_PADDING = b" " * (json_parser._LARGEST_SLOW_BYTES + 1)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'["\\ud83d\\ude00", "\\u00e9"]', ["\U0001f600", "\u00e9"]),
        (b"[1e+16, 1e300, 1e-400, NaN]", [1e16, 1e300, 0.0, math.nan]),
    ],
)
def test_large_body_with_pairs_and_exponents_is_read(body, expected):
    found = parse_json(body + _PADDING)
    assert json.dumps(found) == json.dumps(expected)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'["\\ud83d"]', "The surrogate pair in string is invalid."),
        (b'["\\ude00"]', "The surrogate pair in string is invalid."),
        (b"[1e400]", "Number too big to be stored in double."),
        (b'["\\ud83d\\ude00",]', "Expecting value at offset: 16"),
        (b"[1,]", "Expecting value at offset: 3"),
        (b'["\xff"]', "'utf-8' codec can't decode byte 0xff in position 2: invalid start byte"),
    ],
)
def test_large_body_that_is_wrong_is_refused_by_the_fast_parser(monkeypatch, body, message):
    monkeypatch.setattr(json_parser, "_Reader", None)
    with pytest.raises(ServingError) as caught:
        parse_json(body + _PADDING)
    assert caught.value.message == f"JSON Parse error: {message}"
