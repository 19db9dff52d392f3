"""A relay between a client and its server that delays, is slow, or sends nothing."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator


class Relay:
    """A relay of TCP, to be called in place of a server; a context manager runs it.

    Args:
      port: Port of the server on this machine.
      delay_s: Delay of a byte in one direction, seconds.
      bytes_per_s: Rate of all connections together to the server; None: unlimited.

    Attributes:
      target: `host:port` of the relay.
      is_silent: Whether connections are accepted but carry nothing, as where a machine hangs.
      num_connections: Number of accepted connections.
    """

    def __init__(self, port: int, delay_s: float = 0.0, bytes_per_s: float | None = None):
        self._port, self._delay_s = port, delay_s
        self._bytes_per_s = bytes_per_s
        self._free_at = 0.0
        self.is_silent = False
        self.num_connections = 0
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> "Relay":
        self._thread.start()
        starting = asyncio.start_server(self._carry, "127.0.0.1", 0)
        self._server = asyncio.run_coroutine_threadsafe(starting, self._loop).result(30)
        self.target = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    def __exit__(self, *exception) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()

    def end_connections(self) -> None:
        """Ends the open connections, as when the server is killed."""
        asyncio.run_coroutine_threadsafe(self._end_connections(), self._loop).result(30)

    async def _end(self) -> None:
        self._server.close()
        await self._end_connections()

    async def _end_connections(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _carry(self, reader, writer) -> None:
        self.num_connections += 1
        task = asyncio.current_task()
        self._tasks.add(task)
        streams = [writer]
        try:
            if self.is_silent:
                await asyncio.Event().wait()
            # The handshake of TCP, which ends here, goes there and back as well.
            await asyncio.sleep(2 * self._delay_s)
            with contextlib.suppress(OSError):
                from_server, to_server = await asyncio.open_connection("127.0.0.1", self._port)
                streams.append(to_server)
                await asyncio.gather(
                    self._copy(reader, to_server, self._bytes_per_s),
                    self._copy(from_server, writer),
                )
        except asyncio.CancelledError:
            pass
        finally:
            self._tasks.discard(task)
            for stream in streams:
                stream.close()

    async def _copy(self, reader, writer, bytes_per_s=None) -> None:
        """Copies in one direction; what arrives meanwhile is under way as well."""
        waiting: asyncio.Queue = asyncio.Queue()

        async def write_all() -> None:
            while True:
                time, data = await waiting.get()
                await asyncio.sleep(time - self._loop.time())
                if not data:
                    break
                writer.write(data)
                await writer.drain()
            writer.close()

        writing = asyncio.ensure_future(write_all())
        try:
            data = b"begin"
            while data:
                data = b""
                with contextlib.suppress(OSError):
                    data = await reader.read(1 << 16)
                if bytes_per_s:
                    self._free_at = max(self._free_at, self._loop.time()) + len(data) / bytes_per_s
                    await asyncio.sleep(self._free_at - self._loop.time())
                waiting.put_nowait((self._loop.time() + self._delay_s, data))
            with contextlib.suppress(OSError):
                await writing
        finally:
            writing.cancel()


@contextlib.contextmanager
def relay_to(
    target: str, delay_s: float = 0.0, bytes_per_s: float | None = None
) -> Iterator[Relay]:
    """Runs a relay to the server at `host:port`."""
    with Relay(int(target.rpartition(":")[2]), delay_s, bytes_per_s) as relay:
        yield relay
