"""A model of the server: which of its versions are loaded, and the state of each.

A new version is loaded before the old one is unloaded, a version that does not load leaves the old
one available, and a version is unloaded only when the last request that uses it is answered. During
a load the wanted versions may change: they are determined again when a load ends, before the new
version becomes available and before another one is unloaded.
"""

import functools
import logging
import threading
import time
from collections.abc import Callable

import grpc

from serving.model_server.counts.metrics import Metrics
from serving.model_server.errors import ServingError, servable_not_found
from serving.model_server.models.known_version import (
    KnownVersion,
    Lease,
    forget_ended,
    place_taken,
)
from serving.model_server.models.load_memory import LoadMemory
from serving.model_server.models.loading import load_servable
from serving.model_server.models.model_config import ModelConfig
from serving.model_server.models.version_folder import list_versions
from serving.model_server.models.version_policy import Wish
from serving.model_server.models.version_state import VersionState, VersionStatus
from serving.model_server.session.servable import Servable

_logger = logging.getLogger("tagtower.model_server")


class ServedModel:
    """A model and the states of its versions.

    Args:
      config: Name, base path and version policy of the model.
      changed: Condition that is notified when a version's state changes; its lock guards the
        states.
      metrics: Counts of loads and calls.
      memory: Memory limit of loads.
      load: Function that loads a version, given its path, its number and a function that tells
        whether it is still wanted; None: `load_servable`.
      clock: Function that returns seconds, for the time between two attempts to load.
    """

    def __init__(
        self,
        config: ModelConfig,
        changed: threading.Condition,
        metrics: Metrics,
        *,
        memory: LoadMemory | None = None,
        load: Callable[[str, int, Callable[[], bool]], Servable] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.config = config
        self._is_configured = True
        self._is_closed = False
        self._changed = changed
        self._metrics = metrics
        self._load = load or functools.partial(load_servable, metrics=metrics, memory=memory)
        self._clock = clock
        self._versions: dict[int, KnownVersion] = {}
        self._problem = ""
        self._is_polling = False

    @property
    def is_configured(self) -> bool:
        """Returns whether the configuration names the model; if not, it is being unloaded."""
        return self._is_configured

    @property
    def is_polling(self) -> bool:
        """Returns whether the model is looking for versions, or loading one."""
        return self._is_polling

    @property
    def has_requests(self) -> bool:
        """Returns whether a request is using a version."""
        with self._changed:
            return any(entry.num_requests for entry in self._versions.values())

    @property
    def problem(self) -> str:
        """Returns why the base path has no version to serve; empty if it has one."""
        return self._problem

    def reconfigure(self, config: ModelConfig) -> None:
        """Changes the base path or the version policy; the next `poll` acts on it.

        A model that is configured again after `remove` starts anew: versions that ended are
        forgotten.

        Args:
          config: New configuration, with the same name.
        """
        with self._changed:
            if not self._is_configured:
                self._versions = {
                    number: entry
                    for number, entry in self._versions.items()
                    if entry.status.state is not VersionState.END
                }
            self.config = config
            self._is_configured = True

    def remove(self) -> None:
        """Stops answering requests; the next `poll` unloads the loaded versions."""
        with self._changed:
            self._is_configured = False
            self._changed.notify_all()

    def close(self) -> None:
        """Makes all versions unwanted, so that a running load does not end with a version."""
        with self._changed:
            self._is_closed = True

    @property
    def is_loading(self) -> bool:
        """Returns whether a version is being loaded."""
        with self._changed:
            return any(
                entry.servable is None and entry.status.state <= VersionState.LOADING
                for entry in self._versions.values()
            )

    def is_available(self, version: int) -> bool:
        """Returns whether a version is available."""
        with self._changed:
            return version in self._available()

    def failures(self) -> list[VersionStatus]:
        """Returns the states of versions that did not load, highest first."""
        return [status for status in self.statuses() if status.message]

    def statuses(self) -> list[VersionStatus]:
        """Returns the states of all versions that the model has known, highest first."""
        with self._changed:
            return [
                self._versions[number].status for number in sorted(self._versions, reverse=True)
            ]

    @property
    def paths(self) -> set[str]:
        """Returns the folders of the versions that have a state."""
        with self._changed:
            return {entry.path for entry in self._versions.values()}

    @property
    def has_ended(self) -> bool:
        """Returns whether no version is loaded or being loaded."""
        with self._changed:
            return not self._is_polling and all(
                entry.status.state is VersionState.END and entry.servable is None
                for entry in self._versions.values()
            )

    def acquire(self, version: int | None = None) -> Lease:
        """Takes a version for one request.

        Args:
          version: Number of the version; None: the highest available.

        Returns:
          A lease of the version, to be used in a `with` statement.

        Raises:
          ServingError: NOT_FOUND if the version is not available.
        """
        with self._changed:
            available = self._available() if self._is_configured else {}
            number = max(available, default=None) if version is None else version
            if number is None or number not in available:
                raise servable_not_found(self.config.name, version)
            entry = available[number]
            assert entry.servable is not None
            entry.num_requests += 1
            return Lease(entry, entry.servable, self._release)

    def poll(self) -> None:
        """Checks the base path once, loads new versions and unloads those no longer wanted.

        Only one thread at a time may call this.
        """
        self._is_polling = True
        try:
            with self._changed:
                failed = [entry for entry in self._versions.values() if entry.has_failed]
            for entry in failed:
                entry.look()
            self._poll()
        finally:
            with self._changed:
                self._is_polling = False
                self._changed.notify_all()

    def _poll(self) -> None:
        while True:
            wish = self._wish()
            if wish is None:
                return
            with self._changed:
                for number in self._versions.keys() - wish.found.keys():
                    # The folder is gone; if the number comes back, it is another version.
                    self._versions[number].forgive()
                forget_ended(self._versions, wish.chosen)
            self._settle_loaded(wish)
            self._unload_all_but(wish)
            next_number = self._next_to_load(wish)
            if next_number is None:
                return
            self._load_version(next_number, wish.found[next_number])

    def _next_to_load(self, wish: Wish) -> int | None:
        """Returns the version to load next; None: none.

        If no version is available and the wanted ones do not load, this is the newest of the other
        versions that may be loaded: an older version is better than none.
        """
        missing = list(filter(self._is_to_load, wish.chosen))
        if missing:
            return missing[0]
        with self._changed:
            is_serving = bool(self._available())
        others = [] if is_serving else wish.choose(filter(self._is_to_load, wish.found))
        return max(others, default=None)

    def _wish(self) -> Wish | None:
        """Returns the versions to serve now; None: they cannot be determined, and none changes."""
        with self._changed:
            config, is_configured = self.config, self._is_configured and not self._is_closed
        if not is_configured:
            return Wish(None, {})
        try:
            found = list_versions(config.base_path)
        except OSError as error:
            # If the folder cannot be read, its versions are unknown.
            self._report(
                f"Could not find base path {config.base_path} for servable {config.name}: "
                f"{error.strerror or error}. Waiting for it."
            )
            return None
        wish = Wish(config.policy, found)
        if wish.chosen:
            self._report("")
        else:
            self._report(
                f"No versions of servable {config.name} to serve found under base path "
                f"{config.base_path}. Did you forget to name your leaf directory as a number "
                "(eg. '/1/')?"
            )
        return wish

    def _is_wanted(self, number: int, path: str) -> bool:
        """Returns whether a version that is being loaded is still wanted."""
        wish = self._wish()
        with self._changed:
            return wish is None or wish.wants(number, path, self._available())

    def _settle_loaded(self, wish: Wish) -> None:
        """Makes a loaded version available if it is still wanted, and otherwise unloads it."""
        with self._changed:
            loaded = [
                entry
                for entry in self._versions.values()
                if entry.servable is not None and entry.status.state is VersionState.LOADING
            ]
        for entry in loaded:
            number = entry.status.version
            with self._changed:
                is_wanted = wish.wants(number, entry.path, self._available())
                if is_wanted:
                    self._set(entry, VersionState.AVAILABLE)
            if is_wanted:
                with self._changed:
                    warning = place_taken(self._versions, number, wish.chosen)
                if warning:
                    _logger.warning("%s: %s", self.config.name, warning)
            else:
                _logger.info("Version %d of %s is no longer wanted", number, self.config.name)
                self._close_if_unused(entry)

    def unload_all(self) -> None:
        """Unloads every version; one in use is unloaded after its last request."""
        with self._changed:
            loaded = [
                entry
                for entry in self._versions.values()
                if entry.servable is not None and entry.status.state is not VersionState.UNLOADING
            ]
        for entry in loaded:
            self._unload(entry)

    def _available(self) -> dict[int, KnownVersion]:
        return {
            number: entry
            for number, entry in self._versions.items()
            if entry.status.state is VersionState.AVAILABLE
        }

    def _report(self, problem: str) -> None:
        with self._changed:
            is_new, self._problem = problem != self._problem, problem
            self._changed.notify_all()
        if is_new and problem:
            _logger.warning(problem)

    def _set(
        self, entry: KnownVersion, state: VersionState, error: ServingError | None = None
    ) -> None:
        number = entry.status.version
        with self._changed:
            if state is VersionState.END:
                self._versions[number] = self._versions.pop(number, entry)
            if error is None:
                entry.status = VersionStatus(number, state)
            else:
                entry.status = VersionStatus(number, state, error.code, error.message)
            self._changed.notify_all()

    def _is_to_load(self, number: int) -> bool:
        with self._changed:
            entry = self._versions.get(number)
            return entry is None or entry.may_be_tried(self._clock())

    def _load_version(self, number: int, path: str) -> None:
        """Loads a version; it stays LOADING until `_settle_loaded` has checked it."""
        name = self.config.name
        with self._changed:
            entry = self._versions.setdefault(number, KnownVersion(number))
            entry.begin(path)
            self._set(entry, VersionState.START)
        self._set(entry, VersionState.LOADING)
        _logger.info("Loading version %d of %s from %s ...", number, name, path)
        start = time.monotonic()
        try:
            servable = self._load(path, number, lambda: self._is_wanted(number, path))
            servable.observe_run = self._metrics.runtime_observer(name)
        except Exception as error:
            if not self._is_wanted(number, path):
                # The folder was removed during the load, or the load gave up: the version itself
                # did not fail.
                self._set(entry, VersionState.END)
                _logger.info("Version %d of %s is no longer wanted", number, name)
                return
            # The server survives any error of a version: the error becomes the version's status.
            if not isinstance(error, ServingError):
                _logger.exception("Loading %s failed unexpectedly.", path)
                error = ServingError(grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error}")
            was_too_large = entry.is_too_large
            entry.fail(error, self._clock())
            self._set(entry, VersionState.END, error)
            self._metrics.count_load(path, "fail")
            if not (was_too_large and entry.is_too_large):  # otherwise it was logged before
                _logger.error("Version %d of %s does not load: %s", number, name, error.message)
            return
        with self._changed:
            entry.servable = servable
            entry.forgive()
        self._metrics.count_load(path, "success")
        seconds = time.monotonic() - start
        _logger.info("Loaded version %d of %s in %.1f s from %s", number, name, seconds, path)

    def _unload_all_but(self, wish: Wish) -> None:
        with self._changed:
            available = self._available()
            kept = set(wish.chosen)
            if kept and not available.keys() & kept:
                # No wanted version is available: the best of the available ones stay.
                kept = set(wish.choose(available)) or set(available)
            unwanted = [entry for number, entry in available.items() if number not in kept]
        for entry in unwanted:
            self._unload(entry)

    def _unload(self, entry: KnownVersion) -> None:
        self._set(entry, VersionState.UNLOADING)
        self._close_if_unused(entry)

    def _release(self, entry: KnownVersion) -> None:
        with self._changed:
            entry.num_requests -= 1
            is_last = entry.num_requests == 0 and entry.status.state is VersionState.UNLOADING
        if is_last:
            self._close_if_unused(entry)

    def _close_if_unused(self, entry: KnownVersion) -> None:
        with self._changed:
            if entry.num_requests or entry.servable is None:
                return
            servable, entry.servable = entry.servable, None
        servable.close()
        self._set(entry, VersionState.END)
        _logger.info("Unloaded version %d of %s", entry.status.version, self.config.name)
