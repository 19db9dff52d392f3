"""A gRPC server that computes nothing, which shows the cost of a call itself."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import grpc

# As many threads as the model server has.
_NUM_THREADS = 16
_SERVICE = "/benchmark.Echo/"


def method_name(case: str) -> str:
    """Returns the full name of the method that answers with the reply of a case."""
    return _SERVICE + case


class EchoServer(grpc.GenericRpcHandler):
    """A server that answers any bytes with bytes of a given size, until it is deleted.

    Args:
      reply_bytes: Size of the reply by case.

    Attributes:
      port: Port on which the server listens.
    """

    def __init__(self, reply_bytes: dict[str, int]):
        self._handlers = {
            method_name(case): grpc.unary_unary_rpc_method_handler(_answer(bytes(size)))
            for case, size in reply_bytes.items()
        }
        self._server = grpc.server(ThreadPoolExecutor(_NUM_THREADS))
        self._server.add_generic_rpc_handlers((self,))
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def get_port(self) -> int:
        """Returns the port, for a caller in another process."""
        return self.port

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler | None:
        """Returns the handler of a call, as `grpc.GenericRpcHandler` requires."""
        return self._handlers.get(handler_call_details.method)


def _answer(reply: bytes) -> Callable[[bytes, grpc.ServicerContext], bytes]:
    def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
        del request, context
        return reply

    return answer
