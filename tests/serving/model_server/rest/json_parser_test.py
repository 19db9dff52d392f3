"""What RapidJSON 1.1.0 accepts and refuses, and where (rapidjson/reader.h, error/en.h)."""

import decimal
import json
import math
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.model_server.errors import ServingError
from serving.model_server.rest import json_parser
from serving.model_server.rest.json_parser import parse_json


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


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_deepest_document_is_read_and_a_deeper_one_refused(opening):
    closing = {b"[": b"]", b'{"a":': b"}"}[opening]
    deepest = sys.getrecursionlimit()
    document = parse_json(opening * deepest + b"1" + closing * deepest)
    for _ in range(deepest):
        document = document["a"] if isinstance(document, dict) else document[0]
    assert document == 1
    with pytest.raises(ServingError, match="Nested too deeply"):
        parse_json(opening * (deepest + 1) + b"1" + closing * (deepest + 1))


def test_numbers_are_rapidjsons():
    text = b"[18446744073709551615, 18446744073709551616, -9223372036854775808, -0, -0.0, 1e22]"
    found = parse_json(text)
    assert found == [2**64 - 1, float(2**64), -(2**63), 0, 0.0, 1e22]
    assert list(map(type, found)) == [int, float, int, int, float, float]


@pytest.mark.parametrize("digits", ["2147483638", "2147483648", "4294967297", "9" * 5000])
def test_exponents_of_any_size_are_bounded(digits):
    # What CVE-2024-38517 and CVE-2024-39684 are about.
    fraction = "0." + "1" * 5000
    assert parse_json(f"[1e-{digits}, -{fraction}e-{digits}]".encode()) == [0.0, 0.0]
    for number in (f"1e{digits}", f"{fraction}e+{digits}"):
        with pytest.raises(ServingError, match="Number too big to be stored in double. at offset"):
            parse_json(number.encode())


_INTEGERS = st.integers(-(2**63), 2**64 - 1)


def _is_exact(value):
    """Tells whether RapidJSON reads a number as it is written: both factors are doubles."""
    _, digits, exponent = decimal.Decimal(repr(value)).as_tuple()
    return int("".join(map(str, digits))) <= 2**53 and abs(exponent) <= 22


_FLOATS = st.builds("{}e{}".format, st.integers(-(2**53), 2**53), st.integers(-22, 22)).map(float)
_FLOATS = _FLOATS.filter(_is_exact)
_VALUES = st.recursive(
    st.none() | st.booleans() | _INTEGERS | _FLOATS | st.text(),
    lambda values: st.lists(values) | st.dictionaries(st.text(), values),
)


@given(_VALUES, st.booleans())
def test_agrees_with_python(value, is_ascii):
    assert parse_json(json.dumps(value, ensure_ascii=is_ascii).encode()) == value


@given(st.text(alphabet='{}[]",:0123456789.eE+-ntf\\u ', max_size=12))
def test_refuses_whatever_python_refuses(text):
    # Up to this length, and without I and N, the two grammars are equal.
    try:
        expected = json.loads(text)
    except ValueError:
        with pytest.raises(ServingError):
            parse_json(text.encode())
    else:
        assert parse_json(text.encode()) == expected


# Texts that the binding refuses, but RapidJSON 1.1.0 does not.


def bytes_of(text):
    return text.encode("utf-8", "surrogateescape")


@given(st.lists(st.binary()))
def test_bytes_of_strings_come_out_as_they_went_in(strings):
    escaped = [
        string.replace(b"\\", b"\\\\").replace(b'"', rb"\"").translate(None, bytes(range(32)))
        for string in strings
    ]
    found = parse_json(b'["' + b'", "'.join(escaped) + b'"]')
    expected = [string.translate(None, bytes(range(32))) for string in strings] or [b""]
    assert list(map(bytes_of, found)) == expected


@pytest.mark.parametrize(
    ("string", "expected"),
    [
        (rb"\udfff", b"\xed\xbf\xbf"),
        (rb"\udc80", b"\xed\xb2\x80"),  # not the byte 0x80
        (rb"\\udfff\udfff", rb"\udfff" + b"\xed\xbf\xbf"),
        (rb"\ud83d\ude00\ude00", "\U0001f600".encode() + b"\xed\xb8\x80"),
        (b"\\u00ff\xff\xc3\xbf\\u6a19", "\xff".encode() + b"\xff" + "\xff\u6a19".encode()),
        (b"\\n\\u0041\\u0022\\u005c\xff", b'\nA"\\\xff'),
        (b"\xed\xa0\x80", b"\xed\xa0\x80"),  # a surrogate that is written as bytes
    ],
)
def test_invalid_unicode_is_read_in_names_and_values(string, expected):
    [(name, value)] = parse_json(b'{"%b": ["%b"]}' % (string, string)).items()
    assert bytes_of(name) == bytes_of(value[0]) == expected


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'["\xff\xfe", 1,]', "Invalid value. at offset: 9"),
        (b'["\\udfff", "\\ud800"]', "The surrogate pair in string is invalid. at offset: 12"),
        (b'["\xff" 1]', "Missing a comma or ] after an array element. at offset: 5"),
        (b"[1\xff]", "Missing a comma or ] after an array element. at offset: 2"),
        (b"\xff", "Invalid value. at offset: 0"),
        (b'\xef\xbb\xbf["\xff",]', "Invalid value. at offset: 8"),
        (b'["\\u12\xff4"]', "Incorrect hex digit after \\u escape in string. at offset: 2"),
    ],
)
def test_error_after_invalid_unicode_has_its_offset(body, message):
    with pytest.raises(ServingError) as caught:
        parse_json(body)
    assert caught.value.message == f"JSON Parse error: {message}"


def test_deep_text_of_invalid_unicode_is_refused():
    with pytest.raises(ServingError, match="Nested too deeply"):
        parse_json(b'["\xff"' + b",[1" * 100_000)


# Large bodies: the same, except that invalid Unicode is refused.

_PADDING = b" " * (json_parser._LARGEST_INVALID_BYTES + 1)


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
        (b'["\\ud83d"]', "The surrogate pair in string is invalid. at offset: 2"),
        (b'["\\ude00"]', "The surrogate pair in string is invalid. at offset: 2"),
        (b"[1e400]", "Number too big to be stored in double. at offset: 1"),
        (b'["\\ud83d\\ude00",]', "Invalid value. at offset: 16"),
        (b"[1,]", "Invalid value. at offset: 3"),
        (b'["\xff"]', "Invalid encoding in string. at offset: 2"),
        (b'\xef\xbb\xbf["\xff"]', "Invalid encoding in string. at offset: 5"),
    ],
)
def test_large_body_that_is_wrong_is_refused_in_rapidjsons_words(body, message):
    with pytest.raises(ServingError) as caught:
        parse_json(body + _PADDING)
    assert caught.value.message == f"JSON Parse error: {message}"
