"""Errors of a request: a status code and a message, the same for gRPC and REST."""

import grpc

# TensorFlow, gRPC and the protos use the same numbers for status codes.
_CODES = {code.value[0]: code for code in grpc.StatusCode}


class ServingError(Exception):
    """The error of a failed request or load, whose reason the caller is told.

    Attributes:
      code: gRPC status code.
      message: Text of the error, in TensorFlow Serving's words.
    """

    def __init__(self, code: grpc.StatusCode, message: str):
        super().__init__(f"{code.name}: {message}")
        self.code = code
        self.message = message


def status_code(number: int) -> grpc.StatusCode:
    """Returns the status code with a number; UNKNOWN if no code has it."""
    return _CODES.get(number, grpc.StatusCode.UNKNOWN)


def invalid_argument(message: str) -> ServingError:
    """Returns the error for a request that is itself wrong."""
    return ServingError(grpc.StatusCode.INVALID_ARGUMENT, message)


def not_found(message: str) -> ServingError:
    """Returns the error for a model, version or file that does not exist."""
    return ServingError(grpc.StatusCode.NOT_FOUND, message)


def unimplemented(message: str) -> ServingError:
    """Returns the error for a call that this server does not implement."""
    return ServingError(grpc.StatusCode.UNIMPLEMENTED, message)


def servable_not_found(model_name: str, version: int | None) -> ServingError:
    """Returns the error for a model or a version that is not available."""
    wanted = f"Latest({model_name})" if version is None else f"Specific({model_name}, {version})"
    return not_found(f"Servable not found for request: {wanted}")
