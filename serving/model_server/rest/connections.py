"""Connections of REST: how many there are, how they are taken, and which gives way."""

import asyncio
import errno
import logging
import resource
import socket
import ssl
from collections.abc import Callable, Iterable

import tornado.httpserver
from tornado import httputil
from tornado.http1connection import HTTP1ServerConnection

_logger = logging.getLogger("tagtower.model_server")

# Seconds a connection may be silent, or take for a TLS handshake and the headers of a request.
IDLE_S = 120.0
MAX_HEADER_BYTES = 1 << 16
# What is read ahead of a connection; a body goes through in pieces of 64 KiB.
_BUFFER_BYTES = 1 << 20
# Bodies have their own limit: of this one tornado would not say why.
_ANY_SIZE = 2**62
# Files that are not for connections of REST: those of gRPC, models, logs.
_OTHER_FILES = 128
_MIN_CONNECTIONS = 16
_TAKEN_AT_A_TIME = 64
# Until the next look where there is no room for a connection, seconds.
_FULL_PAUSE_S, _NO_FILES_PAUSE_S = 0.05, 0.5
_NO_FILES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


def max_connections(max_requests: int) -> int:
    """How many connections may be open: one a request, as far as there are files for them."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = max_requests if soft == resource.RLIM_INFINITY else (soft - _OTHER_FILES) // 2
    return max(_MIN_CONNECTIONS, min(2 * max_requests, files))


class RestConnections(tornado.httpserver.HTTPServer):
    """Tornado's server, with a limit on connections.

    Where one more comes, the one that has waited longest for a request is closed for it, or whose
    body has paused; where all have one under way, those that come wait.
    """

    def initialize(  # type: ignore[override]
        self,
        requests: httputil.HTTPServerConnectionDelegate,
        max_connections: int,
        make_room: Callable[[], bool],
        context: ssl.SSLContext | None,
    ) -> None:
        """Initializes the server.

        Args:
          requests: Makes requests.
          max_connections: The limit.
          make_room: Ends a request that keeps its connection for nothing; whether there was one.
          context: How TLS is spoken; None: it is not.
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
        # Those without a request, longest first.
        self._idle: dict[HTTP1ServerConnection, None] = {}

    def add_sockets(self, sockets: Iterable[socket.socket]) -> None:
        """Starts to take connections."""
        for listening in sockets:
            self._sockets[listening.fileno()] = listening
            self._handlers[listening.fileno()] = self._take_from(listening)

    def start_request(
        self, server_conn: object, request_conn: httputil.HTTPConnection
    ) -> httputil.HTTPMessageDelegate:
        """A connection waits for its next request."""
        assert isinstance(server_conn, HTTP1ServerConnection)
        self._idle.pop(server_conn, None)
        self._idle[server_conn] = None
        request = super().start_request(server_conn, request_conn)
        return _Noticed(request, lambda: self._idle.pop(server_conn, None))

    def on_close(self, server_conn: object) -> None:
        """A connection is gone."""
        assert isinstance(server_conn, HTTP1ServerConnection)
        self._idle.pop(server_conn, None)
        super().on_close(server_conn)

    def _take_from(self, listening: socket.socket) -> Callable[[], None]:
        """Takes connections of a socket as they come; returns what ends that."""
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
                        continue  # of one connection, which is gone already
                    _logger.error(
                        "No connection over REST can be taken: %s (`ulimit -n`).", error.strerror
                    )
                    self._close_idlest()
                    pause_s = _NO_FILES_PAUSE_S
                if pause_s:
                    # What waits stays readable: without a pause this would be called on and on.
                    loop.remove_reader(listening)
                    loop.call_later(pause_s, resume)
                    return
                try:
                    self._handle_connection(connection, address)
                except OSError:  # it was closed before TLS began
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
        """Closes the connection that has waited longest; whether there was one to close."""
        idlest = next(iter(self._idle), None)
        if idlest is None:
            return self._make_room()
        del self._idle[idlest]
        idlest.stream.close()
        return True


class _Noticed(httputil.HTTPMessageDelegate):
    """A request, of which somebody wants to know when it has begun."""

    def __init__(self, request: httputil.HTTPMessageDelegate, on_headers: Callable[[], object]):
        self._request, self._on_headers = request, on_headers
        self.data_received = request.data_received  # type: ignore[method-assign]
        self.finish = request.finish  # type: ignore[method-assign]
        self.on_connection_close = request.on_connection_close  # type: ignore[method-assign]

    def headers_received(
        self,
        start_line: httputil.RequestStartLine | httputil.ResponseStartLine,
        headers: httputil.HTTPHeaders,
    ):
        self._on_headers()
        return self._request.headers_received(start_line, headers)
