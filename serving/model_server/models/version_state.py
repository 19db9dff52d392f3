"""The states in the life of a version."""

import dataclasses
import enum

import grpc


class VersionState(enum.IntEnum):
    """State of a version, with the numbers of GetModelStatus."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclasses.dataclass(frozen=True)
class VersionStatus:
    """What GetModelStatus says of a version.

    Attributes:
      version: Its number.
      state: Where in its life it is.
      code: OK, or why it did not load.
      message: The error's text; empty without one.
    """

    version: int
    state: VersionState
    code: grpc.StatusCode = grpc.StatusCode.OK
    message: str = ""
