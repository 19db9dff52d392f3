"""Connections whose calls wait for their messages: fair shares, and which call is ended for which.

A call whose message is still being sent looks like a call that sends nothing. Therefore callers are
judged by their connections. A call is ended in favour of calls from connections that have fewer
calls being read. How soon depends on the history of its connection: first if one of its calls was
silent before, last if messages have arrived. That advantage is limited to half of the calls that
are read, however many connections deliver a message now and then.
"""

import asyncio
import heapq
from collections.abc import Iterable, Iterator

import grpc

# Seconds that a call may be read while others wait: for a connection that has delivered messages,
# for another connection if few others wait, and the minimum.
STEADY_S, _GRACE_S, _MIN_GRACE_S = 10.0, 2.0, 0.05
# Seconds for which a connection is distrusted after a silent call.
_DISTRUST_S = 30.0
# Number of connections that are remembered, and of calls that are ended at a time.
_MAX_PEERS, _MAX_ENDS = 4096, 16


class Peer:
    """A connection and its calls.

    Attributes:
      num_calls: Number of calls that wait for their messages.
      num_open: Number of these calls that are being read and were not ended.
      queue: Calls that wait for their turn to be read, oldest first.
      has_delivered: Whether a message has arrived.
      distrusted_until: Time until which the connection counts as silent.
    """

    __slots__ = ("distrusted_until", "has_delivered", "num_calls", "num_open", "queue")

    def __init__(self) -> None:
        self.num_calls = self.num_open = 0
        self.queue: dict[Wait, None] = {}
        self.has_delivered = False
        self.distrusted_until = float("-inf")


class Wait:
    """A call that waits for its message.

    Attributes:
      context: gRPC context of the call.
      peer: Connection of the call.
      since: Time at which the call arrived.
      opened: Time since which the call is being read; None: it is not being read.
      is_ended: Whether the call was ended.
      turn: Future that is done when the call's turn to be read comes; None: it need not wait.
    """

    __slots__ = ("context", "is_ended", "opened", "peer", "since", "turn")

    def __init__(self, context: grpc.aio.ServicerContext, peer: Peer, since: float):
        self.context = context
        self.peer = peer
        self.since = since
        self.opened: float | None = None
        self.is_ended = False
        self.turn: asyncio.Future[None] | None = None


class Peers:
    """The connections by name; those without calls are remembered for a while."""

    def __init__(self) -> None:
        self._peers: dict[str, Peer] = {}

    def get(self, name: str) -> Peer:
        """Returns the connection of a name."""
        peer = self._peers.get(name)
        if peer is None:
            if len(self._peers) >= _MAX_PEERS:
                self._peers = {name: peer for name, peer in self._peers.items() if peer.num_calls}
            peer = self._peers[name] = Peer()
        return peer


def distrust(peer: Peer, now: float) -> None:
    """Records that a call of a connection was silent."""
    peer.distrusted_until = now + _DISTRUST_S


def first_in_turn(peers: Iterable[Peer], now: float, number: int = 1) -> list[Peer]:
    """Returns the connections whose calls are read next, in order, of those with waiting calls."""

    def order(peer: Peer) -> tuple[int, bool, float]:
        return peer.num_open, now < peer.distrusted_until, next(iter(peer.queue)).since

    return heapq.nsmallest(number, peers, key=order)


def giving_way(
    open_waits: list[Wait], peers: Iterable[Peer], num_ending: int, now: float
) -> Iterator[Wait]:
    """Chooses the calls to end so that others can be read.

    Args:
      open_waits: Calls that are being read and were not ended, oldest first.
      peers: Connections with calls that wait for their turn to be read.
      num_ending: Number of calls that are ending already: as many calls are read next.
      now: Current time.

    Yields:
      Calls to end; the caller must decrease `num_open` of the call's connection before the next
      iteration.
    """
    peers = list(peers)
    grace_s = max(_MIN_GRACE_S, _GRACE_S / (1 + len(peers) / max(1, len(open_waits))))
    graces = {}
    num_steady = 0
    for wait in open_waits:
        if now < wait.peer.distrusted_until:
            graces[wait] = _MIN_GRACE_S
        elif wait.peer.has_delivered and num_steady < len(open_waits) // 2:
            num_steady += 1
            graces[wait] = STEADY_S
        else:
            graces[wait] = grace_s
    for peer in first_in_turn(peers, now, num_ending + _MAX_ENDS)[num_ending:]:
        since = next(iter(peer.queue)).since
        late = [wait for wait in graces if _gives_way(wait, peer, graces[wait], since, now)]
        if late:
            victim = max(late, key=lambda wait: wait.peer.num_open)  # the oldest of several
            del graces[victim]
            yield victim


def _gives_way(wait: Wait, peer: Peer, grace_s: float, since: float, now: float) -> bool:
    """Returns whether a call is ended in favour of one of `peer` that waits since `since`."""
    if wait.opened is None:
        return False
    if now - wait.opened >= STEADY_S:
        return True
    has_less = peer.num_open == 0 or peer.num_open + 2 <= wait.peer.num_open
    if wait.peer is peer or not has_less:
        return False
    # A call that has just arrived leaves the others time to finish sending, unless they are
    # distrusted.
    kept_s = now - (wait.opened if grace_s == _MIN_GRACE_S else max(wait.opened, since))
    return kept_s >= grace_s
