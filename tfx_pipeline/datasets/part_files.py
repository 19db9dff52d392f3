"""The files of one part of the tables, which one worker writes into the staging folder.

A file is written under a temporary name and renamed; the counts of a part come last, and state that
it is complete. So a part that is retried, or written by two workers at once, has the same result.
"""

from __future__ import annotations

import collections
import contextlib
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tfx_pipeline.datasets.growing_files import GrowingFiles
from tfx_pipeline.datasets.interactions_schema import INTERACTIONS_FOLDER, INTERACTIONS_SCHEMA
from trainer.contract import file_system
from trainer.contract.arrow import pa
from trainer.contract.whole_files import write_json

# Folder in the staging folder, until `TableWriter.take_parts` has joined the pieces.
PIECES_FOLDER = "pieces"
UNFINISHED_SUFFIX = ".tmp"
_USERS_FILE = "users.parquet"


def interactions_file(index: int) -> str:
    """Returns the name of a part's interactions, below the folder of the tables."""
    return f"{INTERACTIONS_FOLDER}/part-{index:05d}.parquet"


def piece_file(index: int, name: str) -> str:
    """Returns the name of a part's piece of a shared file, below the staging folder."""
    return f"{PIECES_FOLDER}/{index:05d}-{name}"


def counts_file(index: int) -> str:
    """Returns the name of the counts and pieces of a part, below the staging folder."""
    return piece_file(index, "counts.json")


class PartFiles:
    """Streaming writer of one part; see `open_part`.

    Attributes:
      counts: Counts by name that `TableWriter.take_parts` sums.
    """

    def __init__(self, staging: str, index: int):
        """Initializes without any file.

        Args:
          staging: Folder in which the tables grow.
          index: Number of the part.
        """
        self.counts: collections.Counter[str] = collections.Counter()
        self._staging = staging
        self._index = index
        self._files = GrowingFiles()
        self._pieces: list[str] = []
        # Temporary paths by final name.
        self._unfinished: dict[str, str] = {}

    def write_interactions(self, rows: pa.Table) -> None:
        """Appends rows with the columns `INTERACTIONS_SCHEMA`; a call is at least a row group."""
        path = self._path(interactions_file(self._index))
        self._files.add_rows(path, rows.cast(INTERACTIONS_SCHEMA))
        self.counts["rows.interactions"] += len(rows)

    def write_users(self, rows: pa.Table) -> None:
        """Appends users; all calls of all parts have the same columns."""
        self._files.add_rows(self._piece(_USERS_FILE), rows)
        self.counts["rows.users"] += len(rows)

    def write_json_lines(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Appends objects to the part's piece of a file of JSON lines."""
        self._files.add_json_lines(self._piece(name), rows)

    def finish(self) -> None:
        """Gives the files their final names."""
        self._files.close_all()
        for name, path in self._unfinished.items():
            file_system.replace_file(path, os.path.join(self._staging, name))
        done = os.path.join(self._staging, counts_file(self._index))
        write_json(done, {"counts": self.counts, "pieces": self._pieces})

    def give_up(self) -> None:
        """Removes the written files."""
        with contextlib.suppress(OSError):  # e.g. on a full disk
            self._files.close_all()
        for path in self._unfinished.values():
            with contextlib.suppress(OSError):
                file_system.remove_file(path)

    def _piece(self, name: str) -> str:
        if name not in self._pieces:
            self._pieces.append(name)
        return self._path(piece_file(self._index, name))

    def _path(self, name: str) -> str:
        if name not in self._unfinished:
            self._unfinished[name] = _unfinished(os.path.join(self._staging, name))
        return self._unfinished[name]


@contextlib.contextmanager
def open_part(staging: str, index: int) -> Iterator[PartFiles]:
    """Opens the files of a part; they exist as a whole when the block ends, or not at all.

    Args:
      staging: Folder in which the tables grow.
      index: Number of the part.

    Yields:
      The files of the part.
    """
    files = PartFiles(staging, index)
    try:
        yield files
        files.finish()
    except BaseException:
        files.give_up()
        raise


def _unfinished(path: str) -> str:
    # A random name, as workers of a cluster may write the same file with the same process id.
    return f"{path}.{uuid.uuid4().hex}{UNFINISHED_SUFFIX}"
