"""Memory that gRPC requests take: calls whose message has not come, and messages under way.

HTTP/2 buffers a message only once somebody reads it, and then up to its whole size: a call that
waits for its message is counted with the largest there may be. What does not fit waits unread.
Where callers that send nothing hold all the room, the one that has done so for longest is ended,
the sooner the more there are behind it. Everything here runs on one event loop, without locks.
"""

import asyncio
import collections
from collections.abc import Awaitable, Callable

import grpc

from serving.model_server.errors import ServingError

# Seconds that a call may wait for its message while others wait for its place: with a few behind
# it, and at the least.
_GRACE_S, _MIN_GRACE_S = 1.0, 0.05
_LOOK_S, _BUSY_LOOK_S = 0.25, 0.02


class _Wait:
    """One call that waits for its message."""

    __slots__ = ("context", "is_open", "opened", "since", "turn")

    def __init__(self, context: grpc.aio.ServicerContext, since: float):
        self.context = context
        self.since = self.opened = since
        self.is_open = False
        self.turn: asyncio.Future[None] | None = None


class WaitingCalls:
    """Reads the messages of calls within a budget and a time.

    Args:
      max_message_bytes: Size of a message, unpacked.
      budget_bytes: For calls that are read and messages that are held; one call always fits.
      max_calls: Calls that wait; of more, the one that waits for longest is ended.
      timeout_s: Seconds until a call without its message is ended.
      end: Ends a call with an error from outside its handler.
    """

    def __init__(
        self,
        *,
        max_message_bytes: int,
        budget_bytes: int,
        max_calls: int,
        timeout_s: float,
        end: Callable[[grpc.aio.ServicerContext, ServingError], Awaitable[None]],
    ):
        self._max_message_bytes = max_message_bytes
        self._budget_bytes = budget_bytes
        self._max_calls = max_calls
        self._timeout_s = timeout_s
        self._end_call = end
        self._waits: dict[_Wait, None] = {}  # oldest first
        self._queue: collections.deque[_Wait] = collections.deque()
        self._num_open = 0
        self._held_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._is_stopping = False
        self._ending: set[asyncio.Future] = set()

    @property
    def num_waiting(self) -> int:
        """Calls that wait for their message or for their turn to be read."""
        return len(self._waits)

    @property
    def held_bytes(self) -> int:
        """Size of the messages that have come and were not let go."""
        return self._held_bytes

    def stop(self) -> None:
        """From now on a call has a moment to bring its message."""
        self._is_stopping = True
        self._look_again(0.0)

    async def read(
        self,
        context: grpc.aio.ServicerContext,
        unpack: Callable[[bytes], Awaitable[bytes]],
    ) -> bytes | None:
        """Reads the next message of a call and holds it; `release` lets it go.

        Args:
          context: The call.
          unpack: Makes the message out of what came; told apart from it by itself.

        Returns:
          The message; None if the caller sends none.

        Raises:
          ServingError: If the call had to go before it was read.
          grpc.aio.AbortError: If it was ended while it was read.
        """
        loop = asyncio.get_running_loop()
        if len(self._waits) >= self._max_calls:
            self._end(next(iter(self._waits)), _crowded())
        wait = _Wait(context, loop.time())
        self._waits[wait] = None
        if self._timer is None:
            self._look_again(_LOOK_S)
        try:
            if self._queue or not self._has_room():
                await self._turn(wait)
            else:
                self._open(wait)
            message = await context.read()
            self._waits.pop(wait, None)
            if message is grpc.aio.EOF:
                return None
            message = await unpack(message)
            self._held_bytes += len(message)
            return message
        finally:
            self._waits.pop(wait, None)
            if wait.is_open:
                self._num_open -= 1
                self._let_in()

    def release(self, message: bytes) -> None:
        """Lets a message go that was read here."""
        self._held_bytes -= len(message)
        self._let_in()

    def _has_room(self) -> bool:
        needed = (self._num_open + 1) * self._max_message_bytes + self._held_bytes
        return needed <= self._budget_bytes or not (self._num_open or self._held_bytes)

    def _open(self, wait: _Wait) -> None:
        wait.is_open = True
        wait.opened = asyncio.get_running_loop().time()
        self._num_open += 1

    async def _turn(self, wait: _Wait) -> None:
        wait.turn = asyncio.get_running_loop().create_future()
        self._queue.append(wait)
        self._look_again(_BUSY_LOOK_S)
        await wait.turn

    def _let_in(self) -> None:
        while self._queue and self._has_room():
            wait = self._queue.popleft()
            if wait.turn is not None and not wait.turn.done():
                self._open(wait)
                wait.turn.set_result(None)

    def _end(self, wait: _Wait, error: ServingError) -> None:
        self._waits.pop(wait, None)
        if not wait.is_open:
            if wait.turn is not None and not wait.turn.done():
                wait.turn.set_exception(error)
            return
        # Its handler is not cancelled but finds the call ended: gRPC keeps what a cancelled read
        # was to fill.
        task = asyncio.ensure_future(self._end_call(wait.context, error))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def _look_again(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(min(seconds, self._timeout_s / 4), self._look)

    def _look(self) -> None:
        """Ends the calls whose time is over."""
        self._timer = None
        now = asyncio.get_running_loop().time()
        timeout_s = min(self._timeout_s, _GRACE_S) if self._is_stopping else self._timeout_s
        for wait in list(self._waits):
            if now - wait.since < timeout_s:
                break
            self._end(wait, _stopping() if self._is_stopping else _silent(self._timeout_s))
        waiting = [wait for wait in self._queue if wait.turn and not wait.turn.done()]
        self._queue = collections.deque(waiting)
        if waiting:
            grace_s = max(_MIN_GRACE_S, _GRACE_S / (1 + len(waiting) / max(1, self._num_open)))
            late = [w for w in self._waits if w.is_open and now - w.opened >= grace_s]
            for wait in late[: len(waiting)]:
                self._end(wait, _crowded())
        self._let_in()
        if self._waits or self._queue:
            self._look_again(_BUSY_LOOK_S if self._queue else _LOOK_S)


class LargeRequests:
    """Answers few large messages at a time: read, they take many times their size.

    Args:
      budget_bytes: What they may take together.
    """

    def __init__(self, budget_bytes: int):
        self._budget_bytes = budget_bytes
        self._used_bytes = 0
        self._queue: collections.deque[tuple[asyncio.Future[None], int]] = collections.deque()

    async def acquire(self, cost: int) -> None:
        """Waits for its turn.

        Args:
          cost: Bytes that the message takes.

        Raises:
          ServingError: RESOURCE_EXHAUSTED if it never fits.
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
        """Gives back what `acquire` took."""
        self._used_bytes -= cost
        while self._queue:
            turn, next_cost = self._queue[0]
            if not turn.done():
                if self._used_bytes + next_cost > self._budget_bytes:
                    return
                self._used_bytes += next_cost
                turn.set_result(None)
            self._queue.popleft()


def _silent(timeout_s: float) -> ServingError:
    return ServingError(
        grpc.StatusCode.DEADLINE_EXCEEDED,
        f"The request did not come within --request_read_timeout_seconds={timeout_s:g}.",
    )


def _crowded() -> ServingError:
    return ServingError(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "The request did not come while others waited for its place.",
    )


def _stopping() -> ServingError:
    return ServingError(grpc.StatusCode.UNAVAILABLE, "The server is shutting down.")
