"""Files that have their name only once they are whole."""

import itertools
import os
import uuid
from collections.abc import Iterable
from typing import Any

import tensorflow as tf

UNFINISHED_SUFFIX = ".tmp"  # of what a killed worker leaves

# TensorFlow takes longer for a call than for a line.
_PIECES_PER_WRITE = 1_000


class RenamedFile:
    """A file written beside its place and renamed when it is closed.

    A bundle that is tried again leaves no half file, and writes the same bytes.
    """

    def __init__(self, path: str, mode: str = "w"):
        """Opens the file; its folder is made where it is missing.

        Args:
          path: Where it will be.
          mode: `w` for text or `wb` for bytes.
        """
        tf.io.gfile.makedirs(os.path.dirname(path))
        self._path = path
        # Workers of a cluster may write the same file, and have the same process id.
        self._temporary = f"{path}.{uuid.uuid4().hex}{UNFINISHED_SUFFIX}"
        self._file = tf.io.gfile.GFile(self._temporary, mode)

    def write(self, data: Any) -> None:
        """Appends text or bytes."""
        self._file.write(data)

    def close(self) -> None:
        """Gives the file its name."""
        self._file.close()
        tf.io.gfile.rename(self._temporary, self._path, overwrite=True)


def write_text(path: str, pieces: Iterable[str]) -> None:
    """Writes a whole text file."""
    file = RenamedFile(path)
    remaining = iter(pieces)
    while some := "".join(itertools.islice(remaining, _PIECES_PER_WRITE)):
        file.write(some)
    file.close()
