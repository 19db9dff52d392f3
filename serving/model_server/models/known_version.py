"""A version that a model has known, and its use by one request."""

import os
from collections.abc import Callable, Collection, Mapping

from serving.model_server.models.load_memory import NotEnoughMemoryError
from serving.model_server.models.version_state import VersionState, VersionStatus
from serving.model_server.session.servable import Servable
from trainer.contract.file_system import files_below, is_remote

FolderStamp = tuple[tuple[int, int, int], ...]

# Of a version there are some ten.
_MAX_FILES = 1000


# Versions that have ended, of which states tell; earlier ones are forgotten.
MAX_ENDED_VERSIONS = 20
# Those of the real server.
MAX_LOAD_RETRIES = 5
LOAD_RETRY_INTERVAL_S = 60.0


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
      is_too_large: Whether there was no memory for it, the last time.
    """

    def __init__(self, number: int):
        self.status = VersionStatus(number, VersionState.START)
        self.path = ""
        self.servable: Servable | None = None
        self.num_requests = 0
        self.num_failed_loads = 0
        self.is_too_large = False
        self._retry_time = 0.0
        # What the files were when the load began, and when they were last looked at.
        self._loaded_stamp: FolderStamp = ()
        self._last_stamp: FolderStamp = ()

    @property
    def has_failed(self) -> bool:
        """Whether it did not load, the last time."""
        return self.num_failed_loads > 0 or self.is_too_large

    def may_be_tried(self, now: float) -> bool:
        """Whether a version that is not loaded may be loaded now."""
        if self.status.state is not VersionState.END:
            return False
        if self.is_too_large:
            # There may be memory whenever another model goes.
            return now >= self._retry_time
        return self.num_failed_loads == 0 or (
            self.num_failed_loads <= MAX_LOAD_RETRIES and now >= self._retry_time
        )

    def begin(self, path: str) -> None:
        """A load from a folder begins."""
        self.path = path
        self._loaded_stamp = self._last_stamp = folder_stamp(path)

    def fail(self, error: Exception, now: float) -> None:
        """The load did not come to an end."""
        self.is_too_large = isinstance(error, NotEnoughMemoryError)
        self.num_failed_loads += not self.is_too_large
        self._retry_time = now + LOAD_RETRY_INTERVAL_S

    def forgive(self) -> None:
        """What is there now is another version, or it has loaded."""
        self.num_failed_loads, self.is_too_large = 0, False

    def look(self) -> None:
        """Forgives a version that failed, when its files have changed since and change no more."""
        if not self.has_failed:
            return
        stamp = folder_stamp(self.path)
        if stamp == self._last_stamp != self._loaded_stamp:
            self.forgive()
        self._last_stamp = stamp


def folder_stamp(path: str) -> FolderStamp:
    """What differs where a local folder is another, or a file in it; empty if it is not local."""
    if is_remote(path):
        return ()
    try:
        found = [os.stat(name) for name in [path, *files_below(path)][:_MAX_FILES]]
    except OSError:
        return ()
    return tuple((f.st_ino, f.st_size, f.st_mtime_ns) for f in found)


def forget_ended(versions: dict[int, KnownVersion], chosen: Collection[int]) -> None:
    """Forgets versions that ended, but for the last ones and those that are still wanted.

    Args:
      versions: Number -> version, in the order in which they ended.
      chosen: Those that are wanted.
    """
    ended = [
        number
        for number, entry in versions.items()
        if entry.status.state is VersionState.END and number not in chosen
    ]
    for number in ended[:-MAX_ENDED_VERSIONS]:
        del versions[number]


def place_taken(
    versions: Mapping[int, KnownVersion], number: int, chosen: Collection[int]
) -> str | None:
    """Says in the place of which version one serves; None: it is wanted itself."""
    failed = [versions[n] for n in sorted(chosen) if n in versions and versions[n].has_failed]
    if number in chosen or not failed:
        return None
    status = failed[-1].status
    return (
        f"version {number} serves in the place of version {status.version}, which does not load: "
        f"{status.message}"
    )


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
