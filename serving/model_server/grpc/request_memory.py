"""Memory of gRPC requests: calls that wait for their message, and messages that are held.

HTTP/2 buffers a message only while it is being read, and then up to its whole size. Therefore a
call that is being read is counted with the maximum size of a message. Calls that do not fit wait
unread, and connections take turns. If callers that send nothing use up the budget, some of their
calls are ended (`request_peers.py`). Everything here runs on one event loop, without locks.
"""

import asyncio
import collections
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from serving.model_server.errors import ServingError
from serving.model_server.grpc.request_peers import (
    Peer,
    Peers,
    Wait,
    distrust,
    first_in_turn,
    giving_way,
)

# Seconds that calls may wait for their message after the server has begun to stop.
_STOP_S = 1.0
_LOOK_S, _BUSY_LOOK_S = 0.25, 0.02


class WaitingCalls:
    """The calls that wait for their messages, within a memory budget and a timeout.

    Args:
      max_message_bytes: Maximum size of an uncompressed message.
      budget_bytes: Memory for calls that are being read and messages that are held; one call always
        fits.
      max_calls: Maximum number of waiting calls; for a further one, the oldest call of the
        connection with the most calls is ended.
      timeout_s: Seconds after which a call without its message is ended, from the time at which it
        is first read.
      end: Function that ends a call with an error from outside its handler.
      free_bytes: Size up to which held messages do not count against the budget, so that they keep
        no call out.
    """

    def __init__(
        self,
        *,
        max_message_bytes: int,
        budget_bytes: int,
        max_calls: int,
        timeout_s: float,
        end: Callable[[grpc.aio.ServicerContext, ServingError], Awaitable[None]],
        free_bytes: int = 0,
    ):
        self._max_message_bytes = max_message_bytes
        self._budget_bytes = budget_bytes
        self._max_calls = max_calls
        self._timeout_s = timeout_s
        self._end_call = end
        self._free_bytes = free_bytes
        self._peers = Peers()
        self._waits: dict[Wait, None] = {}  # oldest first
        self._open: dict[Wait, None] = {}  # calls that are being read, oldest first
        self._queue: dict[Peer, None] = {}  # connections with calls that wait for their turn
        self._held_bytes = 0
        self._counted_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._is_stopping = False
        self._ending: set[asyncio.Future[Any]] = set()

    @property
    def num_waiting(self) -> int:
        """Returns the number of calls that wait for their message or their turn to be read."""
        return len(self._waits)

    @property
    def held_bytes(self) -> int:
        """Returns the size of the messages that are held."""
        return self._held_bytes

    def stop(self) -> None:
        """Gives all calls only a short time for their message from now on."""
        self._is_stopping = True
        self._look_again(0.0)

    async def read(
        self,
        context: grpc.aio.ServicerContext,
        unpack: Callable[[bytes], Awaitable[bytes]],
    ) -> bytes | None:
        """Reads the next message of a call and holds it until `release`.

        Args:
          context: gRPC context of the call.
          unpack: Function that returns the unpacked message, or the same one if it is not
            compressed.

        Returns:
          The unpacked message; None if the caller sends no message.

        Raises:
          ServingError: If the call was ended before it was read.
          grpc.aio.AbortError: If the call was ended while it was read.
        """
        if len(self._waits) >= self._max_calls:
            self._end(max(self._waits, key=lambda wait: wait.peer.num_calls), too_many())
        peer = self._peers.get(context.peer())
        wait = Wait(context, peer, asyncio.get_running_loop().time())
        self._waits[wait] = None
        peer.num_calls += 1
        if self._timer is None:
            self._look_again(_LOOK_S)
        try:
            if self._queue or not self._has_room():
                await self._turn(wait)
            else:
                self._begin(wait)
            message = await context.read()
            self._leave(wait)
            if message is grpc.aio.EOF:
                return None
            peer.has_delivered = True
            message = await unpack(message)
            self._hold(len(message))
            return message
        finally:
            self._leave(wait)
            if wait in self._open:
                del self._open[wait]
                self._let_in()

    def release(self, message: bytes) -> None:
        """Releases a message that `read` returned."""
        self._hold(len(message), -1)
        self._let_in()

    def _hold(self, size: int, sign: int = 1) -> None:
        self._held_bytes += sign * size
        if size > self._free_bytes:
            self._counted_bytes += sign * size

    def _has_room(self) -> bool:
        needed = (len(self._open) + 1) * self._max_message_bytes + self._counted_bytes
        return needed <= self._budget_bytes or not (self._open or self._counted_bytes)

    def _begin(self, wait: Wait) -> None:
        wait.opened = asyncio.get_running_loop().time()
        wait.peer.num_open += 1
        self._open[wait] = None

    async def _turn(self, wait: Wait) -> None:
        wait.turn = asyncio.get_running_loop().create_future()
        wait.peer.queue[wait] = None
        self._queue[wait.peer] = None
        self._look_again(_BUSY_LOOK_S)
        await wait.turn

    def _let_in(self) -> None:
        while self._queue and self._has_room():
            peer = first_in_turn(self._queue, asyncio.get_running_loop().time())[0]
            wait = next(iter(peer.queue))
            self._unqueue(wait)
            if wait.turn is not None and not wait.turn.done():
                self._begin(wait)
                wait.turn.set_result(None)

    def _unqueue(self, wait: Wait) -> None:
        wait.peer.queue.pop(wait, None)
        if not wait.peer.queue:
            self._queue.pop(wait.peer, None)

    def _leave(self, wait: Wait) -> None:
        """Removes a call from the waiting ones; its memory stays reserved until `read` ends."""
        if wait not in self._waits:
            return
        del self._waits[wait]
        self._unqueue(wait)
        wait.peer.num_calls -= 1
        if wait.opened is not None:
            wait.peer.num_open -= 1

    def _end(self, wait: Wait, error: ServingError) -> None:
        self._leave(wait)
        wait.is_ended = True
        if wait.opened is None:
            if wait.turn is not None and not wait.turn.done():
                wait.turn.set_exception(error)
            return
        # The handler is not cancelled, but notices that the call has ended: gRPC would keep the
        # buffer of a cancelled read.
        task = asyncio.ensure_future(self._end_call(wait.context, error))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def _look_again(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(min(seconds, self._timeout_s / 4), self._look)

    def _look(self) -> None:
        """Ends calls whose time is over, ends others for waiting calls, and lets calls in."""
        self._timer = None
        now = asyncio.get_running_loop().time()
        if self._is_stopping:
            for wait in list(self._waits):
                if now - wait.since >= min(self._timeout_s, _STOP_S):
                    self._end(wait, _stopping())
        reading = [wait for wait in self._open if wait in self._waits]
        for wait in reading:
            if wait.opened is not None and now - wait.opened >= self._timeout_s:
                distrust(wait.peer, now)
                self._end(wait, _silent(self._timeout_s))
        if self._queue:
            reading = [wait for wait in reading if wait in self._waits]
            num_ending = sum(wait.is_ended for wait in self._open)
            for wait in giving_way(reading, self._queue, num_ending, now):
                distrust(wait.peer, now)
                self._end(wait, _crowded())
        self._let_in()
        if self._waits or self._queue:
            self._look_again(_BUSY_LOOK_S if self._queue else _LOOK_S)


class LargeRequests:
    """The large messages that are answered at a time; parsed, they take many times their size.

    Args:
      budget_bytes: Memory that these messages may take together.
    """

    def __init__(self, budget_bytes: int):
        self._budget_bytes = budget_bytes
        self._used_bytes = 0
        self._queue: collections.deque[tuple[asyncio.Future[None], int]] = collections.deque()

    async def acquire(self, cost: int) -> None:
        """Waits until a message fits into the budget, and takes its memory.

        Args:
          cost: Number of bytes that the message takes.

        Raises:
          ServingError: RESOURCE_EXHAUSTED if the message exceeds the whole budget.
        """
        if cost > self._budget_bytes:
            raise ServingError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"The request would take {cost >> 20} MB of memory, more than "
                f"--max_request_memory_mb={self._budget_bytes >> 20}. Split it, or pack its values "
                "in `tensor_content`.",
            )
        if not self._queue and self._used_bytes + cost <= self._budget_bytes:
            self._used_bytes += cost
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append((turn, cost))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release(cost)
            raise

    def release(self, cost: int) -> None:
        """Gives back the memory that `acquire` took."""
        self._used_bytes -= cost
        while self._queue:
            turn, next_cost = self._queue[0]
            if not turn.done():
                if self._used_bytes + next_cost > self._budget_bytes:
                    return
                self._used_bytes += next_cost
                turn.set_result(None)
            self._queue.popleft()


def too_many() -> ServingError:
    """Returns the error for a call beyond the maximum number."""
    return ServingError(grpc.StatusCode.RESOURCE_EXHAUSTED, "Concurrent RPC limit exceeded!")


def _silent(timeout_s: float) -> ServingError:
    return ServingError(
        grpc.StatusCode.DEADLINE_EXCEEDED,
        f"The request did not arrive within --request_read_timeout_seconds={timeout_s:g}.",
    )


def _crowded() -> ServingError:
    return ServingError(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "The request did not arrive while others waited for its place.",
    )


def _stopping() -> ServingError:
    return ServingError(grpc.StatusCode.UNAVAILABLE, "The server is shutting down.")
