"""What reading a JSON body takes in memory, from its characters alone: before it is read."""

# Bytes at most for one character of each kind, in objects of Python, with the lists and arrays that
# a request's tensors are gathered in. Measured by tracemalloc on bodies of one kind each:
# 45 times its size for `[[[...]]]`, 47 for `{"":{"":...}}`, 9 for `1.5,1.5,...`.
_COSTS = {b"[": 104, b"{": 240, b",": 52, b":": 64, b'"': 34}
# Bytes at most for each byte of the text and its copies: of ASCII, of ASCII with escapes, which may
# be characters of four bytes, and of any other, which is decoded and encoded again. The first two
# megabytes may be parsed once more, as `json_parser` does with invalid Unicode.
_ASCII_FACTOR, _ESCAPED_FACTOR, _WIDE_FACTOR = 3, 8, 11
_SECOND_FACTOR, _LARGEST_SECOND_BYTES = 4, 1 << 21
# Where counting is not worth it: this much at 50 times its size is little beside a server.
SMALL_BYTES = 1 << 16


def json_cost(body: bytes) -> int:
    """Bytes that reading a body takes at most, its own left out; 0 for a small one.

    Brackets in strings count as any others, so that a body may be cheaper than this.

    Args:
      body: The text.
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
