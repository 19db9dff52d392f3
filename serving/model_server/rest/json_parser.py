"""JSON bodies by the real server's parser: what it takes, what it refuses, where.

TensorFlow Serving parses with RapidJSON 1.1.0. python-rapidjson binds a later RapidJSON of the same
grammar and the same offsets; docs/decisions/0001-rest-json.md has the few differences. Its errors
get the words of 1.1.0 here. What the binding refuses and 1.1.0 reads is read here as well: bytes
that are no UTF-8, and second halves of surrogate pairs without a first.
"""

import re
from typing import Any

import rapidjson

from serving.model_server.errors import ServingError, invalid_argument

# RapidJSON's own numbers: integers of at most 64 bits, and doubles.
_NUMBERS = rapidjson.NM_NATIVE | rapidjson.NM_NAN
_decode = rapidjson.Decoder(number_mode=_NUMBERS)
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_ERROR = re.compile(r"Parse error at offset (\d+): (.*)")
_WRONG_SURROGATE = "The surrogate pair in string is invalid."
_WRONG_ENCODING = "Invalid encoding in string."
# What the later RapidJSON says in other words.
_WORDS = {
    "Missing a comma or '}' after an object member.": (
        "Missing a comma or } after an object member."
    ),
    "Missing a comma or ']' after an array element.": (
        "Missing a comma or ] after an array element."
    ),
    _WRONG_ENCODING: "Invalid escape character in string.",  # a control character
}
# Reading text of invalid Unicode takes up to half a second for each megabyte.
_LARGEST_INVALID_BYTES = 1 << 21
# Escaped code units and pairs of surrogates. Escaped backslashes are matched first, because the
# second of them begins no escape.
_ESCAPE = re.compile(
    rb"(?:\\\\)+|(?P<pair>\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    rb"|(?P<low>\\u[dD][c-fC-F][0-9a-fA-F]{2})|(?P<unit>\\u[0-9a-fA-F]{4})"
)
_TO_ASCII = bytes(byte if byte < 0x80 else ord("?") for byte in range(256))


def parse_json(body: bytes) -> Any:
    """Parses a body; NaN and the infinities are allowed.

    Args:
      body: The text, in UTF-8. Bytes in strings that are no UTF-8 come out as lone surrogates.

    Returns:
      The document.

    Raises:
      ServingError: INVALID_ARGUMENT with RapidJSON's words and offset.
    """
    if not body:
        raise invalid_argument("JSON Parse error: The document is empty")
    text = body.removeprefix(_BYTE_ORDER_MARK)
    start = len(body) - len(text)
    is_small = len(text) <= _LARGEST_INVALID_BYTES
    try:
        try:
            return _decode(text)
        except UnicodeDecodeError as error:
            if not is_small:
                raise _error(_WRONG_ENCODING, start + error.start) from None
        except rapidjson.JSONDecodeError as error:
            if not (is_small and str(error).endswith(_WRONG_SURROGATE)):
                raise
        return _decode_invalid_unicode(text)
    except rapidjson.JSONDecodeError as error:
        offset, words = _place_and_words(error)
        raise _error(_WORDS.get(words, words), start + offset) from None
    except RecursionError as error:
        raise invalid_argument("JSON Parse error: Nested too deeply.") from error


def _decode_invalid_unicode(text: bytes) -> Any:
    """Parses a text with bytes that are no UTF-8 or with lone halves of surrogate pairs.

    Args:
      text: The text, without a byte order mark.

    Returns:
      The document; every such byte, and every byte of such a half, is a lone surrogate in it.

    Raises:
      rapidjson.JSONDecodeError: If RapidJSON 1.1.0 refuses the text.
    """
    # Two texts: one in ASCII of the same length, for the error and its offset, and one with one
    # character for each byte, for the document.
    ascii_text, latin_text, end = bytearray(text), bytearray(), 0
    for escape in _ESCAPE.finditer(text):
        if escape["low"]:
            ascii_text[escape.start() : escape.end()] = rb"\u0041"
        character = "" if escape.lastgroup is None else _character(escape[0])
        if not character.isascii():
            latin_text += text[end : escape.start()]
            latin_text += character.encode("utf-8", "surrogatepass")
            end = escape.end()
    latin_text += text[end:]
    _decode(ascii_text.translate(_TO_ASCII).decode("ascii"))
    return _decode_latin(latin_text.decode("latin-1"))


def _character(escape: bytes) -> str:
    """What one or two escaped code units of UTF-16 stand for."""
    units = bytes.fromhex(escape.replace(rb"\u", b"").decode("ascii"))
    return units.decode("utf-16-be", "surrogatepass")


class _LatinDecoder(rapidjson.Decoder):
    """Reads a text whose characters stand for a byte each."""

    def string(self, text: str) -> str:
        return text.encode("latin-1").decode("utf-8", "surrogateescape")

    def end_object(self, members: dict[str, Any]) -> dict[str, Any]:
        return {self.string(name): value for name, value in members.items()}


_decode_latin = _LatinDecoder(number_mode=_NUMBERS)


def _place_and_words(error: rapidjson.JSONDecodeError) -> tuple[int, str]:
    """The offset and the words that a message of the binding consists of."""
    match = _ERROR.fullmatch(str(error))
    assert match is not None
    return int(match[1]), match[2]


def _error(words: str, offset: int) -> ServingError:
    return invalid_argument(f"JSON Parse error: {words} at offset: {offset}")
