"""What the server counts, under the real server's names."""

from collections.abc import Callable

from serving.model_server.prometheus import Counter, Histogram

DEFAULT_PATH = "/monitoring/prometheus/metrics"

_MICROSECONDS = 1e6


class Metrics:
    """The counts of one server."""

    def __init__(self) -> None:
        self._request_count = Counter(":tensorflow:serving:request_count", ["model_name", "status"])
        self._request_latency = Histogram(
            ":tensorflow:serving:request_latency", ["model_name", "API", "entrypoint"]
        )
        self._runtime_latency = Histogram(
            ":tensorflow:serving:runtime_latency", ["model_name", "API", "runtime"]
        )
        self._warmup_latency = Histogram(
            ":tensorflow:serving:model_warmup_latency", ["model_path", "status"]
        )
        self._load_attempts = Counter(
            ":tensorflow:cc:saved_model:load_attempt_count", ["model_path", "status"]
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
        self._request_latency.labels(model_name, api, entrypoint).observe(seconds * _MICROSECONDS)
        self._request_count.labels(model_name, "OK").increment()

    def count_error(self, model_name: str, status: str) -> None:
        """Counts a request that failed.

        Args:
          model_name: The model it named; empty if none could be read.
          status: Name of the status code.
        """
        self._request_count.labels(model_name, status).increment()

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

    def page(self) -> str:
        """All counts as Prometheus reads them."""
        families = (
            self._load_attempts,
            self._warmup_latency,
            self._request_count,
            self._request_latency,
            self._runtime_latency,
            self._logged_requests,
        )
        return "\n".join(line for family in families if family for line in family.lines()) + "\n"
