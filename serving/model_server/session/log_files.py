"""The TFRecord files of a request log, one after the other.

A file is written as `NAME.part` and gets its name when it is closed, by its size or its age. A file
whose disk failed, or whose server was killed, keeps `.part`: its last record may be cut off.
"""

import contextlib
import itertools
import os
import secrets
import time

import tensorflow as tf

from serving.model_server.session.log_options import RequestLogOptions
from trainer.contract.file_system import is_remote, make_folders, remove_file, replace_file

SUFFIX, PART = ".tfrecord", ".part"
# Errors of a disk.
FAILURES = (OSError, ValueError, tf.errors.OpError)

# Servers in containers have the same process ids, and may write to one folder.
_WRITER = secrets.token_hex(4)
_numbers = itertools.count()


class LogFile:
    """One file of a request log, which gets its final name when it is closed.

    Args:
      prefix: Beginning of the file's path.
      options: Size and age at which the file is full.

    Raises:
      OSError, tf.errors.OpError: The file cannot be made.
    """

    def __init__(self, prefix: str, options: RequestLogOptions):
        now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        self.prefix = prefix
        self._path = f"{prefix}-{now}-{_WRITER}-{next(_numbers):06d}{SUFFIX}"
        self._options = options
        self._began = time.monotonic()
        self._num_bytes = 0
        self._has_records = False
        make_folders(os.path.dirname(prefix))
        self._writer = tf.io.TFRecordWriter(self._path + PART)

    @property
    def is_full(self) -> bool:
        """Whether the file has reached its size or its age."""
        age_s = time.monotonic() - self._began
        return self._num_bytes >= self._options.file_bytes or age_s >= self._options.file_s

    def write(self, record: bytes) -> None:
        """Appends a record."""
        self._writer.write(record)
        self._num_bytes += len(record)

    def flush(self) -> bool:
        """Hands the records to the operating system; in an object store only `close` does.

        Returns:
          Whether the records are written.
        """
        # Each flush of an object would upload all of it again.
        if is_remote(self._path):
            return False
        self._writer.flush()
        self._has_records = self._num_bytes > 0
        return True

    def close(self) -> None:
        """Closes the file under its final name."""
        self._writer.close()
        replace_file(self._path + PART, self._path)

    def abandon(self) -> None:
        """Closes the file after an error, under the name that it has; one without records goes."""
        with contextlib.suppress(*FAILURES):
            self._writer.close()
        if not self._has_records:
            with contextlib.suppress(*FAILURES):
                remove_file(self._path + PART, missing_ok=True)
