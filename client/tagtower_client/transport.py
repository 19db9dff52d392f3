"""Transport of both clients: options of the channel, deadlines, and when to retry."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

import grpc

from tagtower_client.proxies import is_loopback

# A connection takes three round trips (TCP, TLS, HTTP/2's settings): three seconds, if one way
# takes half a second. An attempt to reach a machine that hangs ends after this time, and another
# one begins.
_CONNECT_TIMEOUT_MS = 10_000
_CHANNEL_OPTIONS = [
    # A large batch soon reaches gRPC's own default of 4 MiB.
    ("grpc.max_receive_message_length", 2**31 - 1),
    ("grpc.max_send_message_length", 2**31 - 1),
    # By default a channel that could not connect waits a second or more before it tries again, and
    # every call in between fails at once: retries would be useless. gRPC takes no smaller value.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # Despite its name this is no pause, but the minimum time that an attempt to connect has.
    ("grpc.min_reconnect_backoff_ms", _CONNECT_TIMEOUT_MS),
]
_FIRST_BACKOFF_S = 0.05
# Timeout of a request whose deadline is over; gRPC takes no negative timeout.
_NO_TIME_S = 0.0


def channel_options(target: str) -> list[tuple[str, int | str]]:
    """Returns the options of a channel to a target; a channel to this machine uses no proxy."""
    # By default gRPC sends even calls to this machine through the proxy that a variable names.
    direct = [("grpc.enable_http_proxy", 0)] if is_loopback(target) else []
    return [*_CHANNEL_OPTIONS, *direct]


class Attempts:
    """The attempts of one call, all within one deadline.

    Only a call that found no server (UNAVAILABLE) is made again, which is safe because no call
    changes the server.

    Args:
      max_attempts: Maximum number of attempts.
      deadline: Time of `time.monotonic()` at which the call must have ended.
    """

    def __init__(self, max_attempts: int, deadline: float):
        self._deadline = deadline
        self._pauses = _pauses(max_attempts)

    @property
    def timeout_s(self) -> float:
        """Returns the seconds that are left until the deadline."""
        return max(_NO_TIME_S, self._deadline - time.monotonic())

    def pause_after(self, error: grpc.RpcError) -> float | None:
        """Returns the seconds to wait before the next attempt; None: there is no next attempt."""
        pause = next(self._pauses, None)
        is_last = pause is None or time.monotonic() + pause >= self._deadline
        return None if is_last or error.code() is not grpc.StatusCode.UNAVAILABLE else pause


def _pauses(max_attempts: int) -> Iterator[float]:
    """Yields the seconds between attempts: doubled each time, then varied at random by half."""
    for attempt in range(max_attempts - 1):
        # Beyond 2**30 any deadline is over, and a float cannot hold much larger powers.
        yield _FIRST_BACKOFF_S * 2 ** min(attempt, 30) * random.uniform(0.5, 1.5)


def deadline_after(timeout_s: float) -> float:
    """Returns the time of `time.monotonic()` at which a call must have ended.

    Raises:
      ValueError: If `timeout_s` is not positive.
    """
    if not timeout_s > 0:
        raise ValueError(f"`timeout_s` must be positive. Received: timeout_s={timeout_s}.")
    return time.monotonic() + timeout_s
