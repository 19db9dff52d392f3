"""The HTTP side of REST: sockets, an event loop in a thread of its own, and threads that answer."""

import asyncio
import contextlib
import http
import logging
import socket
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor

import tornado.httpserver
import tornado.netutil
from tornado import httputil
from tornado.http1connection import HTTP1Connection
from tornado.iostream import StreamClosedError

from serving.model_server.json_text import error_text
from serving.model_server.rest_api import Answer, RestApi

_logger = logging.getLogger("tagtower.model_server")

# What the connection itself takes; bodies beyond the server's limit are read, dropped and refused,
# because a caller that is cut off in the middle of its body never reads why.
_ANY_SIZE = 2**62
# Seconds until a caller who does not go on, between requests or within one, is hung up on.
_PATIENCE_S = 3600.0
_GZIP = 16 + zlib.MAX_WBITS


class RestServer:
    """Serves the REST interface.

    Args:
      api: What answers.
      host: Address to listen on.
      port: Port to listen on; 0: one the operating system chooses.
      max_workers: Requests answered at a time.
      max_requests: Requests under way or waiting; more are refused.
      max_body_bytes: Size of a body; larger ones are refused.

    Attributes:
      port: The port it listens on.

    Raises:
      OSError: If the port is taken.
    """

    def __init__(
        self,
        api: RestApi,
        host: str,
        port: int,
        *,
        max_workers: int,
        max_requests: int,
        max_body_bytes: int,
    ):
        self._api = api
        self.max_body_bytes = max_body_bytes
        self._max_requests = max_requests
        self._sockets = tornado.netutil.bind_sockets(port, host, family=socket.AF_INET)
        self.port: int = self._sockets[0].getsockname()[1]
        self._executor = ThreadPoolExecutor(max_workers, thread_name_prefix="rest")
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._num_requests = 0
        self._grace_s = 0.0
        self._is_drained = True
        self._thread = threading.Thread(target=self._run, name="rest-server", daemon=True)

    def start(self) -> None:
        """Starts to answer; the port has been open since the constructor."""
        self._thread.start()

    def stop(self, grace_s: float) -> bool:
        """Takes no more requests, lets those under way finish, and ends.

        Args:
          grace_s: Seconds the requests under way have.

        Returns:
          Whether they all finished.
        """
        self._grace_s = grace_s
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        self._executor.shutdown(wait=False)
        return self._is_drained

    def refusal(self) -> Answer | None:
        """The answer to a request that is not let in; None: it is."""
        if self._stopping.is_set():
            return Answer(503, error_text("The server is shutting down."))
        if self._num_requests >= self._max_requests:
            self._api.count_refusal()
            return Answer(429, error_text("Concurrent request limit exceeded!"))
        return None

    async def answer(
        self,
        connection: HTTP1Connection,
        start_line: httputil.RequestStartLine,
        headers: httputil.HTTPHeaders,
        body: bytes,
    ) -> None:
        """Answers one request, outside the event loop's thread."""
        self._num_requests += 1
        self._idle.clear()
        try:
            answer = await self._loop.run_in_executor(
                self._executor, self._compute, start_line, headers, body
            )
            await self.write(connection, start_line, answer)
        finally:
            self._num_requests -= 1
            if not self._num_requests:
                self._idle.set()

    async def write(
        self,
        connection: HTTP1Connection,
        start_line: httputil.RequestStartLine,
        answer: Answer,
    ) -> None:
        """Writes an answer; completes when it has left, or the caller has."""
        body = answer.body.encode("utf-8", "surrogateescape")
        headers = httputil.HTTPHeaders()
        headers["Content-Type"] = answer.content_type
        headers["Content-Length"] = str(len(body))
        if self._stopping.is_set():
            headers["Connection"] = "close"
        written = connection.write_headers(
            httputil.ResponseStartLine(
                "HTTP/1.1", answer.status, _REASONS.get(answer.status, "Unknown")
            ),
            headers,
            b"" if start_line.method == "HEAD" else body,
        )

        def on_close() -> None:
            if not written.done():
                written.set_exception(StreamClosedError())

        connection.set_close_callback(on_close)
        connection.finish()
        with contextlib.suppress(StreamClosedError):
            await written

    def _compute(
        self, start_line: httputil.RequestStartLine, headers: httputil.HTTPHeaders, body: bytes
    ) -> Answer:
        try:
            if headers.get("Content-Encoding", "").lower() == "gzip":
                unpacked = _unpack(body, self.max_body_bytes)
                if unpacked is None:
                    return _too_large(self.max_body_bytes + 1, self.max_body_bytes)
                body = unpacked
            path = start_line.path.partition("?")[0]
            return self._api.answer(start_line.method, path, body, headers.get("Origin", ""))
        except Exception:
            _logger.exception("Answering %s %s failed.", start_line.method, start_line.path)
            return Answer(500, error_text("Internal error of the server; see its log."))

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        server = tornado.httpserver.HTTPServer(
            _Requests(self),
            max_body_size=_ANY_SIZE,
            max_buffer_size=_ANY_SIZE,
            idle_connection_timeout=_PATIENCE_S,
            body_timeout=_PATIENCE_S,
        )
        server.add_sockets(self._sockets)
        await self._stopping.wait()
        server.stop()
        try:
            await asyncio.wait_for(self._idle.wait(), self._grace_s)
        except asyncio.TimeoutError:
            self._is_drained = False  # the grace is over: what is still under way is cut off
        await server.close_all_connections()


class _Requests(httputil.HTTPServerConnectionDelegate):
    """Makes a `_Request` for each request of a connection."""

    def __init__(self, server: RestServer):
        self._server = server

    def start_request(
        self, server_conn: object, request_conn: httputil.HTTPConnection
    ) -> httputil.HTTPMessageDelegate:
        assert isinstance(request_conn, HTTP1Connection)
        return _Request(self._server, request_conn)


class _Request(httputil.HTTPMessageDelegate):
    """Gathers one request, and has it answered."""

    def __init__(self, server: RestServer, connection: HTTP1Connection):
        self._server = server
        self._connection = connection
        self._chunks: list[bytes] = []
        self._size = 0

    def headers_received(
        self,
        start_line: httputil.RequestStartLine | httputil.ResponseStartLine,
        headers: httputil.HTTPHeaders,
    ) -> None:
        assert isinstance(start_line, httputil.RequestStartLine)
        self._start_line = start_line
        self._headers = headers

    def data_received(self, chunk: bytes) -> None:
        self._size += len(chunk)
        if self._size <= self._server.max_body_bytes:
            self._chunks.append(chunk)
        else:
            self._chunks.clear()

    def finish(self) -> None:
        server, limit = self._server, self._server.max_body_bytes
        refusal = _too_large(self._size, limit) if self._size > limit else server.refusal()
        if refusal is None:
            task = server.answer(
                self._connection, self._start_line, self._headers, b"".join(self._chunks)
            )
        else:
            task = server.write(self._connection, self._start_line, refusal)
        # The connection keeps the request, the request its task: the loop alone would not.
        self._task = asyncio.ensure_future(task)

    def on_connection_close(self) -> None:
        self._chunks.clear()


def _too_large(size: int, limit: int) -> Answer:
    """The answer to a body beyond the limit, in gRPC's words."""
    return Answer(413, error_text(f"Received message larger than max ({size} vs. {limit})"))


def _unpack(body: bytes, limit: int) -> bytes | None:
    """Decompresses a body; None if it is larger than the limit, empty if it is damaged."""
    unpacker = zlib.decompressobj(_GZIP)
    try:
        unpacked = unpacker.decompress(body, limit + 1)
    except zlib.error:
        return b""
    if len(unpacked) > limit:
        return None
    return unpacked if unpacker.eof else b""


_REASONS = {status.value: status.phrase for status in http.HTTPStatus} | {
    499: "Client Closed Request"
}
