"""Bytes that are not the message a gRPC method takes: the caller's mistake, and told as such.

Left to itself, gRPC answers them with INTERNAL, the code of a server's own faults. Only here is it
known that there was no fault: monitoring would otherwise alarm about every scanner.
"""

from collections.abc import Callable, Iterator
from typing import Any

import grpc
from google.protobuf.message import DecodeError

# In place of a message that could not be read.
_MALFORMED = object()


class MalformedRequestInterceptor(grpc.ServerInterceptor):
    """Answers INVALID_ARGUMENT where a request cannot be read."""

    def __init__(self) -> None:
        self._handlers: dict[str, grpc.RpcMethodHandler] = {}

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler | None:
        """Gives a method's handler, which is made once and kept; None: there is no such method."""
        handler = self._handlers.get(handler_call_details.method)
        if handler is None:
            found = continuation(handler_call_details)
            if found is None:
                return None
            handler = self._handlers[handler_call_details.method] = _refusing(found)
        return handler


def _refusing(handler: grpc.RpcMethodHandler) -> grpc.RpcMethodHandler:
    deserialize = handler.request_deserializer

    def read(message: bytes) -> Any:
        try:
            return deserialize(message)
        except (DecodeError, UnicodeDecodeError):
            return _MALFORMED

    if handler.request_streaming:

        def checked(requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
            for request in requests:
                if request is _MALFORMED:
                    _refuse(context)
                yield request

        if handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(
                lambda requests, context: handler.stream_stream(
                    checked(requests, context), context
                ),
                read,
                handler.response_serializer,
            )
        return grpc.stream_unary_rpc_method_handler(
            lambda requests, context: handler.stream_unary(checked(requests, context), context),
            read,
            handler.response_serializer,
        )
    answer = handler.unary_stream if handler.response_streaming else handler.unary_unary

    def answer_readable(request: Any, context: grpc.ServicerContext) -> Any:
        if request is _MALFORMED:
            _refuse(context)
        return answer(request, context)

    if handler.response_streaming:
        return grpc.unary_stream_rpc_method_handler(
            answer_readable, read, handler.response_serializer
        )
    return grpc.unary_unary_rpc_method_handler(answer_readable, read, handler.response_serializer)


def _refuse(context: grpc.ServicerContext) -> None:
    context.abort(grpc.StatusCode.INVALID_ARGUMENT, "The request is not a message of this method.")
