import socket

import pytest

from serving.model_server.ports import (
    check_port,
    is_loopback,
    listening_socket,
    numeric_address,
    with_port,
)


def has_ipv6():
    try:
        numeric_address("::1")
    except ValueError:
        return False
    return True


ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("localhost", "127.0.0.1"),
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "0.0.0.0"),
        pytest.param("::1", "::1", marks=ipv6),
        pytest.param("::", "::", marks=ipv6),
    ],
)
def test_host_becomes_one_address(host, address):
    assert numeric_address(host) == address


@pytest.mark.parametrize(
    "host", ["", "no.such.host.invalid", "192.0.2.1", "127.0.0.1:80", "a" * 70]
)
def test_host_that_is_not_of_this_machine_is_one_line(host):
    with pytest.raises(ValueError, match="`host` must be an address of this machine") as caught:
        numeric_address(host)
    assert "\n" not in str(caught.value)


def test_loopback_is_known():
    addresses = ["127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", "::", "10.0.0.1"]
    assert list(map(is_loopback, addresses)) == [True, True, True, False, False, False]


def test_port_that_is_taken_is_refused_for_this_address_and_all():
    with listening_socket("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        for host in ("127.0.0.1", "0.0.0.0"):
            with pytest.raises(ValueError, match="must be a free port"):
                check_port("port", port, host)


@ipv6
def test_any_address_of_ipv6_takes_ipv4_as_well():
    with listening_socket("::", 0) as listening:
        socket.create_connection(("127.0.0.1", listening.getsockname()[1])).close()
    assert with_port("::1", 80) == "[::1]:80"
