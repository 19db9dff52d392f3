"""Addresses and ports to listen on; they are checked before TensorFlow is loaded."""

import errno
import ipaddress
import socket

DEFAULT_HOST = "127.0.0.1"
_ANY_IPV6 = "::"


def numeric_address(host: str) -> str:
    """Resolves a host to the one numeric address that a server listens on.

    Args:
      host: Address of this machine, or a name for one; `0.0.0.0` and `::` mean all addresses.

    Returns:
      The numeric address, that of IPv4 if a name has both.

    Raises:
      ValueError: `host` is not an address of this machine.
    """
    try:
        found = socket.getaddrinfo(host or "\0", None, type=socket.SOCK_STREAM)
        family, _, _, _, place = sorted(found, key=lambda entry: entry[0] != socket.AF_INET)[0]
        with socket.socket(family) as probe:
            probe.bind((place[0], 0, *place[2:]))
    except (OSError, UnicodeError, ValueError) as error:
        raise ValueError(
            "`host` must be an address of this machine; 0.0.0.0 is all of IPv4, :: all of IPv6 as "
            f"well. Received: host={host}."
        ) from error
    return str(place[0])


def is_loopback(address: str) -> bool:
    """Returns whether a numeric address can be reached from this machine only."""
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def with_port(address: str, port: int) -> str:
    """Returns address and port in the form that gRPC takes."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def listening_socket(host: str, port: int) -> socket.socket:
    """Opens a non-blocking TCP socket that listens.

    Args:
      host: Numeric address to listen on.
      port: Port to listen on; 0: the operating system chooses one.

    Raises:
      OSError: The port is taken.
    """
    family, _, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listening = socket.socket(family)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if host == _ANY_IPV6:  # as in gRPC, the socket accepts IPv4 as well
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listening.setblocking(False)
        listening.bind(place)
        listening.listen()
    except OSError:
        listening.close()
        raise
    return listening


def check_port(name: str, port: int, host: str = DEFAULT_HOST) -> None:
    """Checks that a server can listen on a port; a free port may be taken a moment later.

    Args:
      name: Name of the flag or argument.
      port: Port to check; 0: any port or none, which is always valid.
      host: Numeric address to listen on.

    Raises:
      ValueError: The port is out of range, or not free.
    """
    check_range(name, port)
    if not port:
        return
    try:
        listening_socket(host, port).close()
    except OSError as error:
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            raise port_taken(name, port) from error


def check_range(name: str, port: int) -> None:
    """Checks that a number is a valid port.

    Raises:
      ValueError: The port is out of range.
    """
    if not 0 <= port <= 65535:
        raise ValueError(f"`{name}` must be between 0 and 65535. Received: {name}={port}.")


def port_taken(name: str, port: int) -> ValueError:
    """Returns the error for a port that is not free."""
    return ValueError(
        f"`{name}` must be a free port of this machine; something listens on it already, or it is "
        f"reserved. Received: {name}={port}."
    )
