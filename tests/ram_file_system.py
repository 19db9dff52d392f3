"""Plugins of Beam and TFX for TensorFlow's `ram://`; they have some for `gs://` alone.

Importing this module registers both. They work only for engines in this process.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import tensorflow as tf
from apache_beam.io import filesystem as beam_filesystem
from apache_beam.io.filesystem import CompressionTypes, FileMetadata
from tfx.dsl.io import filesystem_registry
from tfx.dsl.io.plugins.tensorflow_gfile import TensorflowFilesystem

from trainer.contract import file_system as fs


class RamForBeam(beam_filesystem.FileSystem):
    """The methods of a file system that Beam's text sinks use."""

    @classmethod
    def scheme(cls) -> str:
        return "ram"

    def join(self, basepath: str, *paths: str) -> str:
        return "/".join([basepath.rstrip("/"), *paths])

    def split(self, path: str) -> tuple[str, str]:
        head, _, tail = path.rpartition("/")
        return head, tail

    def mkdirs(self, path: str) -> None:
        fs.make_folders(path)

    def has_dirs(self) -> bool:
        return True

    def _list(self, dir_or_prefix: str):
        folder, _ = self.split(dir_or_prefix)
        if fs.is_folder(folder):
            for path in fs.files_below(folder):
                if path.startswith(dir_or_prefix):
                    yield FileMetadata(path, fs.file_size(path))

    def create(self, path: str, mime_type: str = "", compression_type: Any = None) -> Any:
        fs.make_folders(self.split(path)[0])
        return self._wrapped(path, "wb", compression_type)

    def open(self, path: str, mime_type: str = "", compression_type: Any = None) -> Any:
        return self._wrapped(path, "rb", compression_type)

    def _wrapped(self, path: str, mode: str, compression_type: Any) -> Any:
        kind = self._get_compression_type(path, compression_type or CompressionTypes.AUTO)
        file = fs.open_file(path, mode)
        if kind == CompressionTypes.UNCOMPRESSED:
            return file
        return beam_filesystem.CompressedFile(file, compression_type=kind)

    def copy(self, source_file_names: list[str], destination_file_names: list[str]) -> None:
        raise NotImplementedError

    def rename(self, source_file_names: list[str], destination_file_names: list[str]) -> None:
        for source, target in zip(source_file_names, destination_file_names, strict=True):
            fs.replace_file(source, target)

    def exists(self, path: str) -> bool:
        return fs.exists(path)

    def size(self, path: str) -> int:
        return fs.file_size(path)

    def last_updated(self, path: str) -> float:
        return 0.0

    def checksum(self, path: str) -> str:
        return str(fs.file_size(path))

    def metadata(self, path: str) -> FileMetadata:
        return FileMetadata(path, fs.file_size(path), 0.0)

    def delete(self, paths: list[str]) -> None:
        for path in paths:
            if fs.is_folder(path):
                fs.remove_folder(path)
            elif fs.exists(path):
                fs.remove_file(path)


class RamForTfx(TensorflowFilesystem):
    """TFX's own plugin, for one more scheme."""

    SUPPORTED_SCHEMES = ["ram://"]


filesystem_registry.DEFAULT_FILESYSTEM_REGISTRY.register(RamForTfx, priority=0)


def mend_ram(patch) -> None:
    """Makes folders of `ram://` behave like those of `gs://`.

    Unchanged, `ram://` also lists `assets.extra/x` below `assets`, as `.extra`, fails to remove
    both, and leaves the files of a renamed folder behind.

    Args:
      patch: pytest's `monkeypatch`.
    """
    gfile = tf.io.gfile
    listdir, rename, rmtree, walk = gfile.listdir, gfile.rename, gfile.rmtree, gfile.walk

    def listdir_mended(path: str) -> list[str]:
        return [name for name in listdir(path) if gfile.exists(f"{path.rstrip('/')}/{name}")]

    def walk_mended(top: str, *arguments: Any) -> Iterator[tuple[str, list[str], list[str]]]:
        if not top.startswith("ram://"):
            yield from walk(top, *arguments)
            return
        names = [name.rstrip("/") for name in listdir_mended(top)]
        folders = [name for name in names if gfile.isdir(f"{top}/{name}")]
        yield top, folders, [name for name in names if name not in folders]
        for name in folders:
            yield from walk_mended(f"{top}/{name}")

    def rename_mended(source: str, target: str, overwrite: bool = False) -> None:
        if source.startswith("ram://") and gfile.isdir(source):
            fs.move_folder(source, target)
        else:
            rename(source, target, overwrite=overwrite)

    def rmtree_mended(path: str) -> None:
        if not path.startswith("ram://"):
            rmtree(path)
            return
        path = path.rstrip("/")
        folders = []
        for folder, _, names in list(walk_mended(path)):
            folders.append(folder)
            for name in names:
                gfile.remove(f"{folder}/{name}")
        for folder in sorted(folders, reverse=True):  # `assets.extra` before `assets`
            with contextlib.suppress(tf.errors.NotFoundError):  # it was none but for its files
                rmtree(folder)

    for mended in (listdir_mended, rename_mended, rmtree_mended, walk_mended):
        patch.setattr(gfile, mended.__name__.removesuffix("_mended"), mended)
