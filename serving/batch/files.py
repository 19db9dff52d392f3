"""Input files of a batch prediction: which there are, their compression and their format.

The first bytes of a file decide its format, not its name. A file of a format that cannot be read is
refused before anything starts, with its name: read in another format it would yield only errors, or
nothing.
"""

import bz2
import gzip
import io
import os
import re
import struct
import zlib
from typing import BinaryIO, cast

from trainer.contract.arrow import pa
from trainer.contract.config_loader import require
from trainer.contract.data_files import find_data_files
from trainer.contract.file_system import is_folder, is_remote, matching, open_file

GZIP, BZIP2, ZSTD = "gzip", "bzip2", "zstd"
# Exceptions raised for a damaged file. The `OSError` is raised by bzip2 and zstd, and has no errno.
DAMAGED = (OSError, EOFError, zlib.error)

_COMPRESSIONS = {b"\x1f\x8b": GZIP, b"BZh": BZIP2, b"\x28\xb5\x2f\xfd": ZSTD}
_NOT_READ = {
    b"\xfd7zXZ\x00": "compressed by xz",
    b"\x04\x22\x4d\x18": "compressed by lz4",
    b"\xff\x06\x00\x00sNaPpY": "compressed by snappy",
    b"\x1f\x9d": "compressed by compress",
    b"PK\x03\x04": "a zip archive",
    b"PAR1": "Parquet",
    b"ORC": "ORC",
    b"Obj\x01": "Avro",
}
# Longer byte order marks first: UTF-16's mark is the beginning of UTF-32's.
_OTHER_UNICODE = {
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
UTF8_MARK = b"\xef\xbb\xbf"
_HEAD = 1 << 16
_RECORD_NAME = "tfrecord"
PART = ".part"  # of a file of a request log that a server has not closed
# Maximum size of a line or a record; a user's features take a few kilobytes.
MOST_INSTANCE_BYTES = 16 << 20
_RECORD_HEADER = struct.Struct("<Q4x")  # length, its checksum
_CHECKSUM_BYTES = 4
_BLOCK = 1 << 20
_OBJECTS_AT_CARRIAGE_RETURN = re.compile(rb"\}\s*\r\s*\{")


def input_files(pattern: str, name: str = "input") -> list[str]:
    """Finds the files of instances.

    Args:
      pattern: File, folder or glob, see `trainer.contract.data_files`.
      name: Name of the flag that gives the pattern, for messages.

    Returns:
      Paths of the files, in order of their names.

    Raises:
      ValueError: No file matches.
    """
    paths = find_data_files(pattern)
    if paths:
        return paths
    received = f"{name}={pattern!r}"
    others = matching(os.path.join(pattern, "*") if is_folder(pattern) else pattern)
    if others:
        names = sorted({os.path.basename(path) for path in others})
        received += f", which has only files that hold no data ({', '.join(names[:3])})"
    raise ValueError(f"`{name}` must match at least one file. Received: {received}.")


def log_files(pattern: str) -> list[str]:
    """Finds the files of a request log, those that are being written among them.

    Args:
      pattern: File, folder or glob.

    Returns:
      Paths of the files, sorted; empty: the pattern matches no file of records.

    Raises:
      ValueError: There are files of records and others.
    """
    found = find_data_files(pattern, with_unfinished=True)
    names = {path for path in found if _RECORD_NAME in os.path.basename(path).lower()}
    if names:
        others = sorted({*input_files(pattern, "requests")} - names)
        require(not others, "requests", "match files of one format", pattern)
    # A folder that is listed while a file gets its name may show it twice.
    return sorted(
        path for path in names if not (path.endswith(PART) and path.removesuffix(PART) in names)
    )


def compression_of(path: str) -> str | None:
    """Returns the compression of a file, by its first bytes; None: it is not compressed."""
    with open_file(path, "rb") as file:
        start = file.read(4)
    return next((name for magic, name in _COMPRESSIONS.items() if start.startswith(magic)), None)


def open_uncompressed(path: str) -> BinaryIO:
    """Opens a file to read its lines or bytes; gzip, bzip2 and zstd are uncompressed."""
    compression = compression_of(path)
    if compression is None:
        return open_file(path, "rb")
    if compression == ZSTD:
        stream = pa.CompressedInputStream(open_file(path, "rb"), "zstd")
        return cast(BinaryIO, io.BufferedReader(stream, _BLOCK))
    opened = gzip.open if compression == GZIP else bz2.open
    return cast(BinaryIO, opened(open_file(path, "rb") if is_remote(path) else path))


def check_records(path: str) -> None:
    """Refuses a file whose compression TensorFlow cannot read as TFRecords.

    Args:
      path: Path of the file.

    Raises:
      ValueError: The file is compressed by something else than gzip, as its first bytes say.
    """
    compression = compression_of(path)
    require(
        compression in (None, GZIP),
        "input",
        "be TFRecords that are gzipped or not compressed",
        f"{path} ({compression})",
    )


def check_record_lengths(path: str) -> None:
    """Checks the lengths of all records of a file.

    TensorFlow allocates as many bytes as a record claims to have, and ends the process if that
    fails; and it does not notice that a compressed stream is cut between two records.

    Args:
      path: Path of a file of TFRecords, gzipped or not.

    Raises:
      ValueError: A record claims to have more than `MOST_INSTANCE_BYTES` bytes.
      OSError, EOFError, zlib.error: The file is truncated or damaged.
    """
    with open_uncompressed(path) as file:
        number = 0
        while len(header := file.read(_RECORD_HEADER.size)) == _RECORD_HEADER.size:
            number += 1
            (length,) = _RECORD_HEADER.unpack(header)
            if length > MOST_INSTANCE_BYTES:
                raise ValueError(
                    f"`input` must have records of at most {MOST_INSTANCE_BYTES >> 20} MB. "
                    f"Received: {path}, whose record {number} says it has {length} bytes."
                )
            file.read(length + _CHECKSUM_BYTES)


def check_lines(path: str, name: str = "input") -> None:
    """Refuses a file that does not hold lines of UTF-8, as its first bytes say.

    Args:
      path: Path of the file.
      name: Name of the flag that gives the file, for messages.

    Raises:
      ValueError: The file is in another encoding, format or compression.
    """
    with open_file(path, "rb") as file:
        start = file.read(16)
    for magic, kind in _NOT_READ.items():
        if start.startswith(magic):
            raise ValueError(
                f"`{name}` must be JSON lines, plain or compressed by gzip, bzip2 or zstd. "
                f"Received: {path}, which is {kind}."
            )
    try:
        with open_uncompressed(path) as file:
            head = file.read(_HEAD)
    except DAMAGED:
        return  # `InstanceReader` reads the file to its end and reports the damage
    for mark, encoding in _OTHER_UNICODE.items():
        if head.startswith(mark):
            raise ValueError(
                f"`{name}` must be JSON lines in UTF-8. Received: {path} in {encoding}; "
                f"`iconv -f {encoding} -t UTF-8` converts it."
            )
    if b"\0" in head[:8]:
        raise ValueError(
            f"`{name}` must be JSON lines in UTF-8. Received: {path}, which begins with NUL bytes: "
            "it is UTF-16 (`iconv` converts it) or TFRecords (--input_format tf-record)."
        )
    if b"\n" not in head and _OBJECTS_AT_CARRIAGE_RETURN.search(head):
        raise ValueError(
            f"`{name}` must be lines that end with a line feed. Received: {path}, whose lines end "
            r"with carriage returns; `tr '\r' '\n'` converts it."
        )
