"""Writes files that appear whole or not at all, also after a power cut, and reads JSON files.

A file is written under a temporary name beside its place, synced to the disk, renamed, and its
folder is synced to the disk. In an object store the rename is a copy, which also appears whole.

A JSON file that was damaged since it was written is refused with its name, its fault and a remedy.
"""

import contextlib
import json
import os
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from trainer.contract.batches import batched
from trainer.contract.file_system import (
    is_remote,
    make_folders,
    open_file,
    remove_file,
    replace_file,
)
from trainer.contract.owner_marks import new_mark

UNFINISHED_SUFFIX = ".tmp"  # also of files of killed processes: `trainer.contract.owner_marks`
# Errors that numpy and JSON raise for a file that is empty, cut or of another kind.
PARSE_ERRORS = (
    ValueError,
    KeyError,
    TypeError,
    EOFError,
    RecursionError,
    zipfile.BadZipFile,
    zlib.error,
)
_PIECES_PER_WRITE = 1_000

_KINDS = {
    "dict": "an object",
    "list": "a list",
    "str": "a text",
    "int": "a number",
    "float": "a number",
    "bool": "true or false",
    "NoneType": "null",
}


class DamagedFileError(ValueError):
    """A file that tagtower wrote has been damaged since."""


class WholeFile:
    """A file under a temporary name, which gets its own name only when it is closed.

    Another writer of the same path, in any process, writes to another temporary file meanwhile.
    """

    def __init__(self, path: str | os.PathLike[str], mode: str = "w"):
        """Opens the temporary file and makes its folder where that is missing.

        Args:
          path: Path that the file gets when it is closed.
          mode: `w` for text or `wb` for bytes.

        Raises:
          OSError: The file cannot be opened.
        """
        self.path = os.fspath(path)
        make_folders(os.path.dirname(self.path) or ".")
        self._temporary = unfinished(self.path)
        self.file = open_file(self._temporary, mode)

    def write(self, data: Any) -> None:
        """Appends text or bytes to the file.

        Raises:
          OSError: The disk is full, for instance; the error names the file.
        """
        with _naming(self.path):
            self.file.write(data)

    def close(self) -> None:
        """Closes the file and gives it its name.

        Raises:
          OSError: The file cannot be written; an earlier file of that name is unchanged.
        """
        try:
            with _naming(self.path):
                self.file.close()
                replace_file(self._temporary, self.path)
        except BaseException:
            self.discard()
            raise

    def discard(self) -> None:
        """Closes and removes the temporary file."""
        with contextlib.suppress(OSError):
            self.file.close()
        with contextlib.suppress(OSError):
            remove_file(self._temporary)

    def __enter__(self) -> "WholeFile":
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()


def unfinished(path: str) -> str:
    """Returns a new temporary path beside a file's path, another one with every call."""
    return f"{path}.{new_mark()}{UNFINISHED_SUFFIX}"


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Writes bytes as a whole file.

    Args:
      path: Local or remote path; its folder is made where it is missing.
      content: Content of the file.

    Raises:
      OSError: The file cannot be written; an earlier file of that name is unchanged.
    """
    with WholeFile(path, "wb") as file:
        file.write(content)


def write_text(path: str | os.PathLike[str], pieces: str | Iterable[str]) -> None:
    """Writes text as a whole file, in UTF-8.

    Args:
      path: Local or remote path; its folder is made where it is missing.
      pieces: The text, in one piece or many.

    Raises:
      OSError: The file cannot be written; an earlier file of that name is unchanged.
    """
    with WholeFile(path, "w") as file:
        for some in batched([pieces] if isinstance(pieces, str) else pieces, _PIECES_PER_WRITE):
            file.write("".join(some))


def write_json(path: str | os.PathLike[str], content: Any, **options: Any) -> None:
    """Writes JSON as a whole file that ends with a line break.

    Args:
      path: Local or remote path; its folder is made where it is missing.
      content: A value that JSON can hold.
      **options: Arguments of `json.dumps`; by default it indents and sorts keys.

    Raises:
      OSError: The file cannot be written; an earlier file of that name is unchanged.
    """
    write_text(path, json.dumps(content, **{"indent": 1, "sort_keys": True, **options}) + "\n")


def replace_link(target: str, link: str) -> None:
    """Points a local symbolic link at a file or folder, in one step, replacing an earlier link.

    The link is relative to its folder, so that it holds when both are moved together.
    """
    temporary = unfinished(link)
    os.symlink(os.path.relpath(target, os.path.realpath(os.path.dirname(link))), temporary)
    os.replace(temporary, link)


def read_json(
    path: str,
    remedy: str,
    kind: type = dict,
    required: Mapping[str, type | tuple[type, ...]] | None = None,
) -> Any:
    """Reads a JSON file that tagtower wrote.

    Args:
      path: Local or remote path of the file.
      remedy: Advice for the error message if the file is damaged.
      kind: Type of the value that the file holds.
      required: Keys that an object must have, with the types of their values.

    Returns:
      The value that the file holds.

    Raises:
      FileNotFoundError: The file does not exist.
      DamagedFileError: The file is damaged; the message is one line.
    """
    fault = None
    value: Any = None
    content = b""
    try:
        with open_file(path, "rb") as file:
            content = file.read()
    except IsADirectoryError:
        fault = "it is a folder"
    if fault:
        pass
    elif not content:
        fault = "it is empty"
    elif not content.strip(b"\0"):
        fault = f"it is {len(content)} bytes of zero"
    else:
        try:
            value = json.loads(content.decode())
        except RecursionError:
            fault = "it is nested too deep"
        except UnicodeDecodeError as error:
            fault = f"it is not UTF-8 from byte {error.start} on"
        except ValueError as error:
            fault = f"it is truncated or not JSON ({' '.join(str(error).split())})"
    fault = fault or _unlike(value, kind, required or {})
    if fault:
        raise DamagedFileError(f"{path} is damaged: {fault}; {remedy}.")
    return value


def read_json_lines(path: str, keys: Collection[str] = ("tag",)) -> Iterator[dict[str, Any]]:
    """Reads a file of JSON objects, one a line, that tagtower wrote.

    Args:
      path: Local or remote path of the file.
      keys: Keys that each object must have.

    Yields:
      The objects.

    Raises:
      FileNotFoundError: The file does not exist.
      DamagedFileError: A line is damaged; the message names it.
    """
    with open_file(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                row = json.loads(line.decode())
            except (ValueError, RecursionError):
                row = {}
            if not isinstance(row, dict) or not row.keys() >= set(keys):
                raise DamagedFileError(
                    f"{path} is damaged: line {number} is not an object with {', '.join(keys)}; "
                    "copy the file again from its run, or remove its folder in the run: "
                    "`tagtower run` makes it again."
                )
            yield row


def _unlike(value: Any, kind: type, required: Mapping[str, type | tuple[type, ...]]) -> str | None:
    """Returns how a value differs from what must have been written; None: not at all."""
    if not isinstance(value, kind):
        name = type(value).__name__
        return f"it holds {_KINDS[name]} in place of {_KINDS[kind.__name__]}"
    items: Any = value
    for key, types in required.items():
        if key not in items:
            return f"it lacks `{key}`"
        if not isinstance(items[key], types):
            return f"its `{key}` is {_KINDS[type(items[key]).__name__]}"
    return None


@contextlib.contextmanager
def _naming(path: str) -> Iterator[None]:
    """Adds the file's name to errors of writing, which Python raises without it."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None and not is_remote(path):
            raise OSError(error.errno, error.strerror, path) from error
        raise
