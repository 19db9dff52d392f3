"""The REST server: sockets, an event loop in its own thread, and threads that compute answers."""

import asyncio
import contextlib
import http
import logging
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

from tornado import httputil
from tornado.http1connection import HTTP1Connection

from serving.model_server.callers.transport_security import TransportSecurity
from serving.model_server.ports import listening_socket
from serving.model_server.rest.api import Answer, RestApi
from serving.model_server.rest.connections import RestConnections, max_connections
from serving.model_server.rest.json_cost import json_cost
from serving.model_server.rest.json_text import error_text
from serving.model_server.rest.memory_budget import MemoryAccount, MemoryBudget
from serving.model_server.rest.request import STALL_S, RestRequest, is_slow, no_memory

_logger = logging.getLogger("tagtower.model_server")

# Size of the pieces in which an answer is written; the caller must read one within `STALL_S`.
_PIECE_BYTES = 1 << 18
# Seconds between two checks of the pace of bodies that are received.
_LOOK_S = 1.0
DEFAULT_MEMORY_BYTES = 512 << 20


class RestServer:
    """The server of the REST interface.

    Args:
      api: REST interface that answers the requests.
      host: Numeric address to listen on.
      port: Port to listen on; 0: the operating system chooses one.
      max_workers: Number of requests answered at a time.
      max_requests: Maximum number of requests that run or wait; further ones are refused.
      max_body_bytes: Maximum size of a body, compressed and uncompressed; larger ones are refused.
      max_memory_bytes: Memory for bodies, their parsing and answers together; requests beyond it
        are refused.
      security: Certificates and tokens of callers; None: every caller is allowed.

    Attributes:
      port: Port that the server listens on.

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
        max_memory_bytes: int = DEFAULT_MEMORY_BYTES,
        security: TransportSecurity | None = None,
    ):
        self._api = api
        self._max_body_bytes = max_body_bytes
        self._max_requests = max_requests
        self._budget = MemoryBudget(max_memory_bytes)
        self._security = security or TransportSecurity()
        self._socket = listening_socket(host, port)
        self.port: int = self._socket.getsockname()[1]
        self._executor = ThreadPoolExecutor(max_workers, thread_name_prefix="rest")
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._num_requests = 0
        self._coming: weakref.WeakSet[RestRequest] = weakref.WeakSet()
        self._grace_s = 0.0
        self._is_drained = True
        self._thread = threading.Thread(target=self._run, name="rest-server", daemon=True)

    def start(self) -> None:
        """Starts to answer requests; the port has been open since the constructor."""
        self._thread.start()

    def stop(self, grace_s: float) -> bool:
        """Refuses new requests, waits for running ones, and stops.

        Args:
          grace_s: Seconds that running requests have; then they are cut off.

        Returns:
          Whether all running requests were answered.
        """
        self._grace_s = grace_s
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        self._executor.shutdown(wait=False)
        return self._is_drained

    @property
    def num_requests(self) -> int:
        """Returns the number of completely received requests that run or wait."""
        return self._num_requests

    @property
    def memory_taken(self) -> int:
        """Returns the bytes of the budget that requests have taken."""
        return self._budget.taken

    def new_request(self, connection: HTTP1Connection) -> RestRequest:
        """Makes the object that receives the next request of a connection."""
        return RestRequest(
            connection,
            self._budget,
            self._max_body_bytes,
            self._admit,
            self._api.count_refusal,
            self._answer,
            self._coming,
            self._make_room,
        )

    def _make_room(self) -> bool:
        """Ends the request whose body has paused longest, if long enough; returns whether so."""
        coming = min(self._coming, key=lambda request: request.last_byte, default=None)
        return coming is not None and coming.gives_way(time.monotonic())

    def _admit(self, headers: httputil.HTTPHeaders) -> Answer | None:
        """Returns the refusal of a caller without a valid token; None: the caller is admitted."""
        given = headers.get_list("Authorization")
        error = self._security.refusal(given[0] if len(given) == 1 else "")
        if error is None:
            return None
        self._api.count_refusal(error.code)
        return Answer(401, error_text(error.message), headers=(("WWW-Authenticate", "Bearer"),))

    def _not_let_in(self) -> Answer | None:
        """Returns the refusal of a request that cannot be answered now; None: it can."""
        if self._stopping.is_set():
            return Answer(503, error_text("The server is shutting down."))
        if self._num_requests >= self._max_requests:
            self._api.count_refusal()
            return Answer(429, error_text("Concurrent request limit exceeded!"))
        return None

    async def _answer(self, request: RestRequest, body: bytes, account: MemoryAccount) -> None:
        """Answers one request; the answer is computed outside the event loop's thread."""
        refusal = self._not_let_in()
        try:
            if refusal is not None:
                await self._write(request, refusal, refusal.encoded())
                return
            self._num_requests += 1
            self._idle.clear()
            try:
                computed = self._loop.run_in_executor(
                    self._executor, self._compute, request, body, account
                )
                del body
                await self._write(request, *await computed)
            finally:
                self._num_requests -= 1
                if not self._num_requests:
                    self._idle.set()
        finally:
            account.close()

    async def _write(self, request: RestRequest, answer: Answer, body: bytes) -> None:
        """Writes an answer; returns when it is sent, the caller has left or does not read it."""
        connection = request.connection
        headers = httputil.HTTPHeaders()
        headers["Content-Type"] = answer.content_type
        headers["Content-Length"] = str(len(body))
        for name, value in answer.headers:
            headers[name] = value
        if self._stopping.is_set():
            headers["Connection"] = "close"
        is_gone = self._loop.create_future()

        def on_close() -> None:
            if not is_gone.done():
                is_gone.set_result(None)

        connection.set_close_callback(on_close)
        rest = memoryview(b"" if request.start_line.method == "HEAD" else body)
        written = connection.write_headers(
            httputil.ResponseStartLine(
                "HTTP/1.1", answer.status, _REASONS.get(answer.status, "Unknown")
            ),
            headers,
            bytes(rest[:_PIECE_BYTES]),
        )
        start, num_written = time.monotonic(), 0
        while True:
            rest = rest[_PIECE_BYTES:]
            done, _ = await asyncio.wait(
                {written, is_gone}, timeout=STALL_S, return_when=asyncio.FIRST_COMPLETED
            )
            if is_gone in done or (done and written.exception() is not None):
                return
            if not done or is_slow(num_written, time.monotonic() - start):
                connection.stream.close()  # the caller does not read the answer
                return
            num_written += _PIECE_BYTES
            if not rest:
                connection.finish()
                return
            written = connection.write(bytes(rest[:_PIECE_BYTES]))

    def _compute(
        self, request: RestRequest, body: bytes, account: MemoryAccount
    ) -> tuple[Answer, bytes]:
        """Computes the answer, and the bytes of its body."""
        start_line = request.start_line
        try:
            cost = json_cost(body)
            if len(body) + cost > self._budget.max_bytes:
                text = error_text(
                    f"The JSON of the body must need less memory: reading it takes up to "
                    f"{cost >> 20} MB, more than the memory for all requests."
                )
                answer = Answer(413, text)
            elif not account.take(cost):
                self._api.count_refusal()
                answer = no_memory(self._budget.max_bytes)
            else:
                path = start_line.path.partition("?")[0]
                origin = request.headers.get("Origin", "")
                answer = self._api.answer(start_line.method, path, body, origin)
            encoded = answer.encoded()
            # The memory of the request is free again, except that of the answer.
            if not account.change_to(len(encoded)):
                self._api.count_refusal()
                answer = no_memory(self._budget.max_bytes)
                encoded = answer.encoded()
        except MemoryError:
            self._api.count_refusal()
            answer = no_memory(self._budget.max_bytes)
            encoded = answer.encoded()
        except Exception:
            _logger.exception("Answering %s %s failed.", start_line.method, start_line.path)
            answer = Answer(500, error_text("Internal error of the server; see its log."))
            encoded = answer.encoded()
        return answer, encoded

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        server = RestConnections(
            _Requests(self),
            max_connections(self._max_requests),
            self._make_room,
            self._security.ssl_context(),
        )
        server.add_sockets([self._socket])
        paces = asyncio.ensure_future(self._watch_paces())
        await self._stopping.wait()
        server.stop()
        try:
            await asyncio.wait_for(self._idle.wait(), self._grace_s)
        except asyncio.TimeoutError:
            self._is_drained = False  # running requests are cut off after the grace period
        await server.close_all_connections()
        paces.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await paces

    async def _watch_paces(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            now = time.monotonic()
            for request in list(self._coming):
                request.check_pace(now)


class _Requests(httputil.HTTPServerConnectionDelegate):
    """A delegate that makes the object of each request of a connection."""

    def __init__(self, server: RestServer):
        self._server = server

    def start_request(
        self, server_conn: object, request_conn: httputil.HTTPConnection
    ) -> httputil.HTTPMessageDelegate:
        assert isinstance(request_conn, HTTP1Connection)
        return self._server.new_request(request_conn)


_REASONS = {status.value: status.phrase for status in http.HTTPStatus} | {
    499: "Client Closed Request"
}
