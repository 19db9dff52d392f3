"""The gRPC server: a port, an event loop in its own thread, and threads that compute answers.

A call holds a thread only from the arrival of its whole message until its answer is computed:
callers that send nothing or read nothing hold no thread. Methods with one message are registered as
streams of messages, which are the same on the wire, so that the event loop can wait for the
message.
"""

import asyncio
import collections
import concurrent.futures
import dataclasses
import functools
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, TypeVar

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from serving.model_server.errors import ServingError
from serving.model_server.grpc.compressed_message import is_compressed, too_large, unpack
from serving.model_server.grpc.connections import connection_options
from serving.model_server.grpc.handlers import Handlers, end_call, stream_handler, unary_handler
from serving.model_server.grpc.health import HealthService
from serving.model_server.grpc.loop import event_loop, run_on_loop
from serving.model_server.grpc.message_cost import SMALL_BYTES
from serving.model_server.grpc.request_memory import LargeRequests, WaitingCalls, too_many
from serving.model_server.grpc.service import Call, Method
from serving.model_server.grpc.work import Work, parse_message
from serving.model_server.ports import with_port

_T = TypeVar("_T")

_HEALTH = "grpc.health.v1.Health"
# Health has its own memory, for this many messages, so that it is answered when none else is left.
_NUM_HEALTH_MESSAGES = 4
_NUM_SLOW_THREADS = 2
# Memory of an answer as a multiple of its size: the library keeps the answer and its request, and a
# copy to send.
_ANSWER_COPIES = 3

Authorize = Callable[[str, Sequence[tuple[str, str | bytes]]], ServingError | None]


@dataclasses.dataclass(frozen=True)
class GrpcLimits:
    """The limits on gRPC callers.

    Attributes:
      max_workers: Number of requests answered at a time.
      max_requests: Maximum number of running requests, and also of calls that wait for their
        message.
      max_message_bytes: Maximum size of an uncompressed request.
      max_memory_bytes: Memory for running requests and for calls that wait for their message.
      read_timeout_s: Seconds within which a call's message must arrive, once it is being read.
    """

    max_workers: int
    max_requests: int
    max_message_bytes: int
    max_memory_bytes: int
    read_timeout_s: float


class GrpcServer:
    """A server of methods, health and reflection over gRPC; the constructor opens the port.

    Args:
      methods: Methods by full name.
      address: Host and port to listen on; port 0: the operating system chooses one.
      limits: Limits on callers.
      credentials: TLS credentials; None: unencrypted connections.
      authorize: Function that takes a method's full name and a call's metadata before the message
        is read, and returns the error that ends the call, or None.
      has_health_service: Whether the server has the standard gRPC health service.
      has_reflection: Whether callers can ask for the list of methods.
      channel_arguments: Further options of the library, such as `grpc.max_connection_age_ms`.

    Attributes:
      port: Port that the server listens on.

    Raises:
      RuntimeError: If the port is taken.
    """

    def __init__(
        self,
        methods: Mapping[str, Method],
        address: tuple[str, int],
        limits: GrpcLimits,
        *,
        credentials: grpc.ServerCredentials | None = None,
        authorize: Authorize | None = None,
        has_health_service: bool = True,
        has_reflection: bool = False,
        channel_arguments: Sequence[tuple[str, int | str]] = (),
    ):
        self._limits = limits
        self._authorize = authorize
        self._workers = _threads(limits.max_workers, "grpc")
        self._slow_workers = _threads(_NUM_SLOW_THREADS, "grpc-slow")
        # One message at a time, because each may take the memory of the largest message.
        self._readers = _threads(1, "grpc-read")
        self._num_under_way = 0
        self._unread_bytes = 0
        self._done: collections.deque[Work] = collections.deque()
        self._is_woken = False
        self._large = LargeRequests(limits.max_memory_bytes)
        self._waiting = self._new_waiting(limits.max_memory_bytes)
        self._waiting_health = self._new_waiting(_NUM_HEALTH_MESSAGES * limits.max_message_bytes)
        self._health = HealthService() if has_health_service else None
        self._handlers = {
            name: unary_handler(functools.partial(self._answer, name, method))
            for name, method in methods.items()
        }
        services = {name.split("/")[1] for name in methods}
        if self._health:
            services.add(_HEALTH)
            self._handlers[f"/{_HEALTH}/Check"] = unary_handler(self._check_health)
            self._handlers[f"/{_HEALTH}/Watch"] = stream_handler(self._watch_health)
        if has_reflection:
            services.add(reflection.SERVICE_NAME)
            self._reflection = reflection.aio.ReflectionServicer(services)
            name = f"/{reflection.SERVICE_NAME}/ServerReflectionInfo"
            self._handlers[name] = stream_handler(self._reflect)
        options = [*connection_options(limits.max_message_bytes), *channel_arguments]
        self._server, self.port = run_on_loop(self._bind(address, options, credentials))

    def start(self) -> None:
        """Starts to answer calls."""
        run_on_loop(self._server.start())

    def stop(self, grace_s: float) -> bool:
        """Refuses new calls, waits for running ones, and closes the port.

        Args:
          grace_s: Seconds that running calls have; then they are cut off.

        Returns:
          Whether all running requests were answered.
        """
        is_drained = run_on_loop(self._stop(grace_s))
        for workers in (self._workers, self._slow_workers, self._readers):
            workers.shutdown(wait=False)
        return is_drained

    async def _bind(
        self,
        address: tuple[str, int],
        options: list[tuple[str, Any]],
        credentials: grpc.ServerCredentials | None,
    ) -> tuple[grpc.aio.Server, int]:
        server = grpc.aio.server(handlers=[Handlers(self._handlers)], options=options)
        target = with_port(*address)
        if credentials is None:
            return server, server.add_insecure_port(target)
        return server, server.add_secure_port(target, credentials)

    async def _stop(self, grace_s: float) -> bool:
        await self._server.start()  # a server that was never started would keep its port
        if self._health:
            self._health.stop()
        self._waiting.stop()
        self._waiting_health.stop()
        await self._server.stop(grace_s)
        return not self._num_under_way

    def _new_waiting(self, budget_bytes: int) -> WaitingCalls:
        return WaitingCalls(
            max_message_bytes=self._limits.max_message_bytes,
            budget_bytes=budget_bytes,
            max_calls=self._limits.max_requests,
            timeout_s=self._limits.read_timeout_s,
            end=end_call,
            free_bytes=SMALL_BYTES,
        )

    async def _answer(self, name: str, method: Method, context: grpc.aio.ServicerContext) -> bytes:
        call = Call(context.invocation_metadata())
        self._require_allowed(name, call)
        self._require_place()
        message = _one(name, await self._waiting.read(context, self._unpack))
        try:
            self._require_place()  # other messages may have arrived meanwhile
        except ServingError:
            self._waiting.release(message)
            raise
        self._num_under_way += 1
        answer = await self._compute(method, message, call)
        self._count_unread(len(answer), context)
        if call.answer_metadata:
            context.set_trailing_metadata(call.answer_metadata)
        return answer

    def _count_unread(self, size: int, context: grpc.aio.ServicerContext) -> None:
        """Counts the memory of an answer until it is sent, as a caller may never read it."""
        if size <= SMALL_BYTES:
            return
        size *= _ANSWER_COPIES
        self._unread_bytes += size

        def on_sent(context: grpc.aio.ServicerContext) -> None:
            self._unread_bytes -= size

        context.add_done_callback(on_sent)

    async def _compute(self, method: Method, message: bytes, call: Call) -> bytes:
        """Answers a message; its memory is released when the thread has finished."""
        work = Work(method, message, call, asyncio.get_running_loop().create_future())
        try:
            if len(message) > SMALL_BYTES:
                await self._read_large(work)
            workers = self._slow_workers if method.is_slow else self._workers
            workers.submit(self._run, work)
        except BaseException:
            self._finish(work)
            raise
        try:
            await work.answer
        except asyncio.CancelledError:
            call.is_active = False
            raise
        if work.error is not None:
            # A new error: the traceback of the raised one holds the work, which must not hold the
            # error in turn.
            raise ServingError(work.error.code, work.error.message)
        return work.result

    async def _read_large(self, work: Work) -> None:
        """Waits until there is memory for a large message, and parses it.

        All large messages are parsed in one thread: every thread keeps its memory for its next
        message, so that several threads would keep several times as much.
        """
        if len(work.message) > work.method.max_bytes:
            raise too_large(len(work.message), work.method.max_bytes)
        loop = asyncio.get_running_loop()
        cost = await loop.run_in_executor(self._readers, work.method.cost, work.message)
        await self._large.acquire(cost)
        work.cost = cost
        work.request = await loop.run_in_executor(
            self._readers, parse_message, work.method.request_type, work.message
        )

    def _run(self, work: Work) -> None:
        """Computes an answer in a thread, and wakes the loop once for all finished answers."""
        work.run()
        self._done.append(work)
        if not self._is_woken:
            self._is_woken = True
            event_loop().call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._is_woken = False
        while self._done:
            work = self._done.popleft()
            self._finish(work)
            if not work.answer.done():  # otherwise the caller has gone
                work.answer.set_result(None)

    def _finish(self, work: Work) -> None:
        self._num_under_way -= 1
        self._waiting.release(work.message)
        if work.cost:
            self._large.release(work.cost)

    def _require_allowed(self, name: str, call: Call) -> None:
        error = self._authorize(name, call.metadata) if self._authorize else None
        if error is not None:
            raise error

    def _require_place(self) -> None:
        if self._num_under_way >= self._limits.max_requests:
            raise too_many()
        if self._unread_bytes > self._limits.max_memory_bytes:
            raise ServingError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"Callers leave {self._unread_bytes >> 20} MB of answers unread.",
            )

    async def _unpack(self, message: bytes) -> bytes:
        if not is_compressed(message):
            return message
        loop = asyncio.get_running_loop()
        limit = self._limits.max_message_bytes
        return await loop.run_in_executor(self._readers, unpack, message, limit)

    async def _read_now(
        self,
        name: str,
        request_type: Any,
        waiting: WaitingCalls,
        context: grpc.aio.ServicerContext,
    ) -> Any:
        """Reads the next message of a call that the loop answers; None: there is no message."""
        message = await waiting.read(context, self._unpack)
        if message is None:
            return None
        try:
            return parse_message(request_type, message)
        finally:
            waiting.release(message)

    async def _read_health(self, name: str, context: grpc.aio.ServicerContext) -> Any:
        self._require_allowed(name, Call(context.invocation_metadata()))
        request_type = health_pb2.HealthCheckRequest
        return _one(name, await self._read_now(name, request_type, self._waiting_health, context))

    async def _check_health(self, context: grpc.aio.ServicerContext) -> bytes:
        assert self._health is not None
        request = await self._read_health(f"/{_HEALTH}/Check", context)
        return self._health.check(request).SerializeToString()

    async def _watch_health(self, context: grpc.aio.ServicerContext) -> None:
        assert self._health is not None
        request = await self._read_health(f"/{_HEALTH}/Watch", context)
        await self._health.watch(request, context)

    async def _reflect(self, context: grpc.aio.ServicerContext) -> None:
        name = f"/{reflection.SERVICE_NAME}/ServerReflectionInfo"
        self._require_allowed(name, Call(context.invocation_metadata()))

        async def requests() -> AsyncIterator[Any]:
            request_type = reflection_pb2.ServerReflectionRequest
            while request := await self._read_now(name, request_type, self._waiting, context):
                yield request

        async for response in self._reflection.ServerReflectionInfo(requests(), context):
            await context.write(response.SerializeToString())


def _threads(number: int, name: str) -> concurrent.futures.ThreadPoolExecutor:
    return concurrent.futures.ThreadPoolExecutor(number, thread_name_prefix=name)


def _one(name: str, message: _T | None) -> _T:
    if message is None:
        raise ServingError(
            grpc.StatusCode.UNIMPLEMENTED, f'"{name}" requires exactly one request message.'
        )
    return message
