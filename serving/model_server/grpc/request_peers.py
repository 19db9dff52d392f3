"""Whose calls wait for their messages: connections, their fair shares, and who gives way to whom.

A call whose message is still on its way looks like one that sends nothing. So callers are told
apart by their connection. A call gives way to those of connections that hold less than its own
does, and the later the more its connection has shown: first of all where a call was silent before,
last where messages have come. What that can gain a caller is bounded: half of the calls that are
read, however many connections deliver something now and then.
"""

import asyncio
import heapq
from collections.abc import Iterable, Iterator

import grpc

# Seconds that a call is read while others wait: of a connection that delivers, of another one with
# few behind it, and at the least.
STEADY_S, _GRACE_S, _MIN_GRACE_S = 10.0, 2.0, 0.05
# Seconds for which a connection is distrusted that had a silent call.
_DISTRUST_S = 30.0
# Connections without calls that are remembered, and calls that give way at a time.
_MAX_PEERS, _MAX_ENDS = 4096, 16


class Peer:
    """A connection.

    Attributes:
      num_calls: Its calls that wait for their messages.
      num_open: Those of them that are read and were not ended.
      queue: Those of them that wait unread, oldest first.
      has_delivered: Whether a message has come.
      distrusted_until: Time up to which it counts as silent.
    """

    __slots__ = ("distrusted_until", "has_delivered", "num_calls", "num_open", "queue")

    def __init__(self) -> None:
        self.num_calls = self.num_open = 0
        self.queue: dict[Wait, None] = {}
        self.has_delivered = False
        self.distrusted_until = float("-inf")


class Wait:
    """One call that waits for its message.

    Attributes:
      context: The call.
      peer: Its connection.
      since: Time at which it came.
      opened: Time since which it is read; None: it is not.
      is_ended: Whether it was told to end.
      turn: Done when it is read.
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
    """The connections by their names; those without calls are remembered for a while."""

    def __init__(self) -> None:
        self._peers: dict[str, Peer] = {}

    def get(self, name: str) -> Peer:
        """The connection of this name."""
        peer = self._peers.get(name)
        if peer is None:
            if len(self._peers) >= _MAX_PEERS:
                self._peers = {name: peer for name, peer in self._peers.items() if peer.num_calls}
            peer = self._peers[name] = Peer()
        return peer


def distrust(peer: Peer, now: float) -> None:
    """Takes it down that a call has been silent."""
    peer.distrusted_until = now + _DISTRUST_S


def first_in_turn(peers: Iterable[Peer], now: float, number: int = 1) -> list[Peer]:
    """Of connections with calls that wait unread: those whose turn it is, first ones first."""

    def order(peer: Peer) -> tuple[int, bool, float]:
        return peer.num_open, now < peer.distrusted_until, next(iter(peer.queue)).since

    return heapq.nsmallest(number, peers, key=order)


def giving_way(
    open_waits: list[Wait], peers: Iterable[Peer], num_ending: int, now: float
) -> Iterator[Wait]:
    """Says which calls are to end so that others can be read.

    Args:
      open_waits: Those that are read and were not ended, oldest first.
      peers: The connections with calls that wait unread.
      num_ending: Calls that are ending already: as many are read next.
      now: The time.

    Yields:
      Calls; `num_open` of its connection must be lower by one before the next is asked for.
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
            victim = max(late, key=lambda wait: wait.peer.num_open)  # of several, the oldest
            del graces[victim]
            yield victim


def _gives_way(wait: Wait, peer: Peer, grace_s: float, since: float, now: float) -> bool:
    """Whether a call gives way to one of `peer` that waits since `since`."""
    if wait.opened is None:
        return False
    if now - wait.opened >= STEADY_S:
        return True
    has_less = peer.num_open == 0 or peer.num_open + 2 <= wait.peer.num_open
    if wait.peer is peer or not has_less:
        return False
    # Somebody who has just come gives the others time to bring what they are sending.
    kept_s = now - (wait.opened if grace_s == _MIN_GRACE_S else max(wait.opened, since))
    return kept_s >= grace_s
