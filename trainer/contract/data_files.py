"""Finds the data files of a path that a user gives: a file, a folder or a glob.

Systems that write data put other files beside it: markers, checksums, logs of transactions, files
that are not finished. The names of these files, or of their folders, begin with `_` or `.`, as
Spark, Hive, Beam and pyarrow know them, or end with `.tmp` and the like. All other files are
returned, and each reader decides what to do with them. All readers use this one rule.
"""

import os
from collections.abc import Iterator

from trainer.contract import file_system

_CHECKSUMS = (".crc", ".md5", ".sha1", ".sha256", ".sha512")
_DOCUMENTS = (".md", ".rst")
_DOCUMENT_NAMES = ("readme", "license", "licence", "notice", "copying", "changelog")
_DOCUMENT_SUFFIXES = ("", "txt", "html", "pdf")  # `notice.csv` is a table
# Suffixes that Hadoop gives to unfinished copies, and to markers of folders on an object store.
_MARKERS = ("._copying_", "_$folder$")
_UNFINISHED = (".tmp", ".temp", ".part", ".partial", ".inprogress", ".crdownload")


def is_hidden(name: str) -> bool:
    """Returns whether a name marks a file or folder, and all below it, as no data.

    `_date=2024-05-03` is data: a folder of a partition is named after its column.
    """
    return name.startswith(".") or (name.startswith("_") and "=" not in name)


def find_data_files(place: str, with_unfinished: bool = False) -> list[str]:
    """Returns the data files that a path means, sorted.

    Args:
      place: A file; a folder, which means all files in it and below it; or a glob of files and
        folders. A name that exists is taken literally, whatever characters it has.
      with_unfinished: Whether to include files whose names say that they are still being written,
        for a reader that reports which ones it leaves out.

    Returns:
      Paths of the files. A file that `place` names is returned whatever its name; from folders and
      globs, side files and hidden files are left out, unless the glob itself names hidden ones.
      Empty where nothing is found.

    Raises:
      OSError: A folder cannot be listed.
    """
    if file_system.is_file(place):
        return [place]
    found: set[str] = set()
    for path in _visible_matches(place):
        found.update(_files_below(path) if file_system.is_folder(path) else [path])
    passed_over: tuple[str, ...] = (*_CHECKSUMS, *_DOCUMENTS, *_MARKERS)
    if not with_unfinished:
        passed_over += _UNFINISHED
    return sorted(path for path in found if not _is_beside(path, passed_over))


def _is_beside(path: str, suffixes: tuple[str, ...]) -> bool:
    """Returns whether a file in a folder of data is known to be no data, by its name."""
    name = os.path.basename(path).lower()
    stem, _, suffix = name.partition(".")
    is_document = stem in _DOCUMENT_NAMES and suffix in _DOCUMENT_SUFFIXES
    return name.endswith(suffixes) or is_document


def _visible_matches(pattern: str) -> Iterator[str]:
    """Yields matches of a glob, without hidden files and folders that its wildcards match."""
    folder, names = file_system.split_glob(pattern)
    for path in file_system.matching(pattern):
        found = path[len(folder) :].strip("/").split("/") if names else []
        # `**` stands for any number of folders.
        asked = names if len(names) == len(found) and "**" not in names else ["*"] * len(found)
        if not any(
            is_hidden(name) and name[0] != by[:1] for name, by in zip(found, asked, strict=True)
        ):
            yield path


def _files_below(folder: str) -> Iterator[str]:
    """Yields the files in and below a folder without hidden ones; links are followed."""
    if file_system.is_remote(folder):
        for path in file_system.files_below(folder):
            names = path[len(folder) :].strip("/").split("/")
            if not any(map(is_hidden, names)):
                yield path
        return
    waiting = [(folder, frozenset([os.path.realpath(folder)]))]
    while waiting:
        parent, above = waiting.pop()
        with os.scandir(parent) as entries:
            for entry in entries:
                if is_hidden(entry.name):
                    continue
                if not entry.is_dir():
                    yield entry.path
                    continue
                place = os.path.realpath(entry.path)
                if place not in above:  # a link to a folder above it would repeat its files
                    waiting.append((entry.path, above | {place}))
