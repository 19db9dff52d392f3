"""What a folder held when it was written: `manifest.json`, sizes and hashes of all of its files.

Against damage, not against people: who can write the files can write the manifest. A folder without
one (made by an earlier release, or by others) is taken as it is, and whoever checks says so.

The files of a folder within that has a manifest of its own are held by that one, and the outer
manifest holds its `manifest.json`: nothing is hashed twice.

A hidden file that came later is no damage: file systems, editors and desktops leave such
(`.nfs0001`, `.a.swp`, `.DS_Store`). One that was there is held like any other. Among the examples
of a split a later one is damage, too: TensorFlow reads all files there, hidden or not.
"""

import hashlib
import json
import os
import posixpath
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent import futures
from typing import Any

from trainer.contract.file_system import (
    exists,
    file_size,
    files_below,
    is_file,
    open_file,
)
from trainer.contract.whole_files import UNFINISHED_SUFFIX, write_json

MANIFEST_FILE = "manifest.json"
# Of a manifest that lies beside its folder, where no file may be put into that.
MANIFEST_SUFFIX = ".manifest.json"
_FORM = 1
_ALGORITHM = "sha256"
_BLOCK = 1 << 20
_SPLIT_PREFIX = "Split-"  # TFX's, of a folder of examples
# Hashing and reading go on outside of Python's lock; each thread holds one block.
_NUM_THREADS = 4

ANEW = "Put back the file as it was, or have the whole made anew."
_REMOVE = "Remove that file if nothing needs it"

# Relative path -> size and digest.
Entries = dict[str, dict[str, Any]]


class DamagedFolderError(ValueError):
    """A folder does not hold what its manifest says.

    Attributes:
      file: The first wrong file, relative to the folder.
    """

    def __init__(self, message: str, file: str):
        super().__init__(message)
        self.file = file


def write_manifest(folder: str, path: str | None = None) -> None:
    """Writes the manifest of a folder as it is now, over an earlier one.

    Args:
      folder: Local or remote.
      path: Where to, beside the folder; None: `manifest.json` in it.
    """
    names = _names(folder)
    entries = dict(zip(names, _described(folder, names), strict=True))
    _write(path or os.path.join(folder, MANIFEST_FILE), entries)


def add_to_manifest(folder: str, names: Iterable[str]) -> None:
    """Takes files into a folder's manifest that were written after it; all others stay as they are.

    Args:
      folder: Local or remote; one without a manifest is given one.
      names: Relative paths of the files.

    Raises:
      DamagedFolderError: The manifest cannot be read.
    """
    entries = read_manifest(folder)
    if entries is None:
        write_manifest(folder)
        return
    entries.update({name: next(_described(folder, [name])) for name in names})
    _write(os.path.join(folder, MANIFEST_FILE), entries)


def read_manifest(folder: str, path: str | None = None, remedy: str = ANEW) -> Entries | None:
    """The entries of a manifest.

    Args:
      folder: The folder it is of.
      path: Where it is; None: in the folder.
      remedy: What to do where it cannot be read, a sentence.

    Returns:
      Size and digest by relative path; None: there is none.

    Raises:
      DamagedFolderError: It cannot be read.
    """
    path = path or os.path.join(folder, MANIFEST_FILE)
    if not exists(path):
        return None
    try:
        with open_file(path) as file:
            content = json.load(file)
        if content["form"] != _FORM or content["algorithm"] != _ALGORITHM:
            raise _damage(folder, os.path.basename(path), "is of another release", remedy)
        entries = {str(name): _entry(name, entry) for name, entry in content["files"].items()}
    except DamagedFolderError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        fault = "is cut, or no manifest"
        raise _damage(folder, os.path.basename(path), fault, remedy) from error
    return entries


def check_manifest(
    folder: str,
    path: str | None = None,
    remedy: str = ANEW,
    after_file: Callable[[], None] = lambda: None,
    only: Collection[str] = (),
) -> bool:
    """Compares a folder with its manifest: names and sizes of all files first, then hashes.

    Args:
      folder: Local or remote.
      path: Where the manifest is, beside the folder; None: `manifest.json` in it.
      remedy: What to do where it is damaged, a sentence.
      after_file: Called after each file that was read; what it raises ends the check.
      only: Folders within it that are compared, and nothing else; none: all of it.

    Returns:
      Whether it was checked; False: it has no manifest.

    Raises:
      DamagedFolderError: It is damaged; names the first wrong file.
      OSError: A file cannot be read.
    """
    entries = read_manifest(folder, path, remedy)
    if entries is None:
        return False
    begins = tuple(f"{each}/" for each in only) or ("",)
    entries = {name: entry for name, entry in entries.items() if name.startswith(begins)}
    for name, entry in sorted(entries.items()):
        file = os.path.join(folder, name)
        if not is_file(file):
            raise _damage(folder, name, "is missing", remedy)
        size = file_size(file)
        if size != entry["size"]:
            fault = f"has {size} bytes in place of {entry['size']}"
            raise _damage(folder, name, fault, remedy)
    for name in _names(folder):
        if name not in entries and name.startswith(begins) and not _is_passed_over(name):
            rest = ", or have the whole made anew." if remedy == ANEW else f". {remedy}"
            raise _damage(folder, name, "is not in the manifest", f"{_REMOVE}{rest}")
    names = sorted(entries)
    for name, found in zip(names, _described(folder, names), strict=True):
        if found != entries[name]:
            raise _damage(folder, name, "has other bytes than when it was written", remedy)
        after_file()
    for name in names:
        if posixpath.basename(name) == MANIFEST_FILE:
            within = os.path.join(folder, posixpath.dirname(name))
            check_manifest(within, remedy=remedy, after_file=after_file)
    return True


def _damage(folder: str, file: str, fault: str, remedy: str) -> DamagedFolderError:
    return DamagedFolderError(f"{folder} is damaged: `{file}` {fault}. {remedy}", file)


def _names(folder: str) -> list[str]:
    """Relative paths of what a manifest of the folder lists, sorted."""
    found = [os.path.relpath(path, folder).replace(os.sep, "/") for path in files_below(folder)]
    within = {
        posixpath.dirname(name)
        for name in found
        if posixpath.basename(name) == MANIFEST_FILE and name != MANIFEST_FILE
    }
    return sorted(
        name
        for name in found
        if name != MANIFEST_FILE
        and not _is_unfinished(name)
        and not any(
            name.startswith(f"{inner}/") and name != f"{inner}/{MANIFEST_FILE}" for inner in within
        )
    )


def _is_unfinished(name: str) -> bool:
    """Whether a file is the manifest of a writer that was killed."""
    return name.startswith(f"{MANIFEST_FILE}.") and name.endswith(UNFINISHED_SUFFIX)


def _is_passed_over(name: str) -> bool:
    """Whether nothing reads a file that is not in the manifest."""
    parts = name.split("/")
    is_hidden = any(part.startswith(".") for part in parts)
    return is_hidden and not any(part.startswith(_SPLIT_PREFIX) for part in parts)


def _described(folder: str, names: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Size and digest of files, in order."""
    with futures.ThreadPoolExecutor(_NUM_THREADS) as executor:
        found = [executor.submit(_describe, os.path.join(folder, name)) for name in names]
        try:
            for each in found:
                yield each.result()
        finally:
            executor.shutdown(cancel_futures=True)


def _describe(path: str) -> dict[str, Any]:
    digest, size = hashlib.new(_ALGORITHM), 0
    with open_file(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            size += len(block)
    return {"size": size, "digest": digest.hexdigest()}


def _entry(name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    """One entry as it is compared; a name that leads out of the folder is none."""
    if posixpath.isabs(name) or posixpath.normpath(name) != name or name.startswith(".."):
        raise ValueError(name)
    return {"size": int(entry["size"]), "digest": str(entry["digest"])}


def _write(path: str, entries: Entries) -> None:
    write_json(path, {"form": _FORM, "algorithm": _ALGORITHM, "files": entries})
