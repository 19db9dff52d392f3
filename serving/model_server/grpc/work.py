"""A message of a gRPC call and its answer, which is computed in a thread."""

import asyncio
import logging
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from serving.model_server.errors import ServingError, invalid_argument
from serving.model_server.grpc.service import Call, Method

_logger = logging.getLogger("tagtower.model_server")


def parse_message(request_type: Any, message: bytes) -> Any:
    """Parses the bytes of a message.

    Args:
      request_type: Class of the message.
      message: Bytes of the message.

    Raises:
      ServingError: INVALID_ARGUMENT if the bytes are not a message of this class.
    """
    # gRPC itself would answer with INTERNAL, the code of a server's own errors, so that monitoring
    # would raise an alarm for every port scanner.
    try:
        return request_type.FromString(message)
    except (DecodeError, UnicodeDecodeError) as error:
        raise invalid_argument("The request is not a message of this method.") from error


class Work:
    """A message and its answer, or the error.

    Attributes:
      message: Bytes of the message.
      answer: Future that is done when the answer is computed.
      cost: Memory that the message holds while it is answered.
      request: Parsed message; None before it is parsed.
      result: Bytes of the answer.
      error: Error of the call; None without an error.
      method: Method that is called.
    """

    def __init__(self, method: Method, message: bytes, call: Call, answer: asyncio.Future[None]):
        self.message = message
        self.answer = answer
        self.cost = 0
        self.request: Any = None
        self.result = b""
        self.error: ServingError | None = None
        self.method = method
        self._call = call

    def run(self) -> None:
        """Computes the answer, or the error."""
        request_type = self.method.request_type
        try:
            if not self._call.is_active:
                raise ServingError(grpc.StatusCode.CANCELLED, "The caller has gone.")
            if self.request is None:
                self.request = parse_message(request_type, self.message)
            self.result = self.method.answer(self.request, self._call).SerializeToString()
            if self._call.on_answered is not None:
                self._call.on_answered(self.message, self.result)
        except ServingError as error:
            # A new error, because the traceback of the caught one holds the request.
            self.error = ServingError(error.code, error.message)
        except MemoryError:
            self.error = ServingError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                "The server does not have the memory for this request.",
            )
        except Exception:
            _logger.exception("Answering a %s failed.", request_type.DESCRIPTOR.name)
            self.error = ServingError(
                grpc.StatusCode.INTERNAL, "Internal error of the server; see its log."
            )
        self.request = None  # it may be large, and the answer may wait to be sent
