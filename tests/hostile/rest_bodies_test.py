"""Bodies made to fill a server's 3 GB are refused, and valid ones are answered afterwards."""

import contextlib
import gzip
import http.client
import json
import socket
import threading
import zlib

import pytest

from tests.hostile.limited_server import limited_server
from tests.hostile.raw_rest import read_all
from tests.serving.model_server import toy_models
from tests.serving.model_server.server_process import wait_until

WAIT_S = 120.0
MB = 1 << 20
LIMIT = 32 * MB
PATH = "/v1/models/default:predict"
# What a server of one small model and its libraries takes, and the budget of requests, with room.
MAX_MB = 2000


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    toy_models.save_toy(folder / "1", 1)
    with limited_server(folder, f"--max_message_bytes={LIMIT}") as server:
        yield server


@pytest.fixture(autouse=True)
def lives(server):
    yield
    status, answer = ask(server, b'{"instances": [1.0]}')
    assert (status, answer) == (200, {"predictions": [1.5]})
    assert server.peak_mb() < MAX_MB
    assert server.server.tracebacks() == []


def ask(server, body, headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_api_port, timeout=WAIT_S)
    with contextlib.closing(connection):
        connection.request("POST", PATH, body, headers or {})
        response = connection.getresponse()
        return response.status, json.loads(response.read())


def connect(server):
    sock = socket.create_connection(("127.0.0.1", server.rest_api_port))
    sock.settimeout(WAIT_S)
    return sock


def head(*headers):
    lines = [f"POST {PATH} HTTP/1.1", "Host: h", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


@pytest.mark.parametrize("length", [LIMIT + 1, 10**40])
def test_body_that_is_declared_too_large_is_refused_before_it_comes(server, length):
    with connect(server) as sock:
        sock.sendall(head(f"Content-Length: {length}"))
        assert read_all(sock).startswith(b"HTTP/1.1 413 ")


def test_caller_who_sends_all_the_same_reads_why(server):
    status, answer = ask(server, b" " * (LIMIT + 1))
    assert status == 413
    expected = f"Received message larger than max ({LIMIT + 1} vs. {LIMIT})"
    assert answer == {"error": expected}


def test_chunks_without_end_are_cut_at_the_limit(server):
    piece = b"%x\r\n" % MB + b" " * MB + b"\r\n"
    with connect(server) as sock:
        sock.sendall(head("Transfer-Encoding: chunked"))
        num_sent = 0
        with contextlib.suppress(ConnectionError):
            for _ in range(1000):
                sock.sendall(piece)
                num_sent += MB
        assert b" 413 " in read_all(sock)[:40] or num_sent < 1000 * MB
    assert num_sent < 1000 * MB


def test_gzip_that_unpacks_to_half_a_gigabyte_is_cut_at_the_limit(server):
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    zeros = bytes(MB)
    body = b"".join(packer.compress(zeros) for _ in range(512)) + packer.flush()
    assert len(body) < MB
    before = server.rss_mb()
    answers = []
    threads = [
        threading.Thread(
            target=lambda: answers.append(ask(server, body, {"Content-Encoding": "gzip"})[0])
        )
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(answers) <= {413, 429}
    assert server.rss_mb() < before + 700


def test_right_gzip_is_read(server):
    body = gzip.compress(b'{"instances": [1.0]}' + b" " * 5 * MB)
    assert ask(server, body, {"Content-Encoding": "gzip"}) == (200, {"predictions": [1.5]})


def test_bodies_that_never_end_take_no_more_than_the_budget(server):
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(connect(server)) for _ in range(40)]
        for sock in socks:
            sock.sendall(head(f"Content-Length: {LIMIT}") + b"[" * 1000)
        # 16 of 32 MB are let in, the others are told to ask again, or take the place of one that
        # has paused.
        assert wait_until(lambda: sum(map(_has_answer, socks)) == 24, WAIT_S)
        # A small one is accepted nevertheless, a larger one when one of them has paused.
        assert ask(server, b'{"instances": [1.0]}')[0] == 200
        large = b'{"instances": [1.0]}' + b" " * MB
        assert wait_until(lambda: ask(server, large)[0] == 200, WAIT_S)


def _has_answer(sock):
    sock.setblocking(False)
    try:
        return sock.recv(12, socket.MSG_PEEK) in (b"HTTP/1.1 429", b"HTTP/1.1 408", b"")
    except BlockingIOError:
        return False


@pytest.mark.parametrize("unit", ["[" * 900 + "]" * 900, "1.5"])
def test_json_that_is_dear_to_read_is_bounded_together(server, unit):
    part = unit + ","
    body = ('{"instances": [' + part * (MB // len(part)) + unit + "]}").encode()
    statuses = []
    threads = [
        threading.Thread(target=lambda: statuses.append(ask(server, body)[0])) for _ in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Read, and of the wrong shape; or told to ask again.
    assert set(statuses) <= {200, 400, 429}


def test_json_that_alone_is_dearer_than_the_budget_is_refused_for_good(server):
    status, answer = ask(server, b"[" * LIMIT)
    assert status == 413
    assert "must need less memory" in answer["error"]


def test_many_tiny_chunks_are_refused(server):
    with connect(server) as sock:
        with contextlib.suppress(ConnectionError):
            sock.sendall(head("Transfer-Encoding: chunked") + b"1\r\n \r\n" * 50_000)
        received = read_all(sock)
    assert received == b"" or received.startswith(b"HTTP/1.1 400 ")
