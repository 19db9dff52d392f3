"""A connection to the REST port, byte by byte."""

import contextlib
import socket


def read_all(sock: socket.socket) -> bytes:
    """Reads until the other side closes or resets the connection."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while chunk := sock.recv(65536):
            received += chunk
    return received
