"""All models of the server: looks them up for requests, and watches their base paths."""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from tensorflow_serving.apis import model_pb2

from serving.model_server.errors import invalid_argument
from serving.model_server.served_model import (
    Lease,
    ModelConfig,
    ServedModel,
    VersionState,
    servable_not_found,
)

_logger = logging.getLogger("tagtower.model_server")


class ModelManager:
    """Model name -> served model, kept up to date by one thread.

    Args:
      configs: The models.
      poll_wait_s: Seconds between two looks at the base paths; 0: look once.

    Raises:
      ValueError: If two models have one name, or the time is negative.
    """

    def __init__(self, configs: Sequence[ModelConfig], poll_wait_s: float = 1.0):
        if poll_wait_s < 0:
            raise ValueError(
                f"`file_system_poll_wait_seconds` must not be negative. Received: {poll_wait_s}."
            )
        if len({config.name for config in configs}) < len(configs):
            raise ValueError(
                f"`name` must be one model's own. Received: {[config.name for config in configs]}."
            )
        self._poll_wait_s = poll_wait_s
        self._changed = threading.Condition(threading.RLock())
        self._models = {config.name: ServedModel(config, self._changed) for config in configs}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="poll-base-paths", daemon=True)

    @property
    def models(self) -> Mapping[str, ServedModel]:
        """The models by name."""
        return self._models

    def start(self) -> None:
        """Starts to look for versions; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """Stops to look for versions and unloads all; those in use go with their last request."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()
        for model in self._models.values():
            model.unload_all()

    def acquire(self, spec: model_pb2.ModelSpec) -> Lease:
        """Takes the version a request names; the highest available if it names none.

        Args:
          spec: The request's `model_spec`.

        Returns:
          The version, to be used in a `with` statement.

        Raises:
          ServingError: If the name is empty, the label unknown or the version not available.
        """
        if not spec.name:
            raise invalid_argument("ModelSpec has no name specified.")
        choice = spec.WhichOneof("version_choice")
        if choice == "version_label":
            # Labels come with a configuration of several models, which does not exist yet.
            raise invalid_argument(f"Unrecognized servable version label: {spec.version_label}")
        version = spec.version.value if choice == "version" else None
        model = self._models.get(spec.name)
        if model is None:
            raise servable_not_found(spec.name, version)
        return model.acquire(version)

    def wait_until(self, predicate: Callable[[], bool], timeout_s: float) -> bool:
        """Waits until a condition on the models' states holds.

        Args:
          predicate: The condition; called whenever a state changes.
          timeout_s: Seconds to wait at most.

        Returns:
          Whether it holds.
        """
        with self._changed:
            return self._changed.wait_for(predicate, timeout_s)

    def wait_until_available(self, timeout_s: float) -> dict[str, int]:
        """Waits until every model has a version that serves.

        Args:
          timeout_s: Seconds to wait at most.

        Returns:
          Model name -> its highest available version.

        Raises:
          TimeoutError: If one has none by then; the text says why.
        """
        if self.wait_until(lambda: all(self.available_versions().values()), timeout_s):
            return {name: numbers[0] for name, numbers in self.available_versions().items()}
        reasons = []
        for name, model in self._models.items():
            failures = [
                f"version {status.version}: {status.message}"
                for status in model.statuses()
                if status.message
            ]
            if not self.available_versions()[name]:
                reasons.append(f"{name}: {'; '.join(failures) or model.problem or 'still loading'}")
        raise TimeoutError(f"No version available after {timeout_s:g} s. {' '.join(reasons)}")

    def available_versions(self) -> dict[str, list[int]]:
        """Model name -> the versions that serve, highest first."""
        return {
            name: [
                status.version
                for status in model.statuses()
                if status.state is VersionState.AVAILABLE
            ]
            for name, model in self._models.items()
        }

    def _watch(self) -> None:
        while not self._stopping.is_set():
            start = time.monotonic()
            for model in self._models.values():
                try:
                    model.poll()
                except Exception:
                    # The thread must outlive whatever one look at one base path brings.
                    _logger.exception("Looking for versions of %s failed.", model.config.name)
            if self._poll_wait_s == 0:
                return
            self._stopping.wait(max(0.0, self._poll_wait_s - (time.monotonic() - start)))
