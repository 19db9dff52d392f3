"""Which proxy gRPC would send a call through, by the variables of the environment.

gRPC's core reads them itself and asks nobody: with one of them set, calls to this very machine go
to the proxy too. A channel to this machine therefore takes no proxy, and for any other host an
error can name the variable.
"""

import contextlib
import ipaddress
import os
import re

# The first that is set says; an empty one says that there is no proxy. No other names count, nor
# these in capitals.
_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")
# The first that is set says; the other one then counts for nothing.
_EXCEPTIONS = ("no_grpc_proxy", "no_proxy")
_SCHEMES = re.compile(r"^(?:dns:(?://[^/]*/)?|ipv4:|ipv6:)")
# gRPC's name for a socket that is a file.
_LOCAL_SCHEMES = ("unix:", "unix-abstract:")


def host_of(target: str) -> str:
    """The host of a gRPC target, as `localhost` of `dns:///localhost:8500`."""
    address = _SCHEMES.sub("", target).lstrip("/")
    if address.startswith("["):
        return address[1:].partition("]")[0]
    host, colon, port = address.rpartition(":")
    # A bare address of IPv6 has more colons, and no port.
    return host if colon and ":" not in host and port.isdigit() else address


def is_loopback(target: str) -> bool:
    """Whether a gRPC target is this machine: `localhost`, 127.0.0.0/8, ::1, or a file."""
    if target.startswith(_LOCAL_SCHEMES):
        return True
    host = host_of(target).rstrip(".").lower()
    address = _address(host)
    if address is not None:
        # Who connects to "any address" is connected to this machine.
        return address.is_loopback or address.is_unspecified
    names = ("localhost", "ip6-localhost", "localhost.localdomain")
    return host in names or host.endswith(".localhost")


def proxy_variable(target: str) -> str | None:
    """The variable whose proxy gRPC sends calls to a target through; None: they go directly."""
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
    """The variable that lists the hosts that calls go to directly."""
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
