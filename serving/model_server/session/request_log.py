"""The request log of a model: a sample of its answered Predict requests, with their answers.

Records are TensorFlow Serving's PredictionLog, in TFRecord files. A request does not wait for the
disk: its record is kept in memory until a thread writes it. If the thread falls behind or the disk
fails, records are dropped and counted, and requests are still answered. A file gets its final name
when it is closed. Until then its name ends in `.part`; a killed server leaves such a file, whose
last record may be truncated.
"""

import collections
import contextlib
import dataclasses
import itertools
import logging
import os
import random
import threading
import time
from collections.abc import Callable

import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from trainer.contract.file_system import make_folders, replace_file

_logger = logging.getLogger("tagtower.model_server")

TYPE = "tfrecord"
SUFFIX, PART = ".tfrecord", ".part"
# A file is closed when it reaches this size or this age.
_FILE_BYTES = 64 << 20
_FILE_S = 3600.0
# Maximum size of the records that wait for the disk.
_WAITING_BYTES = 64 << 20
_FLUSH_S = 1.0
# Seconds after an error until the next attempt to write.
_PAUSE_S = 10.0
_CLOSE_S = 10.0

_numbers = itertools.count()


@dataclasses.dataclass(frozen=True)
class RequestLogConfig:
    """The configuration of a model's request log.

    Attributes:
      filename_prefix: Beginning of the files' paths.
      sampling_rate: Share of the requests that are logged, above 0.
    """

    filename_prefix: str
    sampling_rate: float


class RequestLog:
    """The request log of one model; safe to use from several threads.

    Args:
      config: Paths of the files, and share of the requests.
      count: Function that is called with `written` or `dropped` and the number of records.
      file_bytes: Size at which a file is closed.
      waiting_bytes: Maximum size of the records that wait for the disk.
    """

    def __init__(
        self,
        config: RequestLogConfig,
        count: Callable[[str, int], None] = lambda status, number: None,
        *,
        file_bytes: int = _FILE_BYTES,
        waiting_bytes: int = _WAITING_BYTES,
    ):
        self.config = config
        self._count = count
        self._file_bytes, self._waiting_bytes = file_bytes, waiting_bytes
        self._changed = threading.Condition()
        self._waiting: collections.deque[bytes] = collections.deque()
        self._num_bytes = 0
        self._is_closed = False
        self._file: _File | None = None
        self._retry_time = 0.0
        self._thread = threading.Thread(target=self._write_all, name="request-log", daemon=True)
        self._thread.start()

    def is_sampled(self) -> bool:
        """Draws at random whether a request is logged."""
        return random.random() < self.config.sampling_rate

    def add(
        self, request: predict_pb2.PredictRequest, response: predict_pb2.PredictResponse
    ) -> None:
        """Logs a request that was sampled; returns at once.

        Args:
          request: Request to log.
          response: Answer to the request, with a complete `model_spec`.
        """
        log = prediction_log_pb2.PredictionLog()
        log.log_metadata.model_spec.CopyFrom(response.model_spec)
        log.log_metadata.sampling_config.sampling_rate = self.config.sampling_rate
        log.log_metadata.timestamp_secs = int(time.time())
        log.predict_log.request.CopyFrom(request)
        log.predict_log.response.CopyFrom(response)
        record = log.SerializeToString()
        with self._changed:
            fits = self._num_bytes + len(record) <= self._waiting_bytes and not self._is_closed
            if fits:
                self._waiting.append(record)
                self._num_bytes += len(record)
                self._changed.notify()
        if not fits:
            self._count("dropped", 1)

    def close(self, timeout_s: float = _CLOSE_S) -> None:
        """Writes the waiting records and closes the file; later records are dropped.

        Args:
          timeout_s: Maximum number of seconds to wait for the disk.
        """
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join(timeout_s)

    def _write_all(self) -> None:
        is_over = False
        while not is_over:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._is_closed, _FLUSH_S)
                records, is_over = list(self._waiting), self._is_closed
                self._waiting.clear()
                self._num_bytes = 0
            try:
                self._write(records, is_over)
            except (OSError, ValueError, tf.errors.OpError) as error:
                reason = " ".join(str(error).split())
                _logger.error("Logging requests to %s: %s", self.config.filename_prefix, reason)
                self._count("dropped", len(records))
                if self._file is not None:
                    with contextlib.suppress(OSError, tf.errors.OpError):
                        self._file.close()
                self._file, self._retry_time = None, time.monotonic() + _PAUSE_S

    def _write(self, records: list[bytes], is_over: bool) -> None:
        if records and self._file is None:
            if time.monotonic() < self._retry_time:
                self._count("dropped", len(records))
                return
            self._file = _File(self.config.filename_prefix)
        file = self._file
        if file is None:
            return
        for record in records:
            file.write(record)
        file.flush()
        self._count("written", len(records))
        if is_over or file.num_bytes >= self._file_bytes or file.age_s >= _FILE_S:
            self._file = None
            file.close()


class _File:
    """One file of the log, which gets its final name when it is closed."""

    def __init__(self, prefix: str):
        now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        self._path = f"{prefix}-{now}-{os.getpid()}-{next(_numbers)}{SUFFIX}"
        self._began = time.monotonic()
        self.num_bytes = 0
        make_folders(os.path.dirname(prefix))
        self._writer = tf.io.TFRecordWriter(self._path + PART)

    @property
    def age_s(self) -> float:
        return time.monotonic() - self._began

    def write(self, record: bytes) -> None:
        self._writer.write(record)
        self.num_bytes += len(record)

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()
        replace_file(self._path + PART, self._path)
