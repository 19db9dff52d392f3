"""The one door for files that others read: there whole or not at all, also after a power cut.

A file is written beside its place, brought to the disk, renamed, and its folder is brought to the
disk. In an object store the rename is a copy, which too appears whole.

And the way back: a file of JSON that is not what was written is named, with what is wrong with it
and what to do.
"""

import contextlib
import itertools
import json
import os
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from trainer.contract.file_system import (
    is_remote,
    make_folders,
    open_file,
    remove_file,
    replace_file,
)
from trainer.contract.owner_marks import new_mark

UNFINISHED_SUFFIX = ".tmp"  # of what a killed process leaves, see `trainer.contract.owner_marks`
# What numpy and JSON raise for a file that is empty, cut or something else.
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
    """A file of ours is not what was written."""


class WholeFile:
    """A file written beside its place, which has its name only once it is closed.

    Whoever writes it again meanwhile, in whatever process, writes another one.
    """

    def __init__(self, path: str | os.PathLike[str], mode: str = "w"):
        """Opens the file; its folder is made where it is missing.

        Args:
          path: Where it will be.
          mode: `w` for text or `wb` for bytes.

        Raises:
          OSError: It cannot be opened.
        """
        self.path = os.fspath(path)
        make_folders(os.path.dirname(self.path) or ".")
        self._temporary = unfinished(self.path)
        self.file = open_file(self._temporary, mode)

    def write(self, data: Any) -> None:
        """Appends text or bytes.

        Raises:
          OSError: The disk is full, for instance; the error names the file.
        """
        with _naming(self.path):
            self.file.write(data)

    def close(self) -> None:
        """Gives the file its name.

        Raises:
          OSError: It cannot be written; then nothing is there but what was before.
        """
        try:
            with _naming(self.path):
                self.file.close()
                replace_file(self._temporary, self.path)
        except BaseException:
            self.discard()
            raise

    def discard(self) -> None:
        """Removes what was written."""
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
    """Where a file is while it is written, beside its place: a new name with every call."""
    return f"{path}.{new_mark()}{UNFINISHED_SUFFIX}"


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Writes a whole file.

    Args:
      path: Local or remote; its folder is made where it is missing.
      content: What it will hold.

    Raises:
      OSError: It cannot be written; what was there before is there still.
    """
    with WholeFile(path, "wb") as file:
        file.write(content)


def write_text(path: str | os.PathLike[str], pieces: str | Iterable[str]) -> None:
    """The same for text, in UTF-8, in one piece or many."""
    remaining = iter([pieces] if isinstance(pieces, str) else pieces)
    with WholeFile(path, "w") as file:
        while some := "".join(itertools.islice(remaining, _PIECES_PER_WRITE)):
            file.write(some)


def write_json(path: str | os.PathLike[str], content: Any, **options: Any) -> None:
    """The same for JSON, with a line's end.

    Args:
      path: See `write_bytes`.
      content: Anything that JSON can hold.
      **options: Arguments of `json.dumps`; by default indented, with sorted keys.
    """
    write_text(path, json.dumps(content, **{"indent": 1, "sort_keys": True, **options}) + "\n")


def read_json(
    path: str,
    remedy: str,
    kind: type = dict,
    required: Mapping[str, type | tuple[type, ...]] | None = None,
) -> Any:
    """Reads a file of ours that holds JSON.

    Args:
      path: Local or remote.
      remedy: What to do where it is damaged, in words.
      kind: What it holds.
      required: For an object, the keys that it has, with the types of their values.

    Returns:
      What it holds.

    Raises:
      FileNotFoundError: It is not there.
      DamagedFileError: It is not what was written, in one line.
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
            fault = f"it is no UTF-8 from byte {error.start} on"
        except ValueError as error:
            fault = f"it is cut or no JSON ({' '.join(str(error).split())})"
    fault = fault or _unlike(value, kind, required or {})
    if fault:
        raise DamagedFileError(f"{path} is damaged: {fault}; {remedy}.")
    return value


def read_json_lines(path: str, keys: Collection[str] = ("tag",)) -> Iterator[dict[str, Any]]:
    """Reads a file of ours of JSON objects, one a line.

    Args:
      path: Local or remote.
      keys: What each of them has.

    Yields:
      The objects.

    Raises:
      FileNotFoundError: It is not there.
      DamagedFileError: A line is not what was written; it is named.
    """
    with open_file(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                row = json.loads(line.decode())
            except (ValueError, RecursionError):
                row = {}
            if not isinstance(row, dict) or not row.keys() >= set(keys):
                raise DamagedFileError(
                    f"{path} is damaged: line {number} is no object with {', '.join(keys)}; "
                    "copy it again from its run, or remove the folder that it is in there, and "
                    "`tagtower run` makes it anew."
                )
            yield row


def _unlike(value: Any, kind: type, required: Mapping[str, type | tuple[type, ...]]) -> str | None:
    """In what a value is not what was written; None: in nothing."""
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
    """Python's errors of writing name no file, and these do."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None and not is_remote(path):
            raise OSError(error.errno, error.strerror, path) from error
        raise
