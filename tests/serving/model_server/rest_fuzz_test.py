"""Thousands of invalid REST requests, and valid ones between them.

JSON of any shape, bodies that are not JSON, paths, methods and headers; then the bytes of HTTP
itself: damaged, cut off, sent in one go or by somebody who hangs up.
"""

import contextlib
import errno
import http.client
import itertools
import json
import random
import re
import socket
import struct

import hypothesis
import hypothesis.strategies as st
import pytest

from tests.serving.model_server.fuzzed_server import DEADLINE_S, damaged, fuzzed_server, lane
from tests.serving.model_server.server_process import wait_until

# Requests of each lane, at least.
NUM_REQUESTS = {"bodies": 3500, "paths": 1100, "bytes": 600, "hang-ups": 300}
NOT_HERE = 501  # what is not implemented, as the real server says it
TOY = "/v1/models/toy:predict"


def end_of_sending(sock):
    """Ends the sending side; ignores that the other side has reset the connection."""
    try:
        sock.shutdown(socket.SHUT_WR)
    except OSError as error:  # a plain OSError, not a ConnectionError
        if error.errno != errno.ENOTCONN:
            raise


class Caller:
    """Sends and counts requests on a connection that stays open, or bytes on separate ones."""

    def __init__(self, server):
        self.server = server
        self.num_requests = 0
        self.statuses = {}
        self._connection = self._new_connection()

    def _new_connection(self):
        return http.client.HTTPConnection(
            "127.0.0.1", self.server.rest_api_port, timeout=DEADLINE_S
        )

    def ask(self, method, path, body=None, headers=()):
        """Returns status and body of a valid request, after which the connection must stay open."""
        self.num_requests += 1
        connection = self._connection
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in headers:
            connection.putheader(name, value)
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        response = connection.getresponse()
        text = response.read()
        self._count(response.status, path, body)
        return response.status, text

    def exchange(self, sent, ends=True):
        """Returns the statuses of all answers to any bytes; both sides must end the connection.

        With `ends` false only the server ends it.
        """
        self.num_requests += 1
        with socket.create_connection(("127.0.0.1", self.server.rest_api_port)) as sock:
            sock.settimeout(DEADLINE_S)
            received = b""
            try:
                sock.sendall(sent)
                if ends:
                    end_of_sending(sock)
                while chunk := sock.recv(65536):
                    received += chunk
            except ConnectionError:
                pass  # it closed in the middle of a body that it does not read
        statuses = [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", received)]
        for status in statuses:
            self._count(status, "", sent)
        return statuses, received

    def hang_up(self, sent):
        """Sends bytes and resets the connection."""
        self.num_requests += 1
        with socket.create_connection(("127.0.0.1", self.server.rest_api_port)) as sock:
            with contextlib.suppress(ConnectionError):  # the other side was first
                sock.sendall(sent)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def _count(self, status, path, body):
        self.statuses[status] = self.statuses.get(status, 0) + 1
        assert 100 <= status < 500 or status == NOT_HERE, (status, path, body)


@pytest.fixture(scope="module")
def caller(tmp_path_factory):
    with fuzzed_server(tmp_path_factory.mktemp("fuzz")) as server:
        yield Caller(server)


def check_right_answers(caller, x):
    body = json.dumps({"instances": [x, -3.0]}).encode()
    for place, version in (("toy", 2), ("toy/versions/1", 1), ("toy/labels/canary", 2)):
        status, text = caller.ask("POST", f"/v1/models/{place}:predict", body)
        assert status == 200
        assert json.loads(text) == {"predictions": [0.5 * x + version, -1.5 + version]}


def run(caller, name, check):
    """Runs a lane, checks how much it sent, and checks the server afterwards."""
    before = caller.num_requests
    check()
    assert caller.num_requests - before >= NUM_REQUESTS[name]
    check_right_answers(caller, 9.0)
    assert caller.server.is_alive
    assert caller.server.tracebacks() == []


# JSON.

NUMBERS = st.one_of(
    st.integers(-2, 3),
    st.floats(),
    st.sampled_from([2**31, -(2**31) - 1, 2**63, 2**64, -(2**63) - 1, 10**300, 1e39, 5e-324]),
)
STRINGS = st.one_of(
    st.text(max_size=4),
    st.sampled_from(["toy", "u1", "t2", "\udfff", "\udc80", "\ud800", "\0", "NaN"]),
)
B64 = st.fixed_dictionaries({"b64": st.sampled_from(["aGk=", "aGk", "=", "!!", "", 5, None])})
LEAVES = st.one_of(NUMBERS, NUMBERS, STRINGS, st.none(), st.booleans(), B64)
NAMES = st.sampled_from(["x", "a", "s_bytes", "i", "v", "name", "b64", "é", ""])
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=12,
)
# Made as text, because lists this deep are beyond what Python writes.
DEPTHS = [31, 32, 33, 64, 255, 300, 500, 700, 900, 990, 1000, 3000, 100_000]
DEEP = st.tuples(st.sampled_from(DEPTHS), st.sampled_from(["[]", '{"x":}', '{"x":[]}'])).map(
    lambda drawn: nested(*drawn)
)
RAW_TEXTS = st.sampled_from(
    """1e400 -1e400 1e-99999 NaN -NaN Infinity -Inf 01 +1 0x10 'a' tru "\\ud800" "\\udfff" "\\u0000"
    "\\ud83d\\ude00" """.split()
    + ["9" * 400, "9" * 5000, "1" + "0" * 308, "0." + "0" * 5000 + "1", '"' + "é" * 3000 + '"']
)
SIGNATURES = [
    ("toy", ""), ("toy", "two"), ("toy", "kinds"), ("tags", ""), ("tags", "retrieve"),
    ("tags", "score_tags"), ("tags", "score_items"), ("tags", "candidates"), ("tags", "explain"),
    ("types", "bool"), ("types", "float16"), ("types", "float64"), ("types", "int8"),
    ("types", "int32"), ("types", "int64"), ("types", "uint32"), ("types", "uint64"),
    ("types", "string"), ("types", "complex64"),
]  # fmt: skip


def nested(depth, kind):
    if kind == "[]":
        return "[" * depth + "1" + "]" * depth
    if kind == '{"x":}':
        return '{"x":' * depth + "1" + "}" * depth
    return '{"x":[' * (depth // 2) + "1" + "]}" * (depth // 2)


@st.composite
def bodies(draw):
    """Strategy: model and body, most of them JSON objects with the right keys."""
    model, signature = draw(st.sampled_from(SIGNATURES))
    text = draw(st.one_of(VALUES.map(json.dumps), VALUES.map(json.dumps), DEEP, RAW_TEXTS))
    named = draw(st.sampled_from(["{0}", "{0}", '{{"{1}": {0}}}', '{{"{1}": {0}, "{1}": 1}}']))
    text = named.format(text, draw(NAMES))
    if draw(st.booleans()):
        text = f"[{text}, {text}]"
    key = draw(st.sampled_from(["instances", "inputs", "instances", "inputs", "input", ""]))
    members = [f'"{key}": {text}']
    if signature:
        members.append(f'"signature_name": "{signature}"')
    if draw(st.integers(0, 9)) == 0:
        members.append(
            draw(st.sampled_from(['"signature_name": 3', '"inputs": 1', '"context": {}']))
        )
    return model, ("{" + ", ".join(members) + "}").encode("utf-8", "surrogatepass")


def test_bodies_of_any_json_and_of_none_are_answered(caller):
    turns = itertools.count()

    @lane(700)
    @hypothesis.given(bodies(), st.integers(0, 2**32))
    def check(drawn, seed):
        model, body = drawn
        rng = random.Random(seed)
        for sent in (body, damaged(body, rng)):
            status, text = caller.ask("POST", f"/v1/models/{model}:predict", sent)
            assert status == 200 or "error" in json.loads(
                text.decode("utf-8", "replace"), strict=False
            )
        check_right_answers(caller, next(turns) % 64)

    run(caller, "bodies", check)


# Paths, methods, headers.

PARTS = st.sampled_from(
    """v1 models toy toy:predict toy:PREDICT toy:classify versions 1 2 -1 labels canary metadata
    %ff%00 %zz % .. é : monitoring prometheus metrics toy/versions/1:predict ?x=1 #""".split()
    + ["", "9" * 19, "9" * 5000, "a" * 3000, "\x7f"]
)
PATHS = st.one_of(
    st.lists(PARTS, max_size=7).map(lambda parts: "/" + "/".join(parts)),
    st.lists(PARTS, max_size=4).map(lambda parts: "/v1/models/" + "/".join(parts)),
    st.sampled_from(["*", "http://h/v1/models/toy", "//", "/v1/models/toy:predict"]),
)
METHODS = st.sampled_from(
    ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "get", "PO ST", "\x01"]
)
HEADERS = st.lists(
    st.sampled_from(
        [
            ("Content-Encoding", "gzip"),
            ("Content-Encoding", "br"),
            ("Content-Type", "text/plain"),
            ("Origin", "https://a"),
            ("Origin", "ftp:\\"),
            ("Accept", "*/*;q=x"),
            ("X", "a" * 9000),
            ("Connection", "Upgrade"),
            ("Range", "bytes=0-1"),
            ("Cookie", "\xff\xfe"),
            ("Host", ""),
        ]
    ),  # fmt: skip
    max_size=3,
)


def test_paths_methods_and_headers_of_any_kind_are_answered(caller):
    @lane(1100)
    @hypothesis.given(
        METHODS, PATHS, HEADERS, st.sampled_from([b"", b'{"instances": [1.0]}', b"\xff"])
    )
    def check(method, path, headers, body):
        lines = [f"{method} {path} HTTP/1.1", f"Content-Length: {len(body)}", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in headers]
        sent = "\r\n".join(lines).encode("utf-8") + b"\r\n\r\n" + body
        statuses, _ = caller.exchange(sent)
        assert len(statuses) <= 1

    run(caller, "paths", check)


# The bytes of HTTP.

RIGHT = b"POST %s HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s"
STARTS = [
    b"Content-Length: -1",
    b"Content-Length: x",
    b"Content-Length: 1e3",
    b"Content-Length: 20, 20",
    b"Content-Length: 20\r\nContent-Length: 21",
    b"Content-Length: 99999999999999999999",
    b"Content-Length: 4611686018427387904",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: gzip",
    b"Transfer-Encoding: chunked\r\nContent-Length: 3",
    b"Expect: 100-continue",
    b"Expect: x",
    b" folded: a",
    b"no colon",
    b": empty",
    b"A\x00B: c",
    b"A: b\rc",
    b"\xff\xfe: \xff",
    b"Content-Encoding: gzip",
]
CHUNKS = [
    b"",
    b"0\r\n\r\n",
    b"3\r\nabc\r\n0\r\n\r\n",
    b"00000000000000000000000000000003\r\nabc\r\n0\r\n\r\n",
    b"3;x=y\r\nabc\r\n0\r\nTrailer: x\r\n\r\n",
    b"3\r\nabcd\r\n",
    b"-3\r\nabc\r\n",
    b"ffffffffffffffff\r\na",
    b"zz\r\n",
]


def right(x, place=b"toy"):
    body = b'{"instances": [%d]}' % x
    return RIGHT % (b"/v1/models/%s:predict" % place, len(body), body)


def test_bytes_that_are_hardly_http_are_answered_or_end_the_connection(caller):
    kinds = st.one_of(
        st.binary(max_size=200),
        st.tuples(st.sampled_from(STARTS), st.sampled_from(CHUNKS)).map(
            lambda drawn: (
                b"POST /v1/models/toy:predict HTTP/1.1\r\nHost: h\r\n" + b"\r\n\r\n".join(drawn)
            )
        ),
        st.integers(0, 2**32).map(lambda seed: damaged(right(1), random.Random(seed))),
        st.sampled_from(
            [b"GET / HTTP/9.9\r\n\r\n", b"\r\n" * 50, b"GET /\r\n\r\n", b"A" * 200_000]
        ),
        st.sampled_from([b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 30_000 + b"\r\n"]),
    )

    @lane(600)
    @hypothesis.given(kinds)
    def check(sent):
        caller.exchange(sent)

    run(caller, "bytes", check)


def test_requests_in_one_go_are_answered_in_order(caller):
    last = right(49).replace(b"Host: h", b"Connection: close")
    sent = b"".join(right(x) for x in range(49)) + last
    statuses, received = caller.exchange(sent, ends=False)
    assert statuses == [200] * 50
    answers = [part.split(b"]")[0] for part in received.split(b'"predictions": [')[1:]]
    assert [float(answer) for answer in answers] == [0.5 * x + 2 for x in range(50)]


def test_callers_who_hang_up_leave_nothing_behind(caller):
    threads, files = caller.server.num_threads, caller.server.num_files

    @lane(300)
    @hypothesis.given(st.integers(0, len(right(1))), st.integers(1, 5))
    def check(end, times):
        caller.hang_up(right(1) * (times - 1) + right(1)[:end])

    run(caller, "hang-ups", check)
    assert wait_until(lambda: caller.server.num_files <= files, DEADLINE_S)
    assert caller.server.num_threads <= threads + 16  # those of its pool that were not there yet
