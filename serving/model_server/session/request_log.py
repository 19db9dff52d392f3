"""The request log of a model: a sample of its answered Predict requests, with their answers.

Records are TensorFlow Serving's PredictionLog, in TFRecord files. A request does not wait for the
log: it hands over references to what it has, and a thread does the rest, once a second. If the
thread falls behind or the disk fails, records are dropped and counted, and requests are still
answered. `serving.model_server.session.log_files` says what becomes of the files.
"""

import collections
import dataclasses
import logging
import random
import threading
import time
from collections.abc import Callable, Sequence

from google.protobuf.descriptor import Descriptor
from tensorflow_serving.apis import model_pb2, prediction_log_pb2

from serving.model_server.session.log_files import FAILURES, LogFile
from serving.model_server.session.log_options import RequestLogOptions
from serving.model_server.session.logged_ids import IdFilter

_logger = logging.getLogger("tagtower.model_server")

TYPE = "tfrecord"
# What happened to a record, and why.
WRITTEN, DROPPED = "written", "dropped"
QUEUE_FULL, DISK, CLOSED, ERROR = "queue_full", "disk", "closed", "error"

_ROUND_S = 1.0
_RECORDS_AT_ONCE = 256
# Seconds after an error until the next attempt to write.
_PAUSE_S = 10.0
_CLOSE_S = 10.0

_LENGTH_DELIMITED = 2  # a wire type of protobuf
_PREDICT_LOG = prediction_log_pb2.PredictLog.DESCRIPTOR

# Function that returns a serialized PredictRequest and its PredictResponse.
Messages = Callable[[], tuple[bytes, bytes]]
# Function that counts records, given what happened to them, why, and how many there are.
Count = Callable[[str, str, int], None]


@dataclasses.dataclass(frozen=True)
class RequestLogConfig:
    """The configuration of a model's request log.

    Attributes:
      filename_prefix: Beginning of the files' paths.
      sampling_rate: Share of the requests that are logged, above 0.
    """

    filename_prefix: str
    sampling_rate: float


@dataclasses.dataclass(frozen=True)
class _Entry:
    """A request that waits to be written."""

    config: RequestLogConfig
    spec: model_pb2.ModelSpec
    time_s: int
    messages: Messages
    num_bytes: int


class RequestLog:
    """The request log of one model; safe to use from several threads.

    Args:
      config: Paths of the files, and share of the requests.
      count: Function that counts records.
      options: What holds for all logs of the server; None: the defaults.
    """

    def __init__(
        self,
        config: RequestLogConfig,
        count: Count = lambda status, reason, number: None,
        options: RequestLogOptions | None = None,
    ):
        options = options or RequestLogOptions()
        self._config = config
        self._count = count
        self._options = options
        self._ids = IdFilter(options.id_names, options.salt)
        self._changed = threading.Condition()
        self._waiting: collections.deque[_Entry] = collections.deque()
        # Size of the entries that wait or are being written.
        self._num_bytes = 0
        self._is_closed = self._is_urgent = False
        self._num_begun = self._num_done = 0  # rounds of the thread
        self._file: LogFile | None = None
        self._num_unflushed = 0
        self._retry_time = 0.0
        self._thread = threading.Thread(target=self._run, name="request-log", daemon=True)
        self._thread.start()

    def is_sampled(self) -> bool:
        """Draws at random whether a request is logged."""
        return random.random() < self._config.sampling_rate

    def add(self, spec: model_pb2.ModelSpec, messages: Messages, num_bytes: int) -> None:
        """Logs a request that was sampled; returns at once.

        Args:
          spec: Model, version and signature that answered.
          messages: Function that returns request and answer; the log's thread calls it.
          num_bytes: Memory that the function holds.
        """
        entry = _Entry(self._config, spec, int(time.time()), messages, num_bytes)
        with self._changed:
            reason = CLOSED if self._is_closed else ""
            if not reason and self._num_bytes + num_bytes > self._options.waiting_bytes:
                reason = QUEUE_FULL
            if not reason:
                self._waiting.append(entry)
                self._num_bytes += num_bytes
                # Woken for each request, the thread would take the interpreter from the others.
                if self._num_bytes > self._options.waiting_bytes // 2 and not self._is_urgent:
                    self._is_urgent = True
                    self._changed.notify_all()
        if reason:
            self._count(DROPPED, reason, 1)

    def reconfigure(self, config: RequestLogConfig, timeout_s: float = _CLOSE_S) -> None:
        """Changes rate or place of the log without losing a record.

        Args:
          config: Configuration of the requests from now on.
          timeout_s: Maximum number of seconds to wait until the file at the old place is closed.
        """
        with self._changed:
            has_moved = config.filename_prefix != self._config.filename_prefix
            self._config = config
            if has_moved:
                num_begun = self._num_begun
                self._is_urgent = True
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._num_done > num_begun, timeout_s)

    def end(self) -> None:
        """Ends the log; later records are dropped, and those that wait are being written."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def close(self, timeout_s: float = _CLOSE_S) -> None:
        """Ends the log, and waits until its records are written and its file is closed.

        Args:
          timeout_s: Maximum number of seconds to wait for the disk.
        """
        self.end()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        is_over = False
        while not is_over:
            with self._changed:
                self._changed.wait_for(lambda: self._is_urgent or self._is_closed, _ROUND_S)
                entries, self._waiting = self._waiting, collections.deque()
                is_over, self._is_urgent = self._is_closed, False
                self._num_begun += 1
                prefix = self._config.filename_prefix
            while entries:
                part = [entries.popleft() for _ in range(min(len(entries), _RECORDS_AT_ONCE))]
                self._write(part)
                with self._changed:
                    self._num_bytes -= sum(entry.num_bytes for entry in part)
            self._close_file("" if is_over else prefix)
            with self._changed:
                self._num_done = self._num_begun
                self._changed.notify_all()

    def _write(self, entries: Sequence[_Entry]) -> None:
        records = []
        for entry in entries:
            try:
                records.append((entry.config.filename_prefix, self._record(entry)))
            except Exception:
                # The thread must survive any request, and an id that is not hashed is not written.
                _logger.exception("A request cannot be logged.")
                self._count(DROPPED, ERROR, 1)
        if time.monotonic() < self._retry_time:
            self._count(DROPPED, DISK, len(records))
            return
        num_before = 0
        try:
            for prefix, record in records:
                self._close_file(prefix)
                if self._file is None:
                    self._file = LogFile(prefix, self._options)
                self._file.write(record)
                num_before += 1
                self._num_unflushed += 1
            if self._file is not None and self._file.flush():
                self._count_written()
        except FAILURES as error:
            self._fail(error, len(records) - num_before)

    def _record(self, entry: _Entry) -> bytes:
        request, response = entry.messages()
        log = prediction_log_pb2.PredictionLog()
        log.log_metadata.model_spec.CopyFrom(entry.spec)
        log.log_metadata.sampling_config.sampling_rate = entry.config.sampling_rate
        log.log_metadata.timestamp_secs = entry.time_s
        # Request and answer are taken as the bytes that they are, without reading them again.
        predict_log = _field(_PREDICT_LOG, "request", self._ids.request(request))
        predict_log += _field(_PREDICT_LOG, "response", self._ids.response(response))
        metadata: bytes = log.SerializeToString()
        return metadata + _field(log.DESCRIPTOR, "predict_log", predict_log)

    def _close_file(self, prefix: str) -> None:
        """Closes the file if it is full, or is not the one of a prefix."""
        file = self._file
        if file is None or not (file.is_full or file.prefix != prefix):
            return
        try:
            file.close()
        except FAILURES as error:
            self._fail(error, 0)
        else:
            self._file = None
            self._count_written()

    def _count_written(self) -> None:
        if self._num_unflushed:
            self._count(WRITTEN, "", self._num_unflushed)
        self._num_unflushed = 0

    def _fail(self, error: Exception, num_left: int) -> None:
        """Gives up the file; records that may not have reached the disk are counted as dropped."""
        reason = " ".join(str(error).split())
        _logger.error("Logging requests to %s: %s", self._config.filename_prefix, reason)
        self._count(DROPPED, DISK, self._num_unflushed + num_left)
        self._num_unflushed = 0
        if self._file is not None:
            self._file.abandon()
        self._file, self._retry_time = None, time.monotonic() + _PAUSE_S


def _field(descriptor: Descriptor, name: str, content: bytes) -> bytes:
    """Returns a field of a message on the wire: its tag, the length and the content."""
    number = descriptor.fields_by_name[name].number
    return _varint(number << 3 | _LENGTH_DELIMITED) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    digits = []
    while number > 0x7F:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*digits, number])
