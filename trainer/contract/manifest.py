"""Writes and checks the manifest of a folder: `manifest.json`, sizes and hashes of all its files.

It detects damage, not attacks: a person who can write the files can write the manifest. A folder
without a manifest (made by an earlier release or by another program) is accepted as it is, and the
caller of the check reports it.

A subfolder may have a manifest of its own. It then lists the subfolder's files, and the outer
manifest lists only its `manifest.json`, so that nothing is hashed twice.

A hidden file that was added later is no damage: file systems, editors and desktops leave hidden
files (`.nfs0001`, `.a.swp`, `.DS_Store`). A hidden file that was there before is listed like any
other. Among the examples of a split an added hidden file is damage, too: TensorFlow reads all files
there.
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
# Suffix of a manifest beside its folder, used where no file may be put into the folder.
MANIFEST_SUFFIX = ".manifest.json"
_FORM = 1
_ALGORITHM = "sha256"
_BLOCK = 1 << 20
_SPLIT_PREFIX = "Split-"  # TFX's prefix of a folder of examples
# Hashing and reading release Python's lock; each thread holds one block.
_NUM_THREADS = 4

ANEW = "Restore the file, or have the whole folder made again."
_REMOVE = "Remove that file if nothing needs it"

# Size and digest by relative path.
Entries = dict[str, dict[str, Any]]


class DamagedFolderError(ValueError):
    """A folder does not match its manifest.

    Attributes:
      file: Path of the first wrong file, relative to the folder.
    """

    def __init__(self, message: str, file: str):
        super().__init__(message)
        self.file = file


def write_manifest(folder: str, path: str | None = None) -> None:
    """Writes the manifest of a folder as it is now and replaces an earlier one.

    Args:
      folder: Local or remote path of the folder.
      path: Path of the manifest, beside the folder; None: `manifest.json` in the folder.
    """
    names = _names(folder)
    entries = dict(zip(names, _described(folder, names), strict=True))
    _write(path or os.path.join(folder, MANIFEST_FILE), entries)


def add_to_manifest(folder: str, names: Iterable[str]) -> None:
    """Adds files that were written later to a folder's manifest; other entries do not change.

    Args:
      folder: Local or remote path of the folder; if it has no manifest, one is written.
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
    """Reads the entries of a manifest.

    Args:
      folder: Folder that the manifest describes.
      path: Path of the manifest; None: `manifest.json` in the folder.
      remedy: Sentence for the error message that says what to do.

    Returns:
      Size and digest by relative path; None: there is no manifest.

    Raises:
      DamagedFolderError: The manifest cannot be read.
    """
    path = path or os.path.join(folder, MANIFEST_FILE)
    if not exists(path):
        return None
    try:
        with open_file(path) as file:
            content = json.load(file)
        if content["form"] != _FORM or content["algorithm"] != _ALGORITHM:
            raise _damage(folder, os.path.basename(path), "is from another release", remedy)
        entries = {str(name): _entry(name, entry) for name, entry in content["files"].items()}
    except DamagedFolderError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        fault = "is truncated or not a manifest"
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
      folder: Local or remote path of the folder.
      path: Path of the manifest, beside the folder; None: `manifest.json` in the folder.
      remedy: Sentence for the error message that says what to do.
      after_file: Function called after each file that was read; an exception ends the check.
      only: Subfolders to which the check is limited; empty: the whole folder.

    Returns:
      Whether the folder was checked; False: it has no manifest.

    Raises:
      DamagedFolderError: The folder is damaged; the error names the first wrong file.
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
            rest = ", or have the whole folder made again." if remedy == ANEW else f". {remedy}"
            raise _damage(folder, name, "is not in the manifest", f"{_REMOVE}{rest}")
    names = sorted(entries)
    for name, found in zip(names, _described(folder, names), strict=True):
        if found != entries[name]:
            raise _damage(folder, name, "has changed since it was written", remedy)
        after_file()
    for name in names:
        if posixpath.basename(name) == MANIFEST_FILE:
            within = os.path.join(folder, posixpath.dirname(name))
            check_manifest(within, remedy=remedy, after_file=after_file)
    return True


def _damage(folder: str, file: str, fault: str, remedy: str) -> DamagedFolderError:
    return DamagedFolderError(f"{folder} is damaged: `{file}` {fault}. {remedy}", file)


def _names(folder: str) -> list[str]:
    """Returns the relative paths of the files that a manifest of the folder lists, sorted."""
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
    """Returns whether a file is an unfinished manifest, left by a killed writer."""
    return name.startswith(f"{MANIFEST_FILE}.") and name.endswith(UNFINISHED_SUFFIX)


def _is_passed_over(name: str) -> bool:
    """Returns whether a file may be missing from the manifest, because nothing reads it."""
    parts = name.split("/")
    is_hidden = any(part.startswith(".") for part in parts)
    return is_hidden and not any(part.startswith(_SPLIT_PREFIX) for part in parts)


def _described(folder: str, names: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Yields the size and digest of files, in order."""
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
    """Returns one entry as it is compared; refuses a name that leads out of the folder."""
    if posixpath.isabs(name) or posixpath.normpath(name) != name or name.startswith(".."):
        raise ValueError(name)
    return {"size": int(entry["size"]), "digest": str(entry["digest"])}


def _write(path: str, entries: Entries) -> None:
    write_json(path, {"form": _FORM, "algorithm": _ALGORITHM, "files": entries})
