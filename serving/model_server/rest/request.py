"""A REST request while it is received: checks of its caller, size, pace and unpacked size."""

import asyncio
import contextlib
import http.client
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

# Maximum pause of a body in seconds, and its minimum pace after as many seconds.
STALL_S = 20.0
MIN_BYTES_PER_S = 1 << 15
# The body of a refused request is still read and dropped, up to these limits: a caller that is cut
# off while it sends never reads the reason.
_LINGER_S = 3.0
# A request whose body has paused for so long is ended if others need the memory.
_PATIENCE_S = 3.0
_LINGER_BYTES = 1 << 28
_PIECE_BYTES = 1 << 16
# Bytes that are unpacked at a time, before other tasks of the loop run.
_UNPACKED_PIECE_BYTES = 1 << 20
# Number of chunks that any body may have, and minimum mean size of further chunks.
_FREE_CHUNKS, _MIN_CHUNK_BYTES = 10_000, 16
_GZIP = 16 + zlib.MAX_WBITS
_DIGITS = re.compile(r"[0-9]+", re.ASCII)


class RestRequest(httputil.HTTPMessageDelegate):
    """A request that is being received, and is then answered or refused.

    Args:
      connection: Connection of the request.
      budget: Memory budget of all requests; a body counts as soon as its headers have arrived.
      max_body_bytes: Maximum size of a body, compressed and uncompressed.
      admit: Function that returns the refusal of a caller by the headers; None: the caller is
        admitted.
      count_refusal: Function that is called for each request without enough memory.
      answer: Function that answers the request, given its body and its account, which it closes.
      coming: Set that holds the request while its body is received.
      make_room: Function that ends another request whose body has paused, and returns whether there
        was one.
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

    async def headers_received(
        self,
        start_line: httputil.RequestStartLine | httputil.ResponseStartLine,
        headers: httputil.HTTPHeaders,
    ) -> None:
        """Checks the headers, to refuse a request before a byte of the body is read."""
        assert isinstance(start_line, httputil.RequestStartLine)
        self.start_line, self.headers = start_line, headers
        self._start = self._last = time.monotonic()
        refusal = self._admit(headers)
        if refusal is not None:
            return await self._refuse(refusal)
        length = headers.get("Content-Length", "").partition(",")[0]
        if _DIGITS.fullmatch(length):
            # Python refuses to convert numbers with thousands of digits.
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

    async def data_received(self, chunk: bytes) -> None:
        """Receives a piece of the body."""
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
            return await self._refuse(
                Answer(400, error_text("The chunks of the body are too small."))
            )
        if self._unpacker is None:
            await self._add(chunk)
        else:
            await self._unpack(chunk)

    def finish(self) -> None:
        """Starts to answer the request, which has arrived completely."""
        if self._is_over:
            return
        self._is_over = True
        self._coming.discard(self)
        if self._unpacker is not None and (self._is_damaged or not self._unpacker.eof):
            self._body.clear()
        body = bytes(self._body)
        self._body.clear()
        # The connection keeps the request, and the request keeps its task: the loop alone would not
        # keep the task alive.
        self._task = asyncio.ensure_future(self._answer(self, body, self._account))

    def on_connection_close(self) -> None:
        """Ends the request, because the caller has left."""
        self._end()

    def check_pace(self, now: float) -> None:
        """Ends the request if its body has paused or is too slow; called once per second.

        Args:
          now: Current time of `time.monotonic()`.
        """
        if now - self._last > STALL_S or is_slow(self._num_received, now - self._start):
            self._give_up()

    def gives_way(self, now: float) -> bool:
        """Ends the request in favour of others if its body has paused; returns whether it had.

        Args:
          now: Current time of `time.monotonic()`.
        """
        has_paused = now - self._last > _PATIENCE_S and not self._is_over
        if has_paused:
            self._give_up()
        return has_paused

    @property
    def last_byte(self) -> float:
        """Returns the time of `time.monotonic()` at which the last piece of the body arrived."""
        return self._last

    def _give_up(self) -> None:
        if self._is_over:
            return
        stream = self.connection.stream
        text = error_text(
            f"The body must arrive without pauses of {STALL_S:g} s, or of {_PATIENCE_S:g} s "
            "while others wait."
        )
        if not stream.closed():
            with contextlib.suppress(StreamClosedError):
                stream.write(closing_answer(Answer(408, text)))
            stream.close()
        self._end()

    async def _unpack(self, chunk: bytes) -> None:
        """Unpacks a chunk piece by piece, because a kilobyte may unpack to a megabyte."""
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
        """Refuses the request before its end, and closes the connection."""
        self._end()
        stream = self.connection.stream
        try:
            await stream.write(closing_answer(answer))
            await asyncio.wait_for(self._drop_rest(), _LINGER_S)
        except (StreamClosedError, UnsatisfiableReadError, asyncio.TimeoutError):
            pass
        # Tornado, which reads the body, finds the stream closed and ends.
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
    """Returns whether a number of bytes in a time is below the minimum pace of both directions."""
    return num_bytes < (elapsed_s - STALL_S) * MIN_BYTES_PER_S


def closing_answer(answer: Answer) -> bytes:
    """Returns the bytes of an answer after which the connection is closed."""
    body = answer.encoded()
    lines = [
        f"HTTP/1.1 {answer.status} {http.client.responses.get(answer.status, 'Unknown')}",
        f"Content-Type: {answer.content_type}",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *(f"{name}: {value}" for name, value in answer.headers),
    ]
    return "\r\n".join(lines).encode("latin1") + b"\r\n\r\n" + body


def no_memory(max_bytes: int) -> Answer:
    """Returns the answer to a request for which there is not enough memory now."""
    text = f"The requests under way must fit into the server's {max_bytes >> 20} MB; try again."
    return Answer(429, error_text(text))


def _too_large(size: int, limit: int) -> Answer:
    """Returns the answer to a body that is too large, in gRPC's words."""
    return Answer(413, error_text(f"Received message larger than max ({size} vs. {limit})"))
