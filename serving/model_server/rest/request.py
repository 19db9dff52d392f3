"""One request over REST while it comes in: its size, its pace, what it unpacks to, who sends it."""

import asyncio
import contextlib
import re
import time
import zlib
from collections.abc import Awaitable, Callable, MutableSet
from typing import Any

from tornado import httputil
from tornado.http1connection import HTTP1Connection
from tornado.iostream import StreamClosedError, UnsatisfiableReadError

from serving.model_server.rest.api import Answer
from serving.model_server.rest.json_cost import SMALL_BYTES
from serving.model_server.rest.json_text import error_text
from serving.model_server.rest.memory_budget import MemoryAccount, MemoryBudget

# A body may pause for so long, and comes at this pace at least once as much time has gone.
STALL_S = 20.0
MIN_BYTES_PER_S = 1 << 15
# What is still read, and dropped, of a caller who is refused: one that is cut off while it sends
# never reads why.
_LINGER_S = 3.0
# A body that has paused for so long gives way where others find no room.
_PATIENCE_S = 3.0
_LINGER_BYTES = 1 << 28
_PIECE_BYTES = 1 << 16
# Unpacked at a time, before others have their turn.
_UNPACKED_PIECE_BYTES = 1 << 20
# Chunks that a body may have however small it is, and bytes that one has on average beyond.
_FREE_CHUNKS, _MIN_CHUNK_BYTES = 10_000, 16
_GZIP = 16 + zlib.MAX_WBITS
_DIGITS = re.compile(r"[0-9]+", re.ASCII)


class RestRequest(httputil.HTTPMessageDelegate):
    """Gathers one request, and hands it on or refuses it.

    Args:
      connection: Where it comes from.
      budget: What all requests together may take; a body counts from its headers on.
      max_body_bytes: Size of a body, packed and unpacked.
      admit: Why a caller with these headers is not let in; None: they are.
      count_refusal: Called for each that finds no room.
      answer: Takes the request, its body and its account, which it closes.
      coming: Where it stands as long as its body comes in.
      make_room: Ends another request that keeps all waiting; whether there was one.
    """

    def __init__(
        self,
        connection: HTTP1Connection,
        budget: MemoryBudget,
        max_body_bytes: int,
        admit: Callable[[httputil.HTTPHeaders], Answer | None],
        count_refusal: Callable[[], None],
        answer: Callable[["RestRequest", bytes, MemoryAccount], Awaitable[None]],
        coming: MutableSet["RestRequest"],
        make_room: Callable[[], bool],
    ):
        self.connection = connection
        self._account = budget.account(free_bytes=SMALL_BYTES)
        self._limit = max_body_bytes
        self._admit, self._count_refusal, self._answer = admit, count_refusal, answer
        self._coming, self._make_room = coming, make_room
        self._body = bytearray()
        self._num_received = self._num_chunks = 0
        self._unpacker: Any = None
        self._is_damaged = self._is_over = False
        self._declared: int | None = None

    async def headers_received(  # type: ignore[override]
        self,
        start_line: httputil.RequestStartLine | httputil.ResponseStartLine,
        headers: httputil.HTTPHeaders,
    ) -> None:
        """Refuses at once whom it can: before a byte of the body is read."""
        assert isinstance(start_line, httputil.RequestStartLine)
        self.start_line, self.headers = start_line, headers
        self._start = self._last = time.monotonic()
        refusal = self._admit(headers)
        if refusal is not None:
            return await self._refuse(refusal)
        length = headers.get("Content-Length", "").partition(",")[0]
        if _DIGITS.fullmatch(length):
            # Python reads no number of thousands of digits.
            declared = int(length) if len(length) < 20 else 10**20
            if declared > self._limit:
                return await self._refuse(_too_large(declared, self._limit))
            if not self._finds_room(declared):
                return await self._refuse(self._no_memory())
            self._declared = declared
        if headers.get("Content-Encoding", "").lower() == "gzip":
            self._unpacker = zlib.decompressobj(_GZIP)
        if self._has_body():
            self._coming.add(self)
        return None

    async def data_received(self, chunk: bytes) -> None:  # type: ignore[override]
        """Takes a piece of the body."""
        if self._is_over:
            return
        self._last = time.monotonic()
        self._num_received += len(chunk)
        self._num_chunks += 1
        if self._num_received > self._limit:
            return await self._refuse(_too_large(self._num_received, self._limit))
        if self._declared is None and (
            self._num_chunks > _FREE_CHUNKS + self._num_received / _MIN_CHUNK_BYTES
        ):
            return await self._refuse(Answer(400, error_text("The chunks of the body are tiny.")))
        if self._unpacker is None:
            await self._add(chunk)
        else:
            await self._unpack(chunk)

    def finish(self) -> None:
        """Hands the request on."""
        if self._is_over:
            return
        self._is_over = True
        self._coming.discard(self)
        if self._unpacker is not None and (self._is_damaged or not self._unpacker.eof):
            self._body.clear()
        body = bytes(self._body)
        self._body.clear()
        # The connection keeps the request, the request its task: the loop alone would not.
        self._task = asyncio.ensure_future(self._answer(self, body, self._account))

    def on_connection_close(self) -> None:
        """The caller has left before the end."""
        self._end()

    def check_pace(self, now: float) -> None:
        """Ends a request whose body does not come, or too slowly; called every other second.

        Args:
          now: Seconds of `time.monotonic()`.
        """
        if now - self._last > STALL_S or is_slow(self._num_received, now - self._start):
            self._give_up()

    def gives_way(self, now: float) -> bool:
        """Ends a request that has paused, for others; whether it had.

        Args:
          now: Seconds of `time.monotonic()`.
        """
        has_paused = now - self._last > _PATIENCE_S and not self._is_over
        if has_paused:
            self._give_up()
        return has_paused

    @property
    def last_byte(self) -> float:
        """When the last piece of its body came, of `time.monotonic()`."""
        return self._last

    def _give_up(self) -> None:
        if self._is_over:
            return
        stream = self.connection.stream
        text = error_text(
            f"The body must come, without pauses of {STALL_S:g} s, or {_PATIENCE_S:g} s where "
            "others wait."
        )
        if not stream.closed():
            with contextlib.suppress(StreamClosedError):
                stream.write(closing_answer(Answer(408, text)))
            stream.close()
        self._end()

    async def _unpack(self, chunk: bytes) -> None:
        """Unpacks a piece at a time: a kilobyte may hold a megabyte."""
        packed = chunk
        while packed and not (self._is_over or self._is_damaged or self._unpacker.eof):
            try:
                unpacked = self._unpacker.decompress(packed, _UNPACKED_PIECE_BYTES)
            except zlib.error:
                self._is_damaged = True
                self._body.clear()
                return
            packed = self._unpacker.unconsumed_tail
            await self._add(unpacked)
            await asyncio.sleep(0)

    async def _add(self, piece: bytes) -> None:
        size = len(self._body) + len(piece)
        if size > self._limit:
            return await self._refuse(_too_large(size, self._limit))
        if not self._finds_room(size):
            return await self._refuse(self._no_memory())
        self._body += piece
        return None

    def _finds_room(self, num_bytes: int) -> bool:
        while not self._account.raise_to(num_bytes):
            if not self._make_room():
                return False
        return True

    def _no_memory(self) -> Answer:
        self._count_refusal()
        return no_memory(self._account.budget.max_bytes)

    async def _refuse(self, answer: Answer) -> None:
        """Answers before the end of the request, and closes the connection."""
        self._end()
        stream = self.connection.stream
        try:
            await stream.write(closing_answer(answer))
            await asyncio.wait_for(self._drop_rest(), _LINGER_S)
        except (StreamClosedError, UnsatisfiableReadError, asyncio.TimeoutError):
            pass
        # What reads the body finds the stream closed, and ends.
        stream.close()

    async def _drop_rest(self) -> None:
        if not self._has_body():
            return
        for _ in range(_LINGER_BYTES // _PIECE_BYTES):
            await self.connection.stream.read_bytes(_PIECE_BYTES, partial=True)

    def _has_body(self) -> bool:
        return "Content-Length" in self.headers or "Transfer-Encoding" in self.headers

    def _end(self) -> None:
        self._is_over = True
        self._coming.discard(self)
        self._body.clear()
        self._account.close()


def is_slow(num_bytes: int, elapsed_s: float) -> bool:
    """Whether so few bytes in that time are below the pace that either side must keep."""
    return num_bytes < (elapsed_s - STALL_S) * MIN_BYTES_PER_S


def closing_answer(answer: Answer) -> bytes:
    """An answer as bytes, after which the connection is closed."""
    body = answer.encoded()
    lines = [
        f"HTTP/1.1 {answer.status} {httputil.responses.get(answer.status, 'Unknown')}",
        f"Content-Type: {answer.content_type}",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *(f"{name}: {value}" for name, value in answer.headers),
    ]
    return "\r\n".join(lines).encode("latin1") + b"\r\n\r\n" + body


def no_memory(max_bytes: int) -> Answer:
    """The answer to a request for which there is no memory now."""
    text = f"The requests under way must fit the server's {max_bytes >> 20} MB; ask again."
    return Answer(429, error_text(text))


def _too_large(size: int, limit: int) -> Answer:
    """The answer to a body beyond the limit, in gRPC's words."""
    return Answer(413, error_text(f"Received message larger than max ({size} vs. {limit})"))
