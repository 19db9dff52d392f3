"""JSON bodies as the real server's parser reads them: what it takes, what it refuses, where.

Python's parser is fast and does nearly all bodies. What it refuses, and the little that it takes
and RapidJSON 1.1.0 does not, is read again the slow way, which knows RapidJSON's grammar, errors
and offsets (rapidjson/reader.h).
"""

import json
import re
from typing import Any

from serving.model_server.errors import invalid_argument

# Surrogates, which may be alone, and exponents beyond a double: Python takes them. Two patterns,
# and the first only where there is an escape, because each search costs about as much as half the
# parsing.
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_LARGE_EXPONENT = re.compile(rb"[eE][+0-9][0-9][0-9]")
# The slow way takes a second or two for each megabyte, and holds up all others half of that time.
_LARGEST_SLOW_BYTES = 1 << 21
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_ESCAPES = {
    ord('"'): b'"',
    ord("\\"): b"\\",
    ord("/"): b"/",
    ord("b"): b"\b",
    ord("f"): b"\f",
    ord("n"): b"\n",
    ord("r"): b"\r",
    ord("t"): b"\t",
}
_WORDS = {b"null": None, b"true": True, b"false": False}
_HEX = re.compile(rb"[0-9A-Fa-f]{4}")
_DIGITS = re.compile(rb"[0-9]*")
_INTEGER = re.compile(rb"0|[1-9][0-9]*")
_PLAIN = re.compile(rb'[^"\\\x00-\x1f]*')
_SPACE = re.compile(rb"[ \n\r\t]*")
_LARGEST_EXPONENT = 308


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
    has_surrogate = b"\\u" in body and _SURROGATE.search(body)
    if not has_surrogate and not _LARGE_EXPONENT.search(body):
        try:
            return json.loads(body.decode())
        except ValueError as error:
            if len(body) > _LARGEST_SLOW_BYTES:
                raise _refused_in_short(error) from error
        except RecursionError as error:
            raise _too_deep() from error
    elif len(body) > _LARGEST_SLOW_BYTES:
        return _parse_large(body)
    try:
        return _Reader(body).document()
    except _ParseError as error:
        raise invalid_argument(
            f"JSON Parse error: {error.message} at offset: {error.offset}"
        ) from None
    except RecursionError as error:
        raise _too_deep() from error


def _parse_large(body: bytes) -> Any:
    """Parses what is too large for the slow way, and has escapes or exponents of doubtful ones.

    Pairs of surrogates and what fits a double are as in the slow way; single surrogates are refused
    here, both halves of them.
    """
    try:
        text = body.decode()
        document = json.loads(text, parse_float=_finite)
        if _SURROGATE.search(body):
            # Within strings alone; a pair has become one character.
            json.dumps(document, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise invalid_argument(
            "JSON Parse error: The surrogate pair in string is invalid."
        ) from error
    except ValueError as error:
        raise _refused_in_short(error) from error
    except RecursionError as error:
        raise _too_deep() from error
    return document


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError("Number too big to be stored in double.")
    return value


def _refused_in_short(error: ValueError) -> Exception:
    """What a large body is told: Python's words, without the slow way's."""
    message = getattr(error, "msg", None) or str(error)
    place = getattr(error, "pos", None)
    where = "" if place is None else f" at offset: {place}"
    return invalid_argument(f"JSON Parse error: {message}{where}")


def _too_deep() -> Exception:
    return invalid_argument("JSON Parse error: Nested too deeply.")


class _ParseError(Exception):
    def __init__(self, message: str, offset: int):
        super().__init__(message)
        self.message = message
        self.offset = offset


class _Reader:
    """A recursive reader, method by method RapidJSON's."""

    def __init__(self, body: bytes):
        self._body = body
        self._at = len(_BYTE_ORDER_MARK) if body.startswith(_BYTE_ORDER_MARK) else 0

    def document(self) -> Any:
        self._skip_space()
        if not self._peek():
            raise _ParseError("The document is empty.", self._at)
        value = self._value()
        self._skip_space()
        if self._peek():
            raise _ParseError("The document root must not be followed by other values.", self._at)
        return value

    def _peek(self) -> int:
        """The next byte; 0 at the end, as at a zero byte."""
        return self._body[self._at] if self._at < len(self._body) else 0

    def _consume(self, text: bytes) -> bool:
        """Steps over `text` as far as it is there; whether all of it is."""
        for byte in text:
            if self._peek() != byte:
                return False
            self._at += 1
        return True

    def _take(self, pattern: re.Pattern[bytes]) -> bytes | None:
        match = pattern.match(self._body, self._at)
        if match is None:
            return None
        self._at = match.end()
        return match.group()

    def _skip_space(self) -> None:
        self._take(_SPACE)

    def _value(self) -> Any:
        first = self._peek()
        if first == ord('"'):
            return self._string()
        if first == ord("{"):
            return self._object()
        if first == ord("["):
            return self._array()
        for word, value in _WORDS.items():
            if first == word[0]:
                if not self._consume(word):
                    raise _ParseError("Invalid value.", self._at)
                return value
        return self._number()

    def _object(self) -> dict[str, Any]:
        members: dict[str, Any] = {}
        self._at += 1
        self._skip_space()
        if self._consume(b"}"):
            return members
        while True:
            if self._peek() != ord('"'):
                raise _ParseError("Missing a name for object member.", self._at)
            name = self._string()
            self._skip_space()
            if not self._consume(b":"):
                raise _ParseError("Missing a colon after a name of object member.", self._at)
            self._skip_space()
            members[name] = self._value()
            self._skip_space()
            if self._consume(b"}"):
                return members
            if not self._consume(b","):
                raise _ParseError("Missing a comma or } after an object member.", self._at)
            self._skip_space()

    def _array(self) -> list[Any]:
        elements: list[Any] = []
        self._at += 1
        self._skip_space()
        if self._consume(b"]"):
            return elements
        while True:
            elements.append(self._value())
            self._skip_space()
            if self._consume(b"]"):
                return elements
            if not self._consume(b","):
                raise _ParseError("Missing a comma or ] after an array element.", self._at)
            self._skip_space()

    def _string(self) -> str:
        self._at += 1
        parts = []
        while True:
            parts.append(self._take(_PLAIN) or b"")
            byte = self._peek()
            if byte == ord('"'):
                self._at += 1
                return b"".join(parts).decode("utf-8", "surrogateescape")
            if byte == 0:
                raise _ParseError("Missing a closing quotation mark in string.", self._at)
            if byte != ord("\\"):
                raise _ParseError("Invalid escape character in string.", self._at)
            parts.append(self._escape())

    def _escape(self) -> bytes:
        start = self._at
        self._at += 1
        kind = self._peek()
        self._at += 1
        if kind in _ESCAPES:
            return _ESCAPES[kind]
        if kind != ord("u"):
            raise _ParseError("Invalid escape character in string.", start)
        code = self._hex(start)
        if 0xD800 <= code <= 0xDBFF:
            is_pair = self._consume(b"\\u")
            low = self._hex(start) if is_pair else 0
            if not 0xDC00 <= low <= 0xDFFF:
                raise _ParseError("The surrogate pair in string is invalid.", start)
            code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00)
        return chr(code).encode("utf-8", "surrogatepass")

    def _hex(self, start: int) -> int:
        digits = self._take(_HEX)
        if digits is None:
            raise _ParseError("Incorrect hex digit after \\u escape in string.", start)
        return int(digits, 16)

    def _number(self) -> int | float:
        start = self._at
        is_negative = self._consume(b"-")
        integer = self._take(_INTEGER)
        if integer is None:
            return self._not_finite(is_negative)
        fraction = exponent = b""
        if self._consume(b"."):
            fraction = self._take(_DIGITS) or b""
            if not fraction:
                raise _ParseError("Miss fraction part in number.", self._at)
        has_exponent = self._peek() in b"eE"
        if has_exponent:
            self._at += 1
            sign = self._peek()
            if sign in b"+-":
                self._at += 1
            exponent = self._take(_DIGITS) or b""
            if not exponent:
                raise _ParseError("Miss exponent in number.", self._at)
            is_large = int(exponent.lstrip(b"0")[:9] or b"0") > _LARGEST_EXPONENT + len(fraction)
            if is_large and sign != ord("-"):
                raise _ParseError("Number too big to be stored in double.", start)
        if len(integer) > _LARGEST_EXPONENT and float(integer) == float("inf"):
            raise _ParseError("Number too big to be stored in double.", start)
        text = self._body[start : self._at]
        return float(text) if fraction or has_exponent else int(text)

    def _not_finite(self, is_negative: bool) -> float:
        first = self._peek()
        if first == ord("N") and self._consume(b"NaN"):
            return float("nan")
        if first == ord("I") and self._consume(b"Inf"):
            if self._peek() != ord("i") or self._consume(b"inity"):
                return float("-inf" if is_negative else "inf")
        raise _ParseError("Invalid value.", self._at)
