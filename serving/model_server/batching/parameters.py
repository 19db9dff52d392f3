"""The parameters of batching: TensorFlow Serving's BatchingParameters, its defaults and rules."""

import dataclasses
import os
from typing import Any

from serving.model_server.models.text_proto import new_batching_parameters, read_text_proto

FLAG = "batching_parameters_file"
# The name that TensorFlow Serving gives its batch threads where there is no file.
DEFAULT_POOL_NAME = "model_server_batch_threads"

_POSITIVE = ("max_batch_size", "max_execution_batch_size", "num_batch_threads")


@dataclasses.dataclass(frozen=True)
class BatchingParameters:
    """How requests are joined; the defaults are those of TensorFlow Serving.

    Attributes:
      max_batch_size: Maximum number of rows of a request, and of a batch unless requests are split.
      batch_timeout_micros: Microseconds that a batch waits for further requests.
      max_enqueued_batches: Number of batches of one kind that may wait; further requests are
        refused.
      num_batch_threads: Number of batches that are computed at a time.
      thread_pool_name: Name in the metric of the time in the queue.
      allowed_batch_sizes: Numbers of rows that a computed batch may have, rising; a batch is filled
        up to the next one. Empty: any number.
      pad_variable_length_inputs: Whether inputs of different widths are padded to one width.
      enable_large_batch_splitting: Whether a request is split over several batches.
      max_execution_batch_size: Maximum number of rows of a batch where requests are split; None: as
        `max_batch_size`.
    """

    max_batch_size: int = 1000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    num_batch_threads: int = dataclasses.field(default_factory=lambda: os.cpu_count() or 1)
    thread_pool_name: str = DEFAULT_POOL_NAME
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False
    enable_large_batch_splitting: bool = False
    max_execution_batch_size: int | None = None

    def __post_init__(self) -> None:
        self._check_numbers()
        sizes = self.allowed_batch_sizes
        if any(size < 1 for size in sizes) or list(sizes) != sorted(set(sizes)):
            raise ValueError(
                f"`allowed_batch_sizes` of --{FLAG} must be positive numbers in rising order. "
                f"Received: {list(sizes)}."
            )
        if self.enable_large_batch_splitting and self.max_batch_size < self.most_rows:
            raise ValueError(
                f"`max_execution_batch_size` of --{FLAG} must be at most max_batch_size="
                f"{self.max_batch_size}. Received: {self.most_rows}."
            )
        if sizes and sizes[-1] != self.most_rows:
            raise ValueError(
                f"`allowed_batch_sizes` of --{FLAG} must end with the largest batch, "
                f"{self.most_rows} (max_execution_batch_size where requests are split, otherwise "
                f"max_batch_size). Received: {list(sizes)}."
            )

    def _check_numbers(self) -> None:
        for name in _POSITIVE:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"`{name}` of --{FLAG} must be positive. Received: {value}.")
        # TensorFlow Serving takes 0 for 1 where requests are not split, and refuses it otherwise.
        least = 1 if self.enable_large_batch_splitting else 0
        if self.max_enqueued_batches < least:
            raise ValueError(
                f"`max_enqueued_batches` of --{FLAG} must be {least} or more. Received: "
                f"{self.max_enqueued_batches}."
            )
        if self.batch_timeout_micros < 0:
            raise ValueError(
                f"`batch_timeout_micros` of --{FLAG} must be 0 or more. Received: "
                f"{self.batch_timeout_micros}."
            )

    @property
    def most_rows(self) -> int:
        """Returns the maximum number of rows of a batch."""
        if not self.enable_large_batch_splitting:
            return self.max_batch_size
        return self.max_execution_batch_size or self.max_batch_size

    def filled_up(self, num_rows: int) -> int:
        """Returns the smallest allowed number of rows for a batch.

        Args:
          num_rows: Rows of the requests of the batch, at most `most_rows`.
        """
        return next((size for size in self.allowed_batch_sizes if size >= num_rows), num_rows)


def read_batching_parameters(path: str) -> BatchingParameters:
    """Reads a BatchingParameters from a text file.

    Args:
      path: Path of the file.

    Returns:
      The parameters, with TensorFlow Serving's defaults where the file has none.

    Raises:
      ValueError: If the file is not a BatchingParameters, or a value is out of its range.
      OSError: If the file cannot be read.
    """
    message: Any = read_text_proto(FLAG, path, new_batching_parameters())
    given: dict[str, Any] = {
        # A file without a name leaves TensorFlow Serving's threads without one.
        "thread_pool_name": "batch_threads",
        "allowed_batch_sizes": tuple(message.allowed_batch_sizes),
        "pad_variable_length_inputs": message.pad_variable_length_inputs,
    }
    for field, value in message.ListFields():
        if field.message_type is not None:
            given[field.name] = value.value
    return BatchingParameters(**given)
