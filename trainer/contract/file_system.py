"""Access to files and folders: local ones by Python's own calls, remote ones by TensorFlow's.

A path with a scheme (`gs://bucket/folder`) is remote. Only remote paths need TensorFlow, which is
imported with the first of them, so that a program with local files does not wait for it. Remote
file systems have no locks and no renaming of folders; `move_folder` says what holds there.
"""

import contextlib
import errno
import glob
import io
import os
import re
import shutil
from collections.abc import Collection, Iterator
from typing import Any

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_GLOB_CHARACTERS = frozenset("*?[")
# Schemes that TensorFlow reads by itself; asking TensorFlow takes seconds.
_BUILT_IN_SCHEMES = ("file", "gs", "ram")
_MOUNTS = {
    "s3": "mount the bucket as a folder (by mount-s3 or rclone)",
    "s3a": "mount the bucket as a folder (by mount-s3 or rclone)",
    "abfs": "mount the container as a folder (by blobfuse2 or rclone)",
    "abfss": "mount the container as a folder (by blobfuse2 or rclone)",
    "wasbs": "mount the container as a folder (by blobfuse2 or rclone)",
    "hdfs": "mount it as a folder (by its NFS gateway)",
}


def is_remote(path: str) -> bool:
    """Returns whether a path has a scheme."""
    return _SCHEME.match(path) is not None


def is_glob(name: str) -> bool:
    """Returns whether a path, or a name in one, has wildcard characters."""
    return not _GLOB_CHARACTERS.isdisjoint(name)


def absolute(path: str) -> str:
    """Returns the absolute path of a local path; a remote one is returned as it is.

    `..` means the parent of the folder that a symbolic link leads to, as for the system's calls.
    """
    if is_remote(path):
        return path.rstrip("/")
    names = path.split(os.sep)
    if os.pardir in names:
        num_parents = len(names) - names[::-1].index(os.pardir)
        parent = os.path.realpath(os.sep.join(names[:num_parents]))
        path = os.path.join(parent, *names[num_parents:])
    return os.path.abspath(path)


def scheme_fault(path: str) -> str | None:
    """Explains why a path cannot be read or written because of its scheme, and what to do.

    Args:
      path: Local or remote path.

    Returns:
      The requirement and a remedy, completing "... must"; None: there is a reader for the path.
    """
    scheme = path.partition("://")[0]
    if not is_remote(path) or scheme in _BUILT_IN_SCHEMES:
        return None
    import tensorflow as tf

    known = [name for name in tf.io.gfile.get_registered_schemes() if name]
    if scheme in known:
        return None
    remedy = _MOUNTS.get(scheme, "mount it as a folder")
    return (
        f"be a local path or gs://..., as nothing is installed that reads {scheme}:// "
        f"({remedy}, or copy the files)"
    )


def open_file(path: str, mode: str = "r") -> Any:
    """Opens a file as `open` does, text as UTF-8.

    Args:
      path: Local or remote path of the file.
      mode: `r`, `rb`, `w` or `wb`.

    Returns:
      A file object; one for reading can seek.

    Raises:
      OSError: The file cannot be opened; FileNotFoundError: it does not exist.
    """
    is_text = "b" not in mode
    if not is_remote(path):
        return open(path, mode, encoding="utf-8" if is_text else None)
    binary: io.BufferedIOBase
    if "w" in mode:
        binary = io.BufferedWriter(_RemoteWriter(path))
    else:
        binary = io.BufferedReader(_RemoteReader(path), 1 << 20)
    return io.TextIOWrapper(binary, encoding="utf-8") if is_text else binary


def exists(path: str) -> bool:
    """Returns whether a file or folder exists."""
    return _gfile(path).exists(path) if is_remote(path) else os.path.exists(path)


def is_folder(path: str) -> bool:
    """Returns whether a folder exists."""
    return _gfile(path).isdir(path) if is_remote(path) else os.path.isdir(path)


def is_file(path: str) -> bool:
    """Returns whether a file exists."""
    if is_remote(path):
        return _gfile(path).exists(path) and not _gfile(path).isdir(path)
    return os.path.isfile(path)


def file_size(path: str) -> int:
    """Returns the size of a file in bytes."""
    return _gfile(path).stat(path).length if is_remote(path) else os.path.getsize(path)


def names_in(folder: str) -> list[str]:
    """Returns the names of files and folders in a folder, sorted.

    Raises:
      OSError: The folder cannot be listed; FileNotFoundError: it does not exist.
    """
    if not is_remote(folder):
        return sorted(os.listdir(folder))
    with _translated(folder):
        return sorted(name.rstrip("/") for name in _gfile(folder).listdir(folder))


def files_below(folder: str) -> list[str]:
    """Returns the paths of all files in and below a folder, sorted."""
    walk = _gfile(folder).walk if is_remote(folder) else os.walk
    return sorted(os.path.join(parent, name) for parent, _, names in walk(folder) for name in names)


def matching(pattern: str) -> list[str]:
    """Returns the paths that match a glob, sorted; `**` works for local paths alone.

    A name that exists is taken literally, whatever characters it has: in `win [x]/*.csv` only the
    last name is a pattern if there is a folder `win [x]`.
    """
    folder, names = split_glob(pattern)
    if not names:
        return [pattern] if exists(pattern) else []
    if not is_remote(pattern):
        return sorted(_local_matches(folder, names))
    escaped = re.sub(r"([*?\[\\])", r"\\\1", folder)
    with _translated(pattern):
        return sorted(_gfile(pattern).glob("/".join([escaped, *names])))


def split_glob(pattern: str) -> tuple[str, list[str]]:
    """Splits a glob before the first name that is a pattern.

    Args:
      pattern: A path, in which names may be patterns.

    Returns:
      The path before the first name that is a pattern, and the list of that name and those after
      it, which is empty where no name is a pattern. A name that exists is no pattern.
    """
    names = pattern.split("/")
    for i, name in enumerate(names):
        if is_glob(name) and not exists("/".join(names[: i + 1])):
            folder = "/".join(names[:i])
            return folder if folder or i == 0 else "/", names[i:]
    return pattern, []


def _local_matches(folder: str, names: list[str]) -> list[str]:
    """Returns the paths below a folder that match names, each taken literally where it exists."""
    found = [folder]
    for i, name in enumerate(names):
        if name == "**":
            patterns = [os.path.join(glob.escape(parent), *names[i:]) for parent in found]
            return [path for each in patterns for path in glob.glob(each, recursive=True)]
        matches = []
        for parent in found:
            path = os.path.join(parent, name)
            is_there = os.path.lexists(path)
            pattern = os.path.join(glob.escape(parent), name)
            matches += [path] if is_there else glob.glob(pattern)
        found = matches
    return found


def make_folders(folder: str) -> None:
    """Makes a folder and those above it, where they do not exist."""
    if is_remote(folder):
        _gfile(folder).makedirs(folder)
    else:
        os.makedirs(folder, exist_ok=True)


def remove_file(path: str, missing_ok: bool = False) -> None:
    """Removes a file or a link, which need not exist if `missing_ok`."""
    with contextlib.suppress(*((FileNotFoundError,) if missing_ok else ())):
        if not is_remote(path):
            os.remove(path)
            return
        with _translated(path):
            _gfile(path).remove(path)


def remove_folder(folder: str) -> None:
    """Removes a folder with all that is in it, if it exists."""
    if not is_remote(folder):
        shutil.rmtree(folder, ignore_errors=True)
    elif _gfile(folder).isdir(folder):
        _gfile(folder).rmtree(folder)


def replace_file(source: str, target: str) -> None:
    """Renames a file and replaces the target if it exists; atomic on local disks.

    On a local disk the content is written to the disk before the name, and the name before the
    function returns: after a power cut the file is the old one or the new one. An object store
    copies and removes; the copy, too, appears whole or not at all.
    """
    if is_remote(source):
        _gfile(target).rename(source, target, overwrite=True)
        return
    _bring_to_disk(source)
    os.replace(source, target)
    _bring_to_disk(os.path.dirname(target) or ".")


def copy_folder(source: str, target: str, last: Collection[str] = ()) -> None:
    """Copies a folder's files, between file systems if need be; local copies are synced to disk.

    Args:
      source: The folder.
      target: Folder that gets the copies; files that exist there are overwritten.
      last: Names of files that are copied after all others.
    """
    files = files_below(source)
    for path in sorted(files, key=lambda path: os.path.basename(path) in last):
        copy = os.path.join(target, os.path.relpath(path, source))
        make_folders(os.path.dirname(copy))
        with open_file(path, "rb") as read, open_file(copy, "wb") as written:
            shutil.copyfileobj(read, written, 1 << 20)
    if not is_remote(target):
        bring_all_to_disk(target)


def move_folder(source: str, target: str, last: Collection[str] = ()) -> None:
    """Renames a folder.

    On a local disk this is one step, and all files are synced to the disk before it. Elsewhere
    files are copied one by one and the source is removed afterwards: a reader may meanwhile find
    some of the files, without those named in `last`.

    Args:
      source: The folder.
      target: New path on the same file system, which does not exist yet.
      last: Names of files that are copied after all others where the rename is no single step.
    """
    if not is_remote(source):
        bring_all_to_disk(source)
        os.rename(source, target)
        for folder in {os.path.dirname(path) or "." for path in (source, target)}:
            _bring_to_disk(folder)
        return
    copy_folder(source, target, last)
    remove_folder(source)


def _bring_to_disk(path: str) -> None:
    """Waits until a local file, or a folder's list of names, is on the disk.

    Raises:
      OSError: It cannot be written, and the error names it: some disks report only now that they
        are full.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some file systems cannot sync folders.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise OSError(error.errno, error.strerror, path) from error
    finally:
        os.close(descriptor)


def bring_all_to_disk(folder: str) -> None:
    """Waits until all that is in a local folder is on the disk; does nothing where there is none.

    Raises:
      OSError: A file cannot be written to the disk, and the error names it.
    """
    for parent, _, names in os.walk(folder):
        for path in (*(os.path.join(parent, name) for name in names), parent):
            if not os.path.islink(path):
                _bring_to_disk(path)


class _RemoteReader(io.RawIOBase):
    """Reads a remote file through the interface of Python's buffers and of Arrow."""

    mode = "rb"

    def __init__(self, path: str):
        super().__init__()
        self._path = path
        with _translated(path):
            self._size = file_size(path)
            self._file = _gfile(path).GFile(path, "rb")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self.tell(), io.SEEK_END: self._size}[whence]
        self._file.seek(start + offset)
        return self.tell()

    def readinto(self, buffer: Any) -> int:
        with _translated(self._path):
            read = self._file.read(len(buffer))
        buffer[: len(read)] = read
        return len(read)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


class _RemoteWriter(io.RawIOBase):
    """Writes a remote file from its first byte to its last."""

    mode = "wb"

    def __init__(self, path: str):
        super().__init__()
        self._path = path
        self._file = _gfile(path).GFile(path, "wb")
        self._file.write(b"")  # so that an empty file is created, too
        self._num_written = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._num_written

    def write(self, data: Any) -> int:
        content = bytes(data)
        with _translated(self._path):
            self._file.write(content)
        self._num_written += len(content)
        return len(content)

    def close(self) -> None:
        if not self.closed:
            with _translated(self._path):
                self._file.close()
        super().close()


@contextlib.contextmanager
def _translated(path: str) -> Iterator[None]:
    """Translates TensorFlow's errors into Python's, which callers know."""
    import tensorflow as tf

    try:
        yield
    except tf.errors.NotFoundError as error:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from error
    except tf.errors.OpError as error:
        raise OSError(errno.EIO, error.message, path) from error


def _gfile(path: str) -> Any:
    """Returns TensorFlow's file system module, for a path whose scheme it knows."""
    fault = scheme_fault(path)
    if fault is not None:
        raise ValueError(f"{path} must {fault}.")
    import tensorflow as tf

    return tf.io.gfile
