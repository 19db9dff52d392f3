"""The memory that parsing a JSON body takes, computed from its characters before it is parsed."""

# Maximum bytes per character of each kind, in Python objects, including the lists and arrays in
# which a request's tensors are collected. Measured with tracemalloc on bodies of one kind each:
# 45 times the body's size for `[[[...]]]`, 47 for `{"":{"":...}}`, 9 for `1.5,1.5,...`.
_COSTS = {b"[": 104, b"{": 240, b",": 52, b":": 64, b'"': 34}
# Maximum bytes per byte of the text, for its copies: for ASCII; for ASCII with escapes, which may
# be characters of four bytes; and for other text, which is decoded and encoded again. A text of up
# to two megabytes may be parsed twice, as `json_parser` does for invalid Unicode.
_ASCII_FACTOR, _ESCAPED_FACTOR, _WIDE_FACTOR = 3, 8, 11
_SECOND_FACTOR, _LARGEST_SECOND_BYTES = 4, 1 << 21
# Bodies up to this size are not counted: 50 times their size is little for a server.
SMALL_BYTES = 1 << 16


def json_cost(body: bytes) -> int:
    """Returns the maximum memory of parsing a body, without the body itself; 0 for a small one.

    Brackets in strings are counted like others, so that the real cost may be lower.

    Args:
      body: JSON text.
    """
    if len(body) <= SMALL_BYTES:
        return 0
    if not body.isascii():
        factor = _WIDE_FACTOR
    else:
        factor = _ESCAPED_FACTOR if b"\\u" in body else _ASCII_FACTOR
    text = len(body) * factor
    if factor != _ASCII_FACTOR:
        text += min(len(body), _LARGEST_SECOND_BYTES) * _SECOND_FACTOR
    return text + sum(body.count(kind) * cost for kind, cost in _COSTS.items())
