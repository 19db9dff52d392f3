"""REST connections: their maximum number, how they are accepted, and which one is closed first."""

import asyncio
import errno
import logging
import resource
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable

import tornado.httpserver
from tornado import httputil
from tornado.http1connection import HTTP1ServerConnection

_logger = logging.getLogger("tagtower.model_server")

# Seconds that a connection may be idle, or take for the TLS handshake and a request's headers.
IDLE_S = 120.0
MAX_HEADER_BYTES = 1 << 16
# Read buffer of a connection; a body is processed in pieces of 64 KiB.
_BUFFER_BYTES = 1 << 20
# Tornado's limit of bodies is not used, because tornado would not tell the caller the reason;
# `RestRequest` has its own limit.
_ANY_SIZE = 2**62
# Open files that are not REST connections: those of gRPC, models, logs.
_OTHER_FILES = 128
_MIN_CONNECTIONS = 16
_TAKEN_AT_A_TIME = 64
# Seconds until the next attempt to accept connections, if there is no room or no free file.
_FULL_PAUSE_S, _NO_FILES_PAUSE_S = 0.05, 0.5
_NO_FILES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


def max_connections(max_requests: int) -> int:
    """Returns the maximum number of connections, by requests and the limit of open files."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = max_requests if soft == resource.RLIM_INFINITY else (soft - _OTHER_FILES) // 2
    return max(_MIN_CONNECTIONS, min(2 * max_requests, files))


class RestConnections(tornado.httpserver.HTTPServer):
    """Tornado's server with a limit on connections.

    For a connection beyond the limit, the connection that has waited longest for a request is
    closed, or one whose body has paused. If all connections have a running request, new ones wait.
    """

    def initialize(  # type: ignore[override]
        self,
        requests: httputil.HTTPServerConnectionDelegate,
        max_connections: int,
        make_room: Callable[[], bool],
        context: ssl.SSLContext | None,
    ) -> None:
        """Initializes the server of connections.

        Args:
          requests: Delegate that makes request objects.
          max_connections: Maximum number of connections.
          make_room: Function that ends a request whose body has paused, and returns whether there
            was one.
          context: TLS context; None: unencrypted connections.
        """
        super().initialize(
            requests,
            ssl_options=context,
            max_header_size=MAX_HEADER_BYTES,
            max_body_size=_ANY_SIZE,
            max_buffer_size=_BUFFER_BYTES,
            idle_connection_timeout=IDLE_S,
        )
        self._max_connections = max_connections
        self._make_room = make_room
        # Connections without a request, the longest idle one first.
        self._idle: dict[HTTP1ServerConnection, None] = {}

    def add_sockets(self, sockets: Iterable[socket.socket]) -> None:
        """Starts to accept connections."""
        for listening in sockets:
            self._sockets[listening.fileno()] = listening
            self._handlers[listening.fileno()] = self._take_from(listening)

    def start_request(
        self, server_conn: object, request_conn: httputil.HTTPConnection
    ) -> httputil.HTTPMessageDelegate:
        """Marks a connection as idle until its next request, and makes the request's object."""
        assert isinstance(server_conn, HTTP1ServerConnection)
        self._idle.pop(server_conn, None)
        self._idle[server_conn] = None
        request = super().start_request(server_conn, request_conn)
        return _Noticed(request, lambda: self._idle.pop(server_conn, None))

    def on_close(self, server_conn: object) -> None:
        """Removes a closed connection from the idle ones."""
        assert isinstance(server_conn, HTTP1ServerConnection)
        self._idle.pop(server_conn, None)
        super().on_close(server_conn)

    def _take_from(self, listening: socket.socket) -> Callable[[], None]:
        """Starts to accept connections of a socket; returns a function that stops it."""
        loop = asyncio.get_running_loop()
        is_over = False

        def take() -> None:
            for _ in range(_TAKEN_AT_A_TIME):
                pause_s = 0.0 if self._has_room() else _FULL_PAUSE_S
                try:
                    if not pause_s:
                        connection, address = listening.accept()
                except BlockingIOError:
                    return
                except OSError as error:
                    if error.errno not in _NO_FILES:
                        continue  # the error of one connection, which is already closed
                    _logger.error(
                        "No REST connection can be accepted: %s (`ulimit -n`).", error.strerror
                    )
                    self._close_idlest()
                    pause_s = _NO_FILES_PAUSE_S
                if pause_s:
                    # The socket stays readable: without a pause the loop would call this all the
                    # time.
                    loop.remove_reader(listening)
                    loop.call_later(pause_s, resume)
                    return
                try:
                    self._handle_connection(connection, address)
                except OSError:  # the connection was closed before TLS began
                    connection.close()

        def resume() -> None:
            if not is_over:
                loop.add_reader(listening, take)

        def end() -> None:
            nonlocal is_over
            is_over = True
            loop.remove_reader(listening)

        resume()
        return end

    def _has_room(self) -> bool:
        return len(self._connections) < self._max_connections or self._close_idlest()

    def _close_idlest(self) -> bool:
        """Closes the connection that has been idle longest; returns whether one was closed."""
        idlest = next(iter(self._idle), None)
        if idlest is None:
            return self._make_room()
        del self._idle[idlest]
        idlest.stream.close()
        return True


class _Noticed(httputil.HTTPMessageDelegate):
    """A request that calls a function when its headers have arrived."""

    def __init__(self, request: httputil.HTTPMessageDelegate, on_headers: Callable[[], object]):
        self._request, self._on_headers = request, on_headers
        self.data_received = request.data_received  # type: ignore[method-assign]
        self.finish = request.finish  # type: ignore[method-assign]
        self.on_connection_close = request.on_connection_close  # type: ignore[method-assign]

    def headers_received(
        self,
        start_line: httputil.RequestStartLine | httputil.ResponseStartLine,
        headers: httputil.HTTPHeaders,
    ) -> Awaitable[None] | None:
        self._on_headers()
        return self._request.headers_received(start_line, headers)
