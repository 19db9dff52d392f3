"""A version that a model knows or has known, and its use by one request."""

import os
from collections.abc import Callable, Collection, Mapping

from serving.model_server.models.load_memory import NotEnoughMemoryError
from serving.model_server.models.version_state import VersionState, VersionStatus
from serving.model_server.session.servable import Servable
from trainer.contract.file_system import files_below, is_remote

FolderStamp = tuple[tuple[int, int, int], ...]

# A version has about ten files.
_MAX_FILES = 1000


# Number of ended versions whose states are still reported; earlier ones are forgotten.
MAX_ENDED_VERSIONS = 20
# Defaults of TensorFlow Serving.
MAX_LOAD_RETRIES = 5
LOAD_RETRY_INTERVAL_S = 60.0


class KnownVersion:
    """A version that a model knows, loaded or not; the model's lock guards it.

    Args:
      number: Number of the version.

    Attributes:
      status: State of the version.
      path: Folder of the version.
      servable: Loaded SavedModel; None: the version is not loaded.
      num_requests: Number of requests that are using it.
      num_failed_loads: Number of attempts to load it that failed since its folder appeared.
      is_too_large: Whether there was not enough memory at the last attempt.
    """

    def __init__(self, number: int):
        self.status = VersionStatus(number, VersionState.START)
        self.path = ""
        self.servable: Servable | None = None
        self.num_requests = 0
        self.num_failed_loads = 0
        self.is_too_large = False
        self._retry_time = 0.0
        # Stamps of the files when the load began, and when they were last checked.
        self._loaded_stamp: FolderStamp = ()
        self._last_stamp: FolderStamp = ()

    @property
    def has_failed(self) -> bool:
        """Returns whether the last attempt to load failed."""
        return self.num_failed_loads > 0 or self.is_too_large

    def may_be_tried(self, now: float) -> bool:
        """Returns whether a version that has ended may be loaded now."""
        if self.status.state is not VersionState.END:
            return False
        if self.is_too_large:
            # There may be enough memory after another model is unloaded, so attempts are unlimited.
            return now >= self._retry_time
        return self.num_failed_loads == 0 or (
            self.num_failed_loads <= MAX_LOAD_RETRIES and now >= self._retry_time
        )

    def begin(self, path: str) -> None:
        """Records that a load from a folder begins."""
        self.path = path
        self._loaded_stamp = self._last_stamp = folder_stamp(path)

    def fail(self, error: Exception, now: float) -> None:
        """Records that a load failed."""
        self.is_too_large = isinstance(error, NotEnoughMemoryError)
        self.num_failed_loads += not self.is_too_large
        self._retry_time = now + LOAD_RETRY_INTERVAL_S

    def forgive(self) -> None:
        """Forgets failed loads, because the version has loaded or its files have changed."""
        self.num_failed_loads, self.is_too_large = 0, False

    def look(self) -> None:
        """Forgets failed loads if the files have changed since and are no longer changing."""
        if not self.has_failed:
            return
        stamp = folder_stamp(self.path)
        if stamp == self._last_stamp != self._loaded_stamp:
            self.forgive()
        self._last_stamp = stamp


def folder_stamp(path: str) -> FolderStamp:
    """Returns values that change when a local folder or its files do; empty if it is not local."""
    if is_remote(path):
        return ()
    try:
        found = [os.stat(name) for name in [path, *files_below(path)][:_MAX_FILES]]
    except OSError:
        return ()
    return tuple((f.st_ino, f.st_size, f.st_mtime_ns) for f in found)


def forget_ended(versions: dict[int, KnownVersion], chosen: Collection[int]) -> None:
    """Forgets versions that ended, except the last ones and those that are still wanted.

    Args:
      versions: Versions by number; ended ones are in the order in which they ended.
      chosen: Numbers of the wanted versions.
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
    """Says which failed version a version replaces; None: the version itself is wanted."""
    failed = [versions[n] for n in sorted(chosen) if n in versions and versions[n].has_failed]
    if number in chosen or not failed:
        return None
    status = failed[-1].status
    return (
        f"version {number} serves in the place of version {status.version}, which does not load: "
        f"{status.message}"
    )


class Lease:
    """The use of a version by one request, a context manager; the version stays loaded until then.

    Args:
      entry: Version in use.
      servable: Loaded SavedModel of the version.
      release: Function that is called at the end.

    Attributes:
      servable: Loaded SavedModel of the version.
      version: Number of the version.
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

    def __exit__(self, *exception: object) -> None:
        self._release(self._entry)
