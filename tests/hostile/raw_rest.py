"""A connection to the REST port, byte by byte."""

import contextlib
import socket


def read_all(sock: socket.socket) -> bytes:
    """What comes until the other side closes, or is gone."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while chunk := sock.recv(65536):
            received += chunk
    return received
