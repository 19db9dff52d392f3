"""REST callers who are slow, silent or many; and a server without free file descriptors."""

import asyncio
import contextlib
import errno
import http.client
import json
import resource
import socket
import time
import types

import pytest

from serving.model_server.rest import connections as rest_connections
from serving.model_server.rest import request as rest_request
from serving.model_server.rest import server as rest_server
from serving.model_server.rest.api import Answer
from serving.model_server.rest.server import RestServer
from tests.hostile.raw_rest import read_all
from tests.serving.model_server import toy_models
from tests.serving.model_server.server_process import server_process, wait_until

WAIT_S = 120.0
LARGE = "x" * (64 << 20)


@contextlib.contextmanager
def rest(**limits):
    """Runs a server whose answers are small, except at one path."""

    def answer(method, path, body, origin):
        return Answer(200, LARGE if path == "/large" else f"{len(body)}", "text/plain")

    api = types.SimpleNamespace(answer=answer, count_refusal=lambda code=None: None)
    arguments = {"max_workers": 2, "max_requests": 2, "max_body_bytes": 1 << 20}
    server = RestServer(api, "127.0.0.1", 0, **{**arguments, **limits})
    server.start()
    try:
        yield server
    finally:
        server.stop(0)


def connect(server):
    sock = socket.create_connection(("127.0.0.1", server.port))
    sock.settimeout(WAIT_S)
    return sock


def ask(server, path="/", body=b""):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=WAIT_S)
    with contextlib.closing(connection):
        connection.request("POST", path, body)
        response = connection.getresponse()
        return response.status, response.read().decode()


@pytest.fixture
def impatient(monkeypatch):
    for module in (rest_request, rest_server):
        monkeypatch.setattr(module, "STALL_S", 0.3)
    monkeypatch.setattr(rest_server, "_LOOK_S", 0.05)


def test_answers_that_nobody_reads_hold_no_slot(impatient):
    with rest() as server, contextlib.ExitStack() as stack:
        for _ in range(2):  # all the slots there are
            sock = stack.enter_context(connect(server))
            sock.sendall(b"POST /large HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
        assert wait_until(lambda: ask(server)[0] == 200, WAIT_S)
        assert wait_until(lambda: server.num_requests == 0, WAIT_S)


def test_answer_that_is_read_slowly_comes_whole():
    with rest() as server:
        assert ask(server, "/large") == (200, LARGE)


def test_answers_count_in_the_budget():
    with rest(max_memory_bytes=8 << 20) as server:
        assert ask(server, "/large")[0] == 429
        assert ask(server)[0] == 200


@pytest.mark.parametrize("framing", ["Content-Length: 9", "Transfer-Encoding: chunked"])
def test_body_that_does_not_come_is_given_up(impatient, framing):
    with rest() as server, connect(server) as sock:
        sock.sendall(f"POST / HTTP/1.1\r\n{framing}\r\n\r\n".encode())
        assert read_all(sock).startswith(b"HTTP/1.1 408 ")
        assert wait_until(lambda: server.memory_taken == 0, WAIT_S)


def test_body_that_drips_is_given_up(impatient):
    with rest() as server, connect(server) as sock:
        sock.settimeout(0.05)
        sock.sendall(b"POST / HTTP/1.1\r\nContent-Length: 100000\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while True:
                sock.sendall(b"x")
                with contextlib.suppress(socket.timeout):
                    assert sock.recv(100).startswith(b"HTTP/1.1 408 ")
                    break
        assert wait_until(lambda: server.memory_taken == 0, WAIT_S)


def test_headers_and_silence_are_bounded(monkeypatch):
    monkeypatch.setattr(rest_connections, "IDLE_S", 0.3)
    with rest() as server, connect(server) as silent, connect(server) as endless:
        endless.sendall(b"POST / HTTP/1.1\r\nA: b\r\n")
        assert read_all(silent) == b""
        assert read_all(endless) == b""
    with rest() as server, connect(server) as large:
        with contextlib.suppress(ConnectionError):
            large.sendall(b"POST / HTTP/1.1\r\n" + b"A: b\r\n" * 20_000)
        assert b"200" not in read_all(large)


def test_silent_connections_give_way_to_those_who_ask(monkeypatch):
    monkeypatch.setattr(rest_server, "max_connections", lambda max_requests: 4)
    with rest() as server, contextlib.ExitStack() as stack:
        silent = [stack.enter_context(connect(server)) for _ in range(20)]
        assert ask(server) == (200, "0")
        assert read_all(silent[0]) == b""  # the first was closed


@pytest.mark.parametrize("most", [2, 9])
def test_body_that_has_paused_gives_way(monkeypatch, most):
    monkeypatch.setattr(rest_request, "_PATIENCE_S", 0.2)
    monkeypatch.setattr(rest_server, "max_connections", lambda max_requests: most)
    with rest(max_memory_bytes=1 << 20) as server, contextlib.ExitStack() as stack:
        paused = [stack.enter_context(connect(server)) for _ in range(2)]
        for sock in paused:
            sock.sendall(b"POST / HTTP/1.1\r\nContent-Length: 500000\r\n\r\n")
        # For a connection, or for memory where there is one.
        body = b"x" * 100_000
        assert wait_until(lambda: ask(server, body=body) == (200, str(len(body))), WAIT_S)
        answer = read_all(paused[0])
        # On a busy machine it may be closed before its headers are read: as a silent one.
        assert answer.startswith(b"HTTP/1.1 408 ") or (most == 2 and not answer)


def test_caller_gone_in_the_middle_gives_all_back():
    with rest() as server:
        for ends in (b"", b"abc"):
            with connect(server) as sock:
                sock.sendall(b"POST / HTTP/1.1\r\nContent-Length: 99999\r\n\r\n" + ends)
        assert wait_until(lambda: server.memory_taken == 0, WAIT_S)


def test_server_out_of_files_does_not_try_on_and_on(monkeypatch):
    """It pauses after each attempt: here the pause never ends, while its loop runs often."""
    tries = []

    def accept(listening):
        tries.append(listening)
        raise OSError(errno.EMFILE, "Too many open files")

    async def come_round():
        for _ in range(1000):
            await asyncio.sleep(0)

    monkeypatch.setattr(rest_connections, "_NO_FILES_PAUSE_S", 1e6)
    with rest() as server, contextlib.ExitStack() as stack:
        with monkeypatch.context() as patched:
            patched.setattr(socket.socket, "accept", accept)
            for _ in range(5):
                stack.enter_context(connect(server))
            assert wait_until(lambda: tries, WAIT_S)
            asyncio.run_coroutine_threadsafe(come_round(), server._loop).result(WAIT_S)
            assert len(tries) == 1


def test_server_out_of_files_writes_little_and_comes_back(tmp_path):
    toy_models.save_toy(tmp_path / "toy" / "1", 1)
    flags = [f"--model_base_path={tmp_path / 'toy'}", "--file_system_poll_wait_seconds=0.2"]
    with server_process(tmp_path, *flags) as server:
        pid = server.process.pid
        most = server.num_files + 10
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, most))
        with contextlib.ExitStack() as stack:
            for port in (server.port, server.rest_api_port):
                for _ in range(30):
                    sock = stack.enter_context(socket.socket())
                    sock.setblocking(False)
                    sock.connect_ex(("127.0.0.1", port))
            assert wait_until(lambda: "can be accepted" in server.log_path.read_text(), WAIT_S)
            size = server.log_path.stat().st_size
            time.sleep(3)
            assert server.log_path.stat().st_size - size < 4_000
        body = json.dumps({"instances": [1.0]}).encode()
        there = types.SimpleNamespace(port=server.rest_api_port)
        assert wait_until(lambda: _answers(there, body), WAIT_S)


def _answers(server, body):
    try:
        return ask(server, "/v1/models/default:predict", body)[0] == 200
    except OSError:
        return False
