"""Errors of a request: one status code and one message, the same for gRPC and REST."""

import grpc

# TensorFlow, gRPC and the protos number the status codes alike.
_CODES = {code.value[0]: code for code in grpc.StatusCode}


class ServingError(Exception):
    """A request, or a load, that failed for a reason its sender is told.

    Attributes:
      code: The status code.
      message: The text, as TensorFlow Serving words it.
    """

    def __init__(self, code: grpc.StatusCode, message: str):
        super().__init__(f"{code.name}: {message}")
        self.code = code
        self.message = message


def status_code(number: int) -> grpc.StatusCode:
    """The status code with this number; UNKNOWN for a number that is none."""
    return _CODES.get(number, grpc.StatusCode.UNKNOWN)


def invalid_argument(message: str) -> ServingError:
    """An error of the request itself."""
    return ServingError(grpc.StatusCode.INVALID_ARGUMENT, message)


def not_found(message: str) -> ServingError:
    """A model, version or file that is not there."""
    return ServingError(grpc.StatusCode.NOT_FOUND, message)


def unimplemented(message: str) -> ServingError:
    """A call this server does not answer."""
    return ServingError(grpc.StatusCode.UNIMPLEMENTED, message)


def servable_not_found(model_name: str, version: int | None) -> ServingError:
    """The answer to a request for a model or a version that is not available."""
    wanted = f"Latest({model_name})" if version is None else f"Specific({model_name}, {version})"
    return not_found(f"Servable not found for request: {wanted}")
