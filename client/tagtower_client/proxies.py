"""The proxy through which gRPC sends a call, as the environment variables say.

gRPC's core reads these variables itself: if one of them is set, even calls to this machine go to
the proxy. A channel to this machine therefore uses no proxy, and for any other host an error can
name the variable.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re

# The first variable that is set decides; if it is empty, there is no proxy. gRPC reads no other
# names, and not these in capitals.
_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")
# The first variable that is set decides; the other one is then ignored.
_EXCEPTIONS = ("no_grpc_proxy", "no_proxy")
_SCHEMES = re.compile(r"^(?:dns:(?://[^/]*/)?|ipv4:|ipv6:)")
# gRPC's schemes for Unix domain sockets.
_LOCAL_SCHEMES = ("unix:", "unix-abstract:")


def host_of(target: str) -> str:
    """Returns the host of a gRPC target: `localhost` for `dns:///localhost:8500`."""
    address = _SCHEMES.sub("", target).lstrip("/")
    if address.startswith("["):
        return address[1:].partition("]")[0]
    host, colon, port = address.rpartition(":")
    # A bare IPv6 address has more than one colon and no port.
    return host if colon and ":" not in host and port.isdigit() else address


def is_loopback(target: str) -> bool:
    """Returns whether a gRPC target is this machine: `localhost`, 127.0.0.0/8, ::1 or a socket."""
    if target.startswith(_LOCAL_SCHEMES):
        return True
    host = host_of(target).rstrip(".").lower()
    address = _address(host)
    if address is not None:
        # A connection to the unspecified address (0.0.0.0, ::) reaches this machine.
        return address.is_loopback or address.is_unspecified
    names = ("localhost", "ip6-localhost", "localhost.localdomain")
    return host in names or host.endswith(".localhost")


def proxy_variable(target: str) -> str | None:
    """Returns the variable that names the proxy of calls to a target; None: they go directly."""
    if is_loopback(target):
        return None
    name = _first_set(_VARIABLES)
    if name is None or not os.environ[name].startswith("http://"):
        return None
    exception = _first_set(_EXCEPTIONS)
    host = host_of(target)
    if exception is not None and _is_excepted(host, os.environ[exception]):
        return None
    return name


def exception_variable() -> str:
    """Returns the variable that lists the hosts which gRPC calls directly."""
    return _first_set(_EXCEPTIONS) or "no_proxy"


def _first_set(names: tuple[str, ...]) -> str | None:
    return next((name for name in names if name in os.environ), None)


def _is_excepted(host: str, exceptions: str) -> bool:
    address = _address(host)
    for entry in filter(None, map(str.strip, exceptions.split(","))):
        if host.lower().endswith(entry.lower()):
            return True
        if address is not None:
            with contextlib.suppress(ValueError):
                if address in ipaddress.ip_network(entry, strict=False):
                    return True
    return False


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host.partition("%")[0])
    return None
