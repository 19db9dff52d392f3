"""What both clients share below the calls: options of the channel, deadlines, and when to retry."""

import random
import time
from collections.abc import Iterator

import grpc

from serving.client.proxies import is_loopback

# A connection takes three round trips (TCP, TLS, HTTP/2's settings): at half a second one way,
# three seconds. One to a machine that hangs is given up by then and tried anew.
_CONNECT_TIMEOUT_MS = 10_000
_CHANNEL_OPTIONS = [
    # gRPC's own default of 4 MiB is soon reached by a large batch.
    ("grpc.max_receive_message_length", 2**31 - 1),
    ("grpc.max_send_message_length", 2**31 - 1),
    # By default a channel that could not connect does not even try again for a second or more, and
    # every attempt in between fails at once: retries would be for nothing. gRPC takes no less.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # In spite of its name no pause, but the least time that an attempt to connect has.
    ("grpc.min_reconnect_backoff_ms", _CONNECT_TIMEOUT_MS),
]
_FIRST_BACKOFF_S = 0.05
# Requests of a deadline already over; gRPC takes no negative timeout.
_NO_TIME_S = 0.0


def channel_options(target: str) -> list[tuple[str, int | str]]:
    """Options of a channel to a target: to this machine it goes without a proxy."""
    # gRPC would send even calls to this machine through the proxy that a variable names.
    direct = [("grpc.enable_http_proxy", 0)] if is_loopback(target) else []
    return [*_CHANNEL_OPTIONS, *direct]


class Attempts:
    """The attempts of one call, all within one deadline.

    Only a call that found no server (UNAVAILABLE) is made again: everything asked here only reads.

    Args:
      max_attempts: How often the call is made at most.
      deadline: Of `time.monotonic()`.
    """

    def __init__(self, max_attempts: int, deadline: float):
        self._deadline = deadline
        self._pauses = _pauses(max_attempts)

    @property
    def timeout_s(self) -> float:
        """Time left, seconds."""
        return max(_NO_TIME_S, self._deadline - time.monotonic())

    def pause_after(self, error: grpc.RpcError) -> float | None:
        """How long to wait before the next attempt, seconds; None: there is none."""
        pause = next(self._pauses, None)
        is_last = pause is None or time.monotonic() + pause >= self._deadline
        return None if is_last or error.code() is not grpc.StatusCode.UNAVAILABLE else pause


def _pauses(max_attempts: int) -> Iterator[float]:
    """Seconds between attempts: each twice the one before, at random by half up or down."""
    for attempt in range(max_attempts - 1):
        # Beyond that any deadline is over; a power of a large number has no float.
        yield _FIRST_BACKOFF_S * 2 ** min(attempt, 30) * random.uniform(0.5, 1.5)


def deadline_after(timeout_s: float) -> float:
    """`time.monotonic()` at which a call must have ended.

    Raises:
      ValueError: If there is no time.
    """
    if not timeout_s > 0:
        raise ValueError(f"`timeout_s` must be positive. Received: timeout_s={timeout_s}.")
    return time.monotonic() + timeout_s
