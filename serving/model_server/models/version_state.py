"""The states of a version, from the start of its load to its end."""

import dataclasses
import enum

import grpc


class VersionState(enum.IntEnum):
    """The state of a version, with the numbers of GetModelStatus."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclasses.dataclass(frozen=True)
class VersionStatus:
    """The status of a version, as GetModelStatus reports it.

    Attributes:
      version: Number of the version.
      state: State of the version.
      code: Status code, OK or the error of a failed load.
      message: Text of the error; empty without an error.
    """

    version: int
    state: VersionState
    code: grpc.StatusCode = grpc.StatusCode.OK
    message: str = ""
