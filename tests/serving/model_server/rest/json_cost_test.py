"""The estimate exceeds the cost of parsing for bodies that are made to be expensive."""

import tracemalloc

import pytest

from serving.model_server.rest import json_cost as json_cost_module
from serving.model_server.rest import json_parser
from serving.model_server.rest.json_cost import SMALL_BYTES, json_cost
from serving.model_server.rest.json_parser import parse_json

SIZE = 300_000


def repeated(part):
    return ("[" + ",".join([part] * (SIZE // (len(part) + 1))) + "]").encode()


BODIES = {
    "numbers": repeated("1"),
    "floats": repeated("1.5"),
    "long floats": repeated("0.123456789"),
    "lists": repeated("[]"),
    "lists in lists": repeated("[" * 900 + "]" * 900),
    "objects": repeated("{}"),
    "objects of one": repeated('{"a":1}'),
    "objects in objects": repeated('{"":' * 900 + "1" + "}" * 900),
    "strings": repeated('"ab"'),
    "wide strings": repeated('"標籤"'),
    "one wide character": ('["😀' + "a" * SIZE + '"]').encode(),
    "one escape": ('["\\u6a19' + "a" * SIZE + '"]').encode(),
    "one pair": ('["\\ud83d\\ude00' + "a" * SIZE + '"]').encode(),
    "halves of pairs": ('["' + "\\udfff" * (SIZE // 6) + '"]').encode(),
    "one half of a pair": ('["' + "a" * SIZE + '\\udfff"]').encode(),
    "no UTF-8": b'["' + b"\xff" * SIZE + b'"]',
    "objects and no UTF-8": repeated('{"a":1}')[:-1] + b',"\xff"]',
    "many names": ("{" + ",".join(f'"{i}":1' for i in range(SIZE // 9)) + "}").encode(),
}


@pytest.mark.parametrize("name", BODIES)
def test_reading_takes_no_more_than_said(name):
    body = BODIES[name]
    tracemalloc.start()
    parse_json(body)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak <= json_cost(body) <= max(6 * peak, 100 * len(body))


def test_small_body_is_not_counted():
    assert json_cost(b"[" * SMALL_BYTES) == 0


def test_second_parse_is_counted_as_far_as_there_is_one():
    assert json_cost_module._LARGEST_SECOND_BYTES == json_parser._LARGEST_INVALID_BYTES
