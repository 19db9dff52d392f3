"""The counts of the server, with the names of TensorFlow Serving's metrics."""

from collections.abc import Callable, Collection

from serving.model_server.counts.answered_by import AnsweredBy
from serving.model_server.counts.prometheus import (
    QUEUE_BUCKETS,
    SIZE_BUCKETS,
    Counter,
    Histogram,
)

DEFAULT_PATH = "/monitoring/prometheus/metrics"

_MICROSECONDS = 1e6
# First label of the metrics that are counted by version; all others have the model's name first.
_PATH = "model_path"


class BatchingMetrics:
    """The counts of a server that joins requests, with TensorFlow Serving's names and `model_name`.

    Args:
      thread_pool_name: Name of the batch threads, a label of the time in the queue.
    """

    def __init__(self, thread_pool_name: str) -> None:
        prefix = ":tensorflow:serving:batching_session:"
        self._thread_pool_name = thread_pool_name
        self._queuing_latency = Histogram(
            f"{prefix}queuing_latency", ["model_name", "thread_pool_name"], QUEUE_BUCKETS
        )
        self._input_batch_size = Histogram(
            f"{prefix}input_batch_size", ["model_name"], SIZE_BUCKETS
        )
        self._processed_batch_size = Histogram(
            f"{prefix}processed_batch_size", ["model_name"], SIZE_BUCKETS
        )
        self._padding_size = Histogram(
            f"{prefix}padding_size", ["model_name", "execution_batch_size"], SIZE_BUCKETS
        )
        self.families = (
            self._queuing_latency,
            self._input_batch_size,
            self._processed_batch_size,
            self._padding_size,
        )

    def observe_request(self, model_name: str, num_rows: int) -> None:
        """Records the rows of a request that joins a batch."""
        self._input_batch_size.labels(model_name).observe(num_rows)

    def observe_wait(self, model_name: str, seconds: float) -> None:
        """Records the time that a request has waited for its batch."""
        child = self._queuing_latency.labels(model_name, self._thread_pool_name)
        child.observe(seconds * _MICROSECONDS)

    def observe_batch(self, model_name: str, num_rows: int, num_added: int | None) -> None:
        """Records a batch that is computed.

        Args:
          model_name: Name of the model in the request.
          num_rows: Rows of the batch, those that were added included.
          num_added: Rows that were added to reach an allowed batch size; None: every size is
            allowed, and there would be a histogram for each.
        """
        self._processed_batch_size.labels(model_name).observe(num_rows)
        if num_added is not None:
            self._padding_size.labels(model_name, str(num_rows)).observe(num_added)


class Metrics:
    """The counts of one server.

    Names that callers invent are not kept: requests for a model that is not served are counted
    under the empty name.

    Attributes:
      is_served: Function that tells whether a model of a name is served.
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
        # These metrics are not TensorFlow Serving's.
        by = ["model_name", "version", "label", "signature", "entrypoint"]
        self._answers = Counter(":tagtower:answer_count", [*by, "status"])
        self._answer_latency = Histogram(":tagtower:answer_latency", by)
        self._logged_requests: Counter | None = None  # created with the first request log
        self._batching: BatchingMetrics | None = None

    def count_answer(self, model_name: str, api: str, entrypoint: str, seconds: float) -> None:
        """Counts a request that succeeded.

        Args:
          model_name: Name of the model in the request.
          api: Name of the call, such as `Predict` (gRPC) or `predict` (REST); empty for status and
            metadata.
          entrypoint: Interface of the request, `GRPC` or `REST`.
          seconds: Time that the request took.
        """
        name = self._label(model_name)
        self._request_latency.labels(name, api, entrypoint).observe(seconds * _MICROSECONDS)
        self._request_count.labels(name, "OK").increment()

    def count_error(self, model_name: str, status: str) -> None:
        """Counts a request that failed.

        Args:
          model_name: Name of the model in the request; empty if none could be read.
          status: Name of the status code.
        """
        self._request_count.labels(self._label(model_name), status).increment()

    def count_load(self, path: str, status: str) -> None:
        """Counts an attempt to load a version, with the status `success` or `fail`."""
        self._load_attempts.labels(path, status).increment()

    def observe_warmup(self, path: str, status: str, seconds: float) -> None:
        """Records the time of a version's warm-up.

        Args:
          path: Folder of the version.
          status: Name of the status code.
          seconds: Time that the warm-up took.
        """
        self._warmup_latency.labels(path, status).observe(seconds * _MICROSECONDS)

    def runtime_observer(self, model_name: str) -> Callable[[float], None]:
        """Returns a function that records the seconds of a model's calls without a look-up."""
        histogram = self._runtime_latency.labels(model_name, "Predict", "TF1")
        return lambda seconds: histogram.observe(seconds * _MICROSECONDS)

    def count_answered_by(
        self, by: AnsweredBy, entrypoint: str, status: str, seconds: float | None = None
    ) -> None:
        """Counts a Predict request by what answered it, once its version is known.

        Args:
          by: Model, version, label and signature.
          entrypoint: Interface of the request, `GRPC` or `REST`.
          status: Name of the status code.
          seconds: Time that the request took; None: it failed.
        """
        if not by.version:
            return
        values = by.model_name, by.version, by.label, by.signature, entrypoint
        self._answers.labels(*values, status).increment()
        if seconds is not None:
            self._answer_latency.labels(*values).observe(seconds * _MICROSECONDS)

    def request_log_counter(self, model_name: str) -> Callable[[str, str, int], None]:
        """Returns a function that counts a request log's records, by status and reason."""
        if self._logged_requests is None:
            name = ":tagtower:request_log:record_count"
            self._logged_requests = Counter(name, ["model_name", "status", "reason"])
        labels = self._logged_requests.labels
        return lambda status, reason, number: labels(model_name, status, reason).increment(number)

    def batching(self, thread_pool_name: str) -> BatchingMetrics:
        """Adds the counts of batches to the page, and returns them.

        Args:
          thread_pool_name: Name of the batch threads.
        """
        self._batching = BatchingMetrics(thread_pool_name)
        return self._batching

    def keep(
        self,
        names: Collection[str],
        paths: Collection[str],
        versions: Collection[tuple[str, str]] | None = None,
    ) -> None:
        """Removes the counts of all models and versions except the given ones.

        Args:
          names: Names of the models to keep.
          paths: Folders of the versions to keep.
          versions: Names and versions to keep; None: those of all models to keep.
        """
        for family in self._families():
            family.keep(paths if family.label_names[0] == _PATH else {*names, ""})
        if versions is not None:
            for family in (self._answers, self._answer_latency):
                family.keep({*versions, ("", "")}, num_labels=2)

    def page(self) -> str:
        """Returns all counts as the page that Prometheus reads."""
        return "\n".join(line for family in self._families() for line in family.lines()) + "\n"

    def _families(self) -> list[Counter | Histogram]:
        families = (
            self._load_attempts,
            self._warmup_latency,
            self._request_count,
            self._request_latency,
            self._runtime_latency,
            self._answers,
            self._answer_latency,
            self._logged_requests,
            *(self._batching.families if self._batching else ()),
        )
        return [family for family in families if family is not None]

    def _label(self, model_name: str) -> str:
        return model_name if self.is_served(model_name) else ""
