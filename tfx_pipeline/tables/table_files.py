"""The files of a table: which files a path names, their format by suffix, and how they are opened.

A folder may contain files that cannot be read: they are named, and the others are read.
"""

from __future__ import annotations

import bz2
import functools
import gzip
import io
import logging
import os
from collections.abc import Sequence
from typing import BinaryIO, cast

from tfx_pipeline.tables.read_limits import ReadLimits, UnpackedFile
from trainer.contract import file_system
from trainer.contract.arrow import pa
from trainer.contract.data_files import find_data_files

_logger = logging.getLogger("tagtower.tables")

PARQUET = "parquet"
CSV = "csv"
JSON_LINES = "jsonl"
_COMPRESSIONS = ("", ".gz", ".bz2", ".zst")
SUFFIXES = {
    ".parquet": PARQUET,
    **{f".csv{compression}": CSV for compression in _COMPRESSIONS},
    **{f".jsonl{compression}": JSON_LINES for compression in _COMPRESSIONS},
}
READABLE = ".parquet, .csv and .jsonl, the last two also with .gz, .bz2 or .zst"
_BUFFER = 1 << 20
_NUM_NAMED = 3


def table_format(path: str) -> str | None:
    """Returns `parquet`, `csv` or `jsonl` by the file's suffix; None for any other."""
    name = os.path.basename(path).lower()
    for suffix, found in SUFFIXES.items():
        if name.endswith(suffix):
            return found
    return None


def open_file(path: str, limits: ReadLimits) -> BinaryIO:
    """Opens a file for reading bytes, unpacked where its suffix is that of a compressed file.

    All tables are opened here, local or remote.

    Args:
      path: Path of the file.
      limits: Limits with the size to which it may unpack.

    Returns:
      The file; one that is unpacked has only `read`.

    Raises:
      OSError: The file cannot be opened.
    """
    if os.path.splitext(path)[1].lower() not in _COMPRESSIONS[1:]:
        return file_system.open_file(path, "rb")
    size = file_system.file_size(path)
    return cast(BinaryIO, UnpackedFile(open_unpacked(path), path, size, limits))


def open_unpacked(path: str) -> BinaryIO:
    """Opens a file for reading bytes, unpacked as by `open_file`, as a full file without a limit.

    Raises:
      OSError: The file cannot be opened.
    """
    suffix = os.path.splitext(path)[1].lower()
    if suffix in (".gz", ".bz2"):
        # Closing these closes only files that they opened themselves.
        source = file_system.open_file(path, "rb") if file_system.is_remote(path) else path
        return cast(BinaryIO, (gzip if suffix == ".gz" else bz2).open(source, "rb"))
    file = file_system.open_file(path, "rb")
    if suffix == ".zst":
        # Arrow's stream reports where a file is truncated; it cannot iterate over lines.
        unpacked = pa.CompressedInputStream(pa.PythonFile(file, "r"), "zstd")
        return cast(BinaryIO, io.BufferedReader(unpacked, _BUFFER))
    return file


def find_files(pattern: str) -> tuple[list[str], list[str]]:
    """Finds the files of a table by a path.

    Args:
      pattern: File, folder (its files, including those in subfolders) or glob. Hidden files and
        files known to be no data are skipped, see `trainer.contract.data_files`.

    Returns:
      Paths of the files, at least one, sorted; and paths of the other files there, which are not
      read because of their suffix.

    Raises:
      ValueError: Nothing is found, or nothing that can be read, or a name is not UTF-8.
    """
    if file_system.is_file(pattern):
        if table_format(pattern) is None:
            raise ValueError(
                f"{pattern} must be a table file, by its suffix. Known are {READABLE}."
            )
        _check_name(pattern)
        return [pattern], []
    found = find_data_files(pattern, with_unfinished=True)
    if not found and not file_system.is_folder(pattern) and not file_system.is_glob(pattern):
        raise ValueError(f"No file or folder at {pattern}. Check the path in the configuration.")
    for path in found:
        _check_name(path)
    files = [path for path in found if table_format(path) is not None]
    unread = [path for path in found if table_format(path) is None]
    if not files:
        beside = f" Received: {_named(unread)}." if unread else ""
        raise ValueError(
            f"No table file found at {pattern}.{beside} Known suffixes are {READABLE}."
        )
    return files, unread


def list_files(pattern: str) -> list[str]:
    """Returns the files of a table that are read, see `find_files`."""
    return find_files(pattern)[0]


def say_unread(paths: Sequence[str], name: str) -> None:
    """Logs the names of files that are not read, in one line, once per process.

    Args:
      paths: Paths of the files.
      name: Name of the table.
    """
    if paths:
        _warn_once(
            f"not read because of their suffix, beside the files of {name}: {_named(paths)}. "
            f"Known are {READABLE}; begin the name of a file that holds no data with `_`."
        )


def _check_name(path: str) -> None:
    # Rejected rows, hashes and messages contain the name of the file.
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{path!a} must have a name in UTF-8. Rename the file.") from error


@functools.lru_cache
def _warn_once(line: str) -> None:
    _logger.warning("%s", line)


def _named(paths: Sequence[str]) -> str:
    more = len(paths) - _NUM_NAMED
    return ", ".join(paths[:_NUM_NAMED]) + (f" and {more} more" if more > 0 else "")
