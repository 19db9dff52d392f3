"""A version that a model has known, and its use by one request."""

from collections.abc import Callable

from serving.model_server.servable import Servable
from serving.model_server.version_state import VersionState, VersionStatus


class KnownVersion:
    """A version that a model has known, loaded or not; its model's lock guards it.

    Args:
      number: Its number.

    Attributes:
      status: Where in its life it is.
      path: Its folder.
      servable: What answers; None: it is not loaded.
      num_requests: How many use it.
      num_failed_loads: Attempts to load it that failed, since it came.
      retry_time: When it may be tried again.
    """

    def __init__(self, number: int):
        self.status = VersionStatus(number, VersionState.START)
        self.path = ""
        self.servable: Servable | None = None
        self.num_requests = 0
        self.num_failed_loads = 0
        self.retry_time = 0.0


class Lease:
    """A version in use by one request, as a context manager; it is not unloaded before the end.

    Args:
      entry: The version.
      servable: What answers.
      release: Called at the end.

    Attributes:
      servable: The same.
      version: Its number.
    """

    def __init__(
        self, entry: KnownVersion, servable: Servable, release: Callable[[KnownVersion], None]
    ):
        self._entry = entry
        self._release = release
        self.servable = servable
        self.version = entry.status.version

    def __enter__(self) -> "Lease":
        return self

    def __exit__(self, *exception) -> None:
        self._release(self._entry)
