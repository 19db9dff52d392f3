"""Parser of JSON bodies that accepts and refuses the same texts as TensorFlow Serving.

TensorFlow Serving parses with RapidJSON 1.1.0. python-rapidjson binds a later RapidJSON with the
same grammar and the same offsets; docs/decisions/0001-rest-json.md lists the few differences. Here
its errors get the words of 1.1.0. This parser also reads texts that 1.1.0 accepts and the binding
refuses: bytes that are not UTF-8, and low surrogates without a high surrogate.
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
# Messages of RapidJSON 1.1.0, by those of the later RapidJSON.
_WORDS = {
    "Missing a comma or '}' after an object member.": (
        "Missing a comma or } after an object member."
    ),
    "Missing a comma or ']' after an array element.": (
        "Missing a comma or ] after an array element."
    ),
    _WRONG_ENCODING: "Invalid escape character in string.",  # a control character
}
# Text with invalid Unicode is only parsed up to this size, as it takes up to 0.5 s per megabyte.
_LARGEST_INVALID_BYTES = 1 << 21
# Escaped code units and pairs of surrogates. Escaped backslashes are matched first, because the
# second one of them does not begin an escape.
_ESCAPE = re.compile(
    rb"(?:\\\\)+|(?P<pair>\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    rb"|(?P<low>\\u[dD][c-fC-F][0-9a-fA-F]{2})|(?P<unit>\\u[0-9a-fA-F]{4})"
)
_TO_ASCII = bytes(byte if byte < 0x80 else ord("?") for byte in range(256))


def parse_json(body: bytes) -> Any:
    """Parses a JSON body, in which NaN and the infinities are allowed.

    Args:
      body: JSON text in UTF-8; bytes in strings that are not UTF-8 become lone surrogates.

    Returns:
      The parsed document.

    Raises:
      ServingError: INVALID_ARGUMENT, with RapidJSON's message and offset.
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
    """Parses a text with bytes that are not UTF-8, or with lone surrogates.

    Args:
      text: JSON text, without a byte order mark.

    Returns:
      The parsed document; each of these bytes, and each byte of a surrogate, is a lone surrogate.

    Raises:
      rapidjson.JSONDecodeError: If RapidJSON 1.1.0 refuses the text.
    """
    # Two texts are parsed: an ASCII text of the same length, for the error and its offset, and a
    # text with one character for each byte, for the document.
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
    """Decodes one or two escaped code units of UTF-16."""
    units = bytes.fromhex(escape.replace(rb"\u", b"").decode("ascii"))
    return units.decode("utf-16-be", "surrogatepass")


class _LatinDecoder(rapidjson.Decoder):
    """A decoder of a text whose characters stand for one byte each."""

    def string(self, text: str) -> str:
        return text.encode("latin-1").decode("utf-8", "surrogateescape")

    def end_object(self, members: dict[str, Any]) -> dict[str, Any]:
        return {self.string(name): value for name, value in members.items()}


_decode_latin = _LatinDecoder(number_mode=_NUMBERS)


def _place_and_words(error: rapidjson.JSONDecodeError) -> tuple[int, str]:
    """Splits an error message of the binding into its offset and its words."""
    match = _ERROR.fullmatch(str(error))
    assert match is not None
    return int(match[1]), match[2]


def _error(words: str, offset: int) -> ServingError:
    return invalid_argument(f"JSON Parse error: {words} at offset: {offset}")
