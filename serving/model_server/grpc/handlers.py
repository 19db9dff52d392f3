"""Handlers of gRPC calls as coroutines, whose `ServingError` becomes the status of the call."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

import grpc
import grpc.aio

from serving.model_server.errors import ServingError

_T = TypeVar("_T")

# An error message is sent in a header, whose size is limited.
_MAX_ERROR_BYTES = 1024


class Handlers(grpc.GenericRpcHandler):
    """The handlers of all methods, by the methods' full names."""

    def __init__(self, handlers: Mapping[str, grpc.RpcMethodHandler]):
        self._handlers = handlers

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Returns the handler of a method; None: there is no such method."""
        return self._handlers.get(handler_call_details.method)


def unary_handler(
    answer: Callable[[grpc.aio.ServicerContext], Coroutine[Any, Any, bytes]],
) -> grpc.RpcMethodHandler:
    """Makes the handler of a method with one message, which `answer` reads, and one answer."""

    async def handle(messages: object, context: grpc.aio.ServicerContext) -> bytes:
        return await _with_errors(context, answer(context))

    return grpc.stream_unary_rpc_method_handler(handle)


def stream_handler(
    answer: Callable[[grpc.aio.ServicerContext], Coroutine[Any, Any, None]],
) -> grpc.RpcMethodHandler:
    """Makes the handler of a method whose messages and answers `answer` reads and writes itself."""

    async def handle(messages: object, context: grpc.aio.ServicerContext) -> None:
        await _with_errors(context, answer(context))

    return grpc.stream_stream_rpc_method_handler(handle)


async def _with_errors(context: grpc.aio.ServicerContext, answering: Coroutine[Any, Any, _T]) -> _T:
    """Awaits an answer; a serving error ends the call with its code and message."""
    try:
        return await answering
    except ServingError as error:
        # A new error without the traceback, whose frames hold the message: the library keeps the
        # raised error until Python's garbage collector finds it.
        failure = ServingError(error.code, error.message)
    await _abort(context, failure)
    raise AssertionError("`_abort` does not return.")


async def _abort(context: grpc.aio.ServicerContext, error: ServingError) -> None:
    """Ends a call from its handler; always raises."""
    message = error.message.encode("utf-8", "replace")
    if len(message) > _MAX_ERROR_BYTES:
        message = message[:_MAX_ERROR_BYTES] + b"...TRUNCATED"
    try:
        await context.abort(error.code, message.decode("utf-8", "replace"))
    except grpc.aio.AbortError:
        raise
    except grpc.aio.BaseError as gone:  # the library or the caller has ended the call already
        raise asyncio.CancelledError from gone


async def end_call(context: grpc.aio.ServicerContext, error: ServingError) -> None:
    """Ends a call from outside its handler."""
    try:
        await _abort(context, error)
    except (grpc.aio.AbortError, asyncio.CancelledError):
        pass
