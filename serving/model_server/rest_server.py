"""The HTTP side of REST: sockets, an event loop in a thread of its own, and threads that answer."""

import asyncio
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import tornado.httpserver
import tornado.netutil
import tornado.web

from serving.model_server.rest_api import RestApi

_MAX_BODY_BYTES = 2**31 - 1


class RestServer:
    """Serves the REST interface.

    Args:
      api: What answers.
      host: Address to listen on.
      port: Port to listen on; 0: one the operating system chooses.
      max_workers: Requests answered at a time.

    Attributes:
      port: The port it listens on.

    Raises:
      OSError: If the port is taken.
    """

    def __init__(self, api: RestApi, host: str, port: int, max_workers: int):
        self._api = api
        self._sockets = tornado.netutil.bind_sockets(port, host, family=socket.AF_INET)
        self.port: int = self._sockets[0].getsockname()[1]
        self._executor = ThreadPoolExecutor(max_workers, thread_name_prefix="rest")
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._num_requests = 0
        self._grace_s = 0.0
        self._thread = threading.Thread(target=self._run, name="rest-server", daemon=True)

    def start(self) -> None:
        """Starts to answer; the port has been open since the constructor."""
        self._thread.start()

    def stop(self, grace_s: float) -> None:
        """Takes no more connections, lets requests under way finish, and ends.

        Args:
          grace_s: Seconds the requests under way have.
        """
        self._grace_s = grace_s
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        self._executor.shutdown(wait=False)

    async def answer(self, handler: tornado.web.RequestHandler) -> None:
        """Answers one request, outside the event loop's thread."""
        request = handler.request
        self._num_requests += 1
        self._idle.clear()
        try:
            answer = await self._loop.run_in_executor(
                self._executor,
                self._api.answer,
                request.method or "",
                request.path,
                request.body,
                request.headers.get("Origin", ""),
            )
            handler.set_status(answer.status)
            handler.set_header("Content-Type", answer.content_type)
            await handler.finish(answer.body.encode("utf-8", "surrogateescape"))
        finally:
            self._num_requests -= 1
            if not self._num_requests:
                self._idle.set()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        application = tornado.web.Application(
            [(r".*", _Handler, {"server": self})],
            log_function=lambda handler: None,  # a refused request is the caller's to report
        )
        server = tornado.httpserver.HTTPServer(
            application,
            decompress_request=True,
            max_body_size=_MAX_BODY_BYTES,
            max_buffer_size=_MAX_BODY_BYTES,
        )
        server.add_sockets(self._sockets)
        await self._stopping.wait()
        server.stop()
        try:
            await asyncio.wait_for(self._idle.wait(), self._grace_s)
        except asyncio.TimeoutError:
            pass  # the grace is over: what is still under way is cut off
        await server.close_all_connections()


class _Handler(tornado.web.RequestHandler):
    def initialize(self, server: RestServer) -> None:
        self._server = server

    async def _answer(self) -> None:
        await self._server.answer(self)

    get = post = put = delete = head = patch = options = _answer  # type: ignore[assignment]

    def compute_etag(self) -> None:
        """None: answers are not cached."""
        return None
