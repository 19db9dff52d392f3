"""Connections to this machine that bypass a proxy, in whatever library of a command.

The project's own client does so itself (`tagtower_client.proxies`). Beam's and gRPC's channels to a
job server, `urllib` and the processes that a command starts read the environment.
"""

import os
from collections.abc import MutableMapping

_PROXIES = ("grpc_proxy", "https_proxy", "http_proxy", "all_proxy")
_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")


def reach_loopback_directly(environment: MutableMapping[str, str] = os.environ) -> None:
    """Adds this machine to the hosts without a proxy, if a proxy is configured.

    Args:
      environment: Environment variables to change; started processes inherit those of this process.
    """
    if not any(name in environment or name.upper() in environment for name in _PROXIES):
        return
    # Libraries that read both spellings prefer lower case, and gRPC reads only that. It ignores
    # `no_proxy` where there is a `no_grpc_proxy`.
    excepted = environment.get("no_proxy", environment.get("NO_PROXY", ""))
    environment["no_proxy"] = _with_this_machine(excepted)
    if "no_grpc_proxy" in environment:
        environment["no_grpc_proxy"] = _with_this_machine(environment["no_grpc_proxy"])


def _with_this_machine(hosts: str) -> str:
    listed = [host.strip() for host in hosts.split(",") if host.strip()]
    if "*" in listed:
        return hosts
    return ",".join([*listed, *(host for host in _THIS_MACHINE if host not in listed)])
