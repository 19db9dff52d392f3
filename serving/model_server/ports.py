"""Ports to listen on: what is wrong with one is said before TensorFlow is loaded."""

import errno
import socket


def check_port(name: str, port: int, host: str = "0.0.0.0") -> None:
    """Checks a port that a server is to listen on; one free now may be taken a moment later.

    Args:
      name: The flag or argument.
      port: The port; 0: any, or none.
      host: Address to listen on.

    Raises:
      ValueError: It is out of range, or not free.
    """
    check_range(name, port)
    if not port:
        return
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen()
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                raise port_taken(name, port) from error


def check_range(name: str, port: int) -> None:
    """Checks that a number may be a port's.

    Raises:
      ValueError: It is out of range.
    """
    if not 0 <= port <= 65535:
        raise ValueError(f"`{name}` must be between 0 and 65535. Received: {name}={port}.")


def port_taken(name: str, port: int) -> ValueError:
    """The error of a port that is not free."""
    return ValueError(
        f"`{name}` must be a free port of this machine; something listens on it already, or it is "
        f"reserved. Received: {name}={port}."
    )
