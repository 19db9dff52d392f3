"""The manager of all models: looks them up for requests, and watches their base paths."""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence

import grpc
from tensorflow_serving.apis import model_pb2

from serving.model_server.counts.metrics import Metrics
from serving.model_server.errors import ServingError, invalid_argument, servable_not_found
from serving.model_server.models.known_version import Lease
from serving.model_server.models.load_memory import LoadMemory
from serving.model_server.models.model_config import ModelConfig
from serving.model_server.models.version_labels import VersionLabels
from serving.model_server.models.version_lifecycle import ServedModel
from serving.model_server.models.version_state import VersionState
from serving.model_server.session.log_options import RequestLogOptions
from serving.model_server.session.request_log import RequestLog

_logger = logging.getLogger("tagtower.model_server")

# Number of models, removed from the configuration, whose states are still reported; earlier ones
# are forgotten.
MAX_REMOVED_MODELS = 100
# Seconds between two checks whether the sender of a reload still waits for it.
_PATIENCE_S = 0.2


class ModelManager:
    """The served models by name, kept up to date by one thread.

    Args:
      configs: Configurations of the models.
      poll_wait_s: Seconds between two checks of the base paths; 0: a single check.
      metrics: Counts of loads and calls.
      allows_labels_for_unavailable: Whether a new label may name a version that is not available.
      memory: Memory limit of loads; None: the memory that is available.
      log_options: What holds for the request logs of all models; None: the defaults.

    Raises:
      ValueError: If two models have the same name, or `poll_wait_s` is negative.
    """

    def __init__(
        self,
        configs: Sequence[ModelConfig],
        poll_wait_s: float = 1.0,
        *,
        metrics: Metrics | None = None,
        allows_labels_for_unavailable: bool = False,
        memory: LoadMemory | None = None,
        log_options: RequestLogOptions | None = None,
    ):
        if poll_wait_s < 0:
            raise ValueError(
                f"`file_system_poll_wait_seconds` must not be negative. Received: {poll_wait_s}."
            )
        if len({config.name for config in configs}) < len(configs):
            raise ValueError(
                "`name` must be different for each model. Received: "
                f"{[config.name for config in configs]}."
            )
        self._poll_wait_s = poll_wait_s
        self._metrics = metrics or Metrics()
        self._memory = memory or LoadMemory()
        self._changed = threading.Condition(threading.RLock())
        # Models of the configuration, and the last removed ones. The mapping is replaced as a
        # whole, so that a look-up needs no lock.
        self._models: Mapping[str, ServedModel] = {}
        self._metrics.is_served = self._is_served
        self._labels = VersionLabels(allows_labels_for_unavailable)
        self._log_options = log_options or RequestLogOptions()
        self._request_logs: Mapping[str, RequestLog] = {}
        self._first_configs: Sequence[ModelConfig] | None = configs
        self._failure: ServingError | None = None
        self._reload_lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="poll-base-paths", daemon=True)
        self._configure(configs)

    @property
    def models(self) -> Mapping[str, ServedModel]:
        """Returns the models by name, with the last ones that were removed."""
        return self._models

    @property
    def failure(self) -> ServingError | None:
        """Returns the error that prevents serving the first configuration; None: no error."""
        return self._failure

    def start(self) -> None:
        """Starts to watch for versions; returns at once."""
        self._thread.start()

    def stop(self, timeout_s: float | None = None) -> None:
        """Stops the watch and unloads all versions; one in use is unloaded after its last request.

        Args:
          timeout_s: Maximum number of seconds to wait for a running load; None: no maximum.
        """
        for model in self._models.values():
            model.close()
        self._stopping.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        for model in self._models.values():
            model.unload_all()
        for log in self._request_logs.values():
            log.end()  # all at once, so that a slow disk is waited for once
        for log in self._request_logs.values():
            log.close()

    @property
    def has_requests(self) -> bool:
        """Returns whether a request is using a version."""
        return any(model.has_requests for model in self._models.values())

    @property
    def is_loading(self) -> bool:
        """Returns whether a version is being loaded."""
        return any(model.is_loading for model in self._models.values())

    def acquire(self, spec: model_pb2.ModelSpec) -> Lease:
        """Returns the version that a request names, or the highest available if it names none.

        Args:
          spec: `model_spec` of the request.

        Returns:
          A lease of the version, to be used in a `with` statement.

        Raises:
          ServingError: If the name is empty, the label unknown or the version not available.
        """
        if not spec.name:
            raise invalid_argument("ModelSpec has no name specified.")
        choice = spec.WhichOneof("version_choice")
        version = None
        if choice == "version":
            version = spec.version.value
        elif choice == "version_label":
            version = self._labels.version_of(spec.name, spec.version_label)
        model = self._models.get(spec.name)
        if model is None:
            raise servable_not_found(spec.name, version)
        return model.acquire(version)

    def request_log(self, name: str) -> RequestLog | None:
        """Returns the request log of a model; None: it has none."""
        return self._request_logs.get(name)

    def reload(
        self, configs: Sequence[ModelConfig], is_awaited: Callable[[], bool] = lambda: True
    ) -> None:
        """Replaces the configuration: removes models that it does not name, and loads new ones.

        As in TensorFlow Serving, a label may only name a version that is available before the
        reload: a label for a version that is still to be loaded takes a second reload.

        Args:
          configs: Configurations of all models to serve from now on.
          is_awaited: Function that tells whether the caller still waits for the new models.

        Raises:
          ServingError: FAILED_PRECONDITION if a label names a version that is not available, and
            nothing changes; UNKNOWN if a new model does not become available, while the rest of
            the configuration is applied.
        """
        with self._reload_lock:
            if self._first_configs is not None and list(configs) == list(self._first_configs):
                return  # the server is still loading this configuration, and assigns its labels
            self._labels.assign(configs, self._is_available)
            self._first_configs = None
            new = self._configure(configs)
        self._wake.set()
        while not self.wait_until(
            lambda: all(self._is_settled(model) for model in new), _PATIENCE_S
        ):
            if self._stopping.is_set() or not is_awaited():
                return
        failed = [model for model in new if not self._available(model) and model.is_configured]
        if failed:
            texts = "".join(f"{{{_failure_text(model)}}}, " for model in failed)
            raise ServingError(
                grpc.StatusCode.UNKNOWN,
                f"{len(failed)} model(s) did not become available: {{{texts}}}",
            )

    def wait_until(self, predicate: Callable[[], bool], timeout_s: float) -> bool:
        """Waits until a condition on the models' states holds.

        Args:
          predicate: Function that tells whether the condition holds; called after every change.
          timeout_s: Maximum number of seconds to wait.

        Returns:
          Whether the condition holds.
        """
        with self._changed:
            return self._changed.wait_for(predicate, timeout_s)

    def wait_until_available(self, timeout_s: float) -> dict[str, int]:
        """Waits until every model has an available version.

        Args:
          timeout_s: Maximum number of seconds to wait.

        Returns:
          Highest available version of each model, by model name.

        Raises:
          ServingError: If the configuration cannot be served.
          TimeoutError: If a model has no available version in time; the text says why.
        """
        is_ready = self.wait_until(lambda: self.is_ready or self._failure is not None, timeout_s)
        if self._failure is not None:
            raise self._failure
        if is_ready:
            return {name: numbers[0] for name, numbers in self.available_versions().items()}
        reasons = []
        for name, numbers in self.available_versions().items():
            model = self._models[name]
            failures = [
                f"version {status.version}: {status.message}" for status in model.failures()
            ]
            if not numbers:
                reasons.append(f"{name}: {'; '.join(failures) or model.problem or 'still loading'}")
        raise TimeoutError(f"No version available after {timeout_s:g} s. {' '.join(reasons)}")

    @property
    def is_ready(self) -> bool:
        """Returns whether every model has an available version, and all labels are assigned."""
        return self._first_configs is None and all(self.available_versions().values())

    def available_versions(self) -> dict[str, list[int]]:
        """Returns the available versions of each configured model, by name, highest first."""
        return {
            name: self._available(model)
            for name, model in self._models.items()
            if model.is_configured
        }

    def _configure(self, configs: Sequence[ModelConfig]) -> list[ServedModel]:
        """Adds, changes and removes models; returns the new ones."""
        models = dict(self._models)
        new = []
        for config in configs:
            model = models.get(config.name)
            if model is None:
                model = ServedModel(config, self._changed, self._metrics, memory=self._memory)
                models[config.name] = model
                new.append(model)
            else:
                if not model.is_configured:
                    new.append(model)
                model.reconfigure(config)
        names = {config.name for config in configs}
        for name in [name for name in models if name not in names]:
            model = models[name]
            if model.is_configured:
                model.remove()
                models[name] = models.pop(name)  # in the order in which they were removed
        self._models = models
        self._configure_logs(configs)
        self._forget_removed()
        return new

    def _forget_removed(self) -> None:
        """Forgets removed models, except the last ones and those that are still being unloaded."""
        models = self._models
        gone = [name for name, m in models.items() if not m.is_configured and m.has_ended]
        # A model that never had a version has no state to report.
        forgotten = {name for name in gone if not models[name].paths}
        forgotten.update([name for name in gone if name not in forgotten][:-MAX_REMOVED_MODELS])
        if forgotten:
            self._models = {name: m for name, m in models.items() if name not in forgotten}

    def _forget_counts(self) -> None:
        """Removes the counts of models that were removed, and of versions that are forgotten."""
        kept = {name: m for name, m in self._models.items() if m.is_configured or not m.has_ended}
        self._metrics.keep(
            kept,
            {path for model in kept.values() for path in model.paths},
            {(name, str(s.version)) for name, model in kept.items() for s in model.statuses()},
        )

    def _configure_logs(self, configs: Sequence[ModelConfig]) -> None:
        """Opens new logs, closes those that are gone, and tells the others their configuration."""
        before, logs = self._request_logs, {}
        for config in configs:
            if config.request_log is None:
                continue
            log = before.get(config.name)
            if log is None:
                count = self._metrics.request_log_counter(config.name)
                log = RequestLog(config.request_log, count, self._log_options)
            else:
                log.reconfigure(config.request_log)
            logs[config.name] = log
        self._request_logs = logs
        gone = [log for name, log in before.items() if logs.get(name) is not log]
        for log in gone:
            log.end()  # all at once, so that a slow disk is waited for once
        for log in gone:
            log.close()

    def _is_served(self, name: str) -> bool:
        model = self._models.get(name)
        return model is not None and model.is_configured

    def _is_available(self, name: str, version: int) -> bool:
        model = self._models.get(name)
        return model is not None and model.is_configured and model.is_available(version)

    def _available(self, model: ServedModel) -> list[int]:
        return [
            status.version for status in model.statuses() if status.state is VersionState.AVAILABLE
        ]

    def _is_settled(self, model: ServedModel) -> bool:
        """Returns whether a model has an available version, or no version is left to try."""
        has_failed = bool(model.failures()) and not model.is_polling
        return bool(self._available(model)) or has_failed or not model.is_configured

    def _assign_first_labels(self) -> None:
        """Assigns the labels of the first configuration, once its models are loaded."""
        with self._reload_lock:
            configs = self._first_configs
            if configs is None or not all(
                self._is_settled(self._models[config.name]) for config in configs
            ):
                return
            try:
                self._labels.assign(configs, self._is_available)
            except ServingError as error:
                self._failure = error
            self._first_configs = None
        with self._changed:
            self._changed.notify_all()

    def _watch(self) -> None:
        while not self._stopping.is_set():
            start = time.monotonic()
            for model in self._models.values():
                try:
                    model.poll()
                except Exception:
                    # The thread must survive any error of one check of one base path.
                    _logger.exception("Looking for versions of %s failed.", model.config.name)
            self._assign_first_labels()
            with self._reload_lock:
                self._forget_removed()
            self._forget_counts()
            elapsed = time.monotonic() - start
            self._wake.wait(max(0.0, self._poll_wait_s - elapsed) if self._poll_wait_s else None)
            self._wake.clear()


def _failure_text(model: ServedModel) -> str:
    failure = model.failures()[0]
    return (
        f"{{name: {model.config.name} version: {failure.version}}} due to error: "
        f"{failure.code.name}: {failure.message}"
    )
