"""What the server counts, under the real server's names."""

from collections.abc import Callable, Collection

from serving.model_server.counts.prometheus import Counter, Histogram

DEFAULT_PATH = "/monitoring/prometheus/metrics"

_MICROSECONDS = 1e6
# The first label of what is counted by version; of all else it is the name of a model.
_PATH = "model_path"


class Metrics:
    """The counts of one server.

    Names that callers invent are not kept: what a request asks of a model that nobody serves is
    counted under the empty name.

    Attributes:
      is_served: Tells of a model's name whether it is served.
    """

    def __init__(self) -> None:
        self.is_served: Callable[[str], bool] = lambda name: True
        self._request_count = Counter(":tensorflow:serving:request_count", ["model_name", "status"])
        self._request_latency = Histogram(
            ":tensorflow:serving:request_latency", ["model_name", "API", "entrypoint"]
        )
        self._runtime_latency = Histogram(
            ":tensorflow:serving:runtime_latency", ["model_name", "API", "runtime"]
        )
        self._warmup_latency = Histogram(
            ":tensorflow:serving:model_warmup_latency", [_PATH, "status"]
        )
        self._load_attempts = Counter(
            ":tensorflow:cc:saved_model:load_attempt_count", [_PATH, "status"]
        )
        # Beyond the real server's: there with the first log of requests.
        self._logged_requests: Counter | None = None

    def count_answer(self, model_name: str, api: str, entrypoint: str, seconds: float) -> None:
        """Counts a request that succeeded.

        Args:
          model_name: The model it named.
          api: Such as `Predict` (gRPC) or `predict` (REST); empty for status and metadata.
          entrypoint: `GRPC` or `REST`.
          seconds: How long it took.
        """
        name = self._label(model_name)
        self._request_latency.labels(name, api, entrypoint).observe(seconds * _MICROSECONDS)
        self._request_count.labels(name, "OK").increment()

    def count_error(self, model_name: str, status: str) -> None:
        """Counts a request that failed.

        Args:
          model_name: The model it named; empty if none could be read.
          status: Name of the status code.
        """
        self._request_count.labels(self._label(model_name), status).increment()

    def count_load(self, path: str, status: str) -> None:
        """Counts an attempt to load a version: `success` or `fail`."""
        self._load_attempts.labels(path, status).increment()

    def observe_warmup(self, path: str, status: str, seconds: float) -> None:
        """Keeps the time of a version's warm-up.

        Args:
          path: The version's folder.
          status: Name of the status code.
          seconds: How long it took.
        """
        self._warmup_latency.labels(path, status).observe(seconds * _MICROSECONDS)

    def runtime_observer(self, model_name: str) -> Callable[[float], None]:
        """What a model's calls report their seconds to, without a look-up each time."""
        histogram = self._runtime_latency.labels(model_name, "Predict", "TF1")
        return lambda seconds: histogram.observe(seconds * _MICROSECONDS)

    def request_log_counter(self, model_name: str) -> Callable[[str, int], None]:
        """What a request log reports its records to: `written` or `dropped`, and how many."""
        if self._logged_requests is None:
            name = ":tagtower:request_log:record_count"
            self._logged_requests = Counter(name, ["model_name", "status"])
        labels = self._logged_requests.labels
        return lambda status, number: labels(model_name, status).increment(number)

    def keep(self, names: Collection[str], paths: Collection[str]) -> None:
        """Forgets the counts of all other models and versions.

        Args:
          names: Model names.
          paths: Folders of versions.
        """
        for family in self._families():
            family.keep(paths if family.label_names[0] == _PATH else {*names, ""})

    def page(self) -> str:
        """All counts as Prometheus reads them."""
        return "\n".join(line for family in self._families() for line in family.lines()) + "\n"

    def _families(self) -> list[Counter | Histogram]:
        families = (
            self._load_attempts,
            self._warmup_latency,
            self._request_count,
            self._request_latency,
            self._runtime_latency,
            self._logged_requests,
        )
        return [family for family in families if family is not None]

    def _label(self, model_name: str) -> str:
        return model_name if self.is_served(model_name) else ""
