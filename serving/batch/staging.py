"""The folder in which a batch prediction grows, so that a killed one goes on and none shows half.

Beside the output folder `_<output>.partial`, whose name readers of folders pass over, holds

    manifest.json   what is predicted by what: model, input, options; and when it was begun
    work/           files that are being written, under names of their own
    complete/       results of finished shards, under their final names
    errors/         errors of finished shards
    done/           a file for each finished shard, with its counts: written last, it is the commit

Everything gets its name by a rename. A worker that is killed, or runs twice as some engines do,
leaves nothing but a file in `work/`: a shard's bytes follow from the manifest. At the end
`complete/` is renamed to the output folder. All workers must reach the folder by the same path.

An object store (`gs://`) renames no folders and has no locks: there the output's files appear one
by one, `_predictions.json` last, and nobody keeps a second run out.
"""

import contextlib
import dataclasses
import datetime
import fcntl
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from serving.batch.output import ABOUT_FILE, ERRORS_PREFIX, RESULTS_PREFIX
from trainer.contract.config_loader import require
from trainer.contract.file_system import (
    exists,
    files_below,
    is_file,
    is_remote,
    make_folders,
    move_folder,
    names_in,
    open_file,
    remove_file,
    remove_folder,
    replace_file,
)
from trainer.contract.whole_files import DamagedFileError, read_json

_BLOCK = 1 << 20
_FOLDERS = ("work", "complete", "errors", "done")
_MANIFEST, _LOCK = "manifest.json", ".lock"
_BEGUN = "begun"  # in the manifest's file, and no part of what must be equal
_UNREADABLE = ".unreadable"


@dataclasses.dataclass(frozen=True)
class ShardFiles:
    """Where a worker writes a shard.

    Attributes:
      results: Path of the results.
      errors: Path of the errors.
    """

    results: str
    errors: str


@dataclasses.dataclass(frozen=True)
class Staging:
    """The staging folder of an output.

    Attributes:
      output_dir: The folder that appears at the end.
      num_shards: How many shards there are.
      suffix: End of the results' names.
      errors_prefix: Begin of the errors' name.
    """

    output_dir: str
    num_shards: int
    suffix: str = ""
    errors_prefix: str = ERRORS_PREFIX

    @property
    def folder(self) -> str:
        """The staging folder."""
        parent, name = os.path.split(self.output_dir.rstrip("/"))
        # To Spark `_day=2024-05-03` would be data, of the column `_day`.
        return os.path.join(parent, f"_{name.replace('=', '-')}.partial")

    @contextlib.contextmanager
    def begin(
        self, manifest: Mapping[str, Any], restart: bool = False
    ) -> Iterator[datetime.datetime]:
        """Makes the folder, or takes up what a killed run left; no other run may use it meanwhile.

        Args:
          manifest: Two runs with equal manifests write the same bytes.
          restart: Throw away what is there.

        Yields:
          When the prediction was begun, which is earlier for one that goes on; UTC.

        Raises:
          ValueError: The output exists, another run is at work, or what is there belongs to another
            manifest.
        """
        require(
            not exists(self.output_dir),
            "output",
            "be a folder that does not exist yet",
            self.output_dir,
        )
        self._adopt_older()
        make_folders(self.folder)
        with self._locked(self.folder):
            yield self._take_up(manifest, restart)

    def _adopt_older(self) -> None:
        """Gives the folder of a version of this module that had another name for it the name."""
        older = f"{self.output_dir.rstrip('/')}.partial"
        if is_file(os.path.join(older, _MANIFEST)) and not exists(self.folder):
            with self._locked(older):
                move_folder(older, self.folder)

    @contextlib.contextmanager
    def _locked(self, folder: str) -> Iterator[None]:
        """Keeps other runs out, where the file system has locks: on a local disk."""
        if is_remote(folder):
            yield
            return
        with open(os.path.join(folder, _LOCK), "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ValueError(
                    f"`output` must be a folder that no other run is writing. Received: "
                    f"{self.output_dir}."
                ) from error
            yield

    def is_done(self, shard: int) -> bool:
        """Whether a shard is finished."""
        if not is_file(self._done(shard)) or not is_file(self._result(shard)):
            return False
        try:
            _read_json(self._done(shard))
        except DamagedFileError:  # its counts are lost: it is predicted again
            return False
        return True

    @contextlib.contextmanager
    def write_shard(self, shard: int, counts: dict[str, int]) -> Iterator[ShardFiles]:
        """Lets a worker write a shard, and commits it if nothing is raised.

        Args:
          shard: Its index.
          counts: What the worker counted, once it is through.

        Yields:
          Where to write.
        """
        work = self._path("work", f"{shard:05d}-{uuid.uuid4().hex}")
        files = ShardFiles(f"{work}.results{self.suffix}", f"{work}.errors")
        yield files
        replace_file(files.errors, self._errors(shard))
        replace_file(files.results, self._result(shard))
        self._write_json(self._done(shard), counts)

    def give_up_shard(self, shard: int, reason: str) -> None:
        """Notes that a shard cannot be read: the run goes on with the others and then fails."""
        self._write_json(f"{self._done(shard)}{_UNREADABLE}", reason)

    def totals(self) -> dict[str, int]:
        """The sums of the shards' counts.

        Raises:
          ValueError: A shard could not be read.
        """
        totals: dict[str, int] = {}
        for shard in range(self.num_shards):
            given_up = f"{self._done(shard)}{_UNREADABLE}"
            if is_file(given_up):
                raise ValueError(_read_json(given_up, str))
            for name, count in _read_json(self._done(shard)).items():
                totals[name] = totals.get(name, 0) + count
        return totals

    def finish(self, about: Mapping[str, Any]) -> None:
        """Joins the errors and lets the output appear.

        Args:
          about: What is said of all results, in `_predictions.json`.
        """
        joined = self._path("work", "errors")
        with open_file(joined, "wb") as target:
            for shard in range(self.num_shards):
                with open_file(self._errors(shard), "rb") as source:
                    shutil.copyfileobj(source, target)
        replace_file(joined, self._path("complete", f"{self.errors_prefix}-00000-of-00001"))
        self._write_json(self._path("complete", ABOUT_FILE), about)
        # Where there is no renaming of folders, this one says that all others are there.
        move_folder(self._path("complete"), self.output_dir, last=(ABOUT_FILE,))
        remove_folder(self.folder)

    def discard(self) -> None:
        """Removes the folder with all that is in it."""
        remove_folder(self.folder)

    def _take_up(self, manifest: Mapping[str, Any], restart: bool) -> datetime.datetime:
        begun = self._path(_MANIFEST)
        time = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
        # What is thrown away is not read: it may be damaged.
        if is_file(begun) and not restart:
            earlier = _read_json(begun)
            begun_at = earlier.pop(_BEGUN, None)
            if begun_at is not None:
                time = datetime.datetime.fromisoformat(begun_at)
            if earlier != manifest:
                raise ValueError(
                    "`output` must be gone on with as it was begun, or begun anew with --restart. "
                    f"Received: {self.folder}, begun with {_differences(earlier, manifest)}."
                )
        elif not is_file(begun):
            # Not ours, hence not ours to empty.
            others = sorted(set(names_in(self.folder)) - {_LOCK, "work"})
            require(not others, "output", f"have nothing else in {self.folder}", ", ".join(others))
            restart = True
        for name in _FOLDERS if restart else ("work",):
            remove_folder(self._path(name))
        # The manifest comes before what it speaks for, as it is what makes the folder ours.
        make_folders(self._path("work"))
        self._write_json(begun, {**manifest, _BEGUN: time.isoformat()})
        for name in _FOLDERS:
            make_folders(self._path(name))
        for name in names_in(self._path("done")):
            if name.endswith(_UNREADABLE):
                remove_file(self._path("done", name))
        return time

    def _path(self, *names: str) -> str:
        return os.path.join(self.folder, *names)

    def _result(self, shard: int) -> str:
        name = f"{RESULTS_PREFIX}-{shard:05d}-of-{self.num_shards:05d}{self.suffix}"
        return self._path("complete", name)

    def _errors(self, shard: int) -> str:
        return self._path("errors", f"{shard:05d}.jsonl")

    def _done(self, shard: int) -> str:
        return self._path("done", f"{shard:05d}.json")

    def _write_json(self, path: str, content: Any) -> None:
        temporary = self._path("work", uuid.uuid4().hex)
        with open_file(temporary, "w") as file:
            json.dump(content, file, indent=1, sort_keys=True)
        replace_file(temporary, path)


def files_digests(paths: Iterable[str], base: str | None = None) -> list[list[str]]:
    """Names and contents of files; moving or touching them changes nothing.

    Args:
      paths: The files.
      base: Folder that names are relative to; None: each file's own.

    Returns:
      [name, hash of the content] of each, in order.
    """
    digests = []
    for path in paths:
        digest = hashlib.blake2b(digest_size=16)
        with open_file(path, "rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
        name = os.path.basename(path) if base is None else os.path.relpath(path, base)
        digests.append([name, digest.hexdigest()])
    return digests


def folder_digest(folder: str) -> str:
    """Hash of all that is in a folder.

    Args:
      folder: The folder.

    Returns:
      The hash.
    """
    content = json.dumps(files_digests(files_below(folder), folder))
    return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()


def _differences(earlier: Mapping[str, Any], manifest: Mapping[str, Any]) -> str:
    """What another run was begun with, in words."""
    parts = []
    for section in sorted({*earlier, *manifest}):
        # Another version of this module may have known other sections.
        old, new = earlier.get(section, {}), manifest.get(section, {})
        if old == new:
            continue
        if section == "input":
            parts.append("other input")
        elif section == "layout":
            parts.append("another version of tagtower")
        elif section == "model":
            is_other = old.get("version") != new.get("version")
            parts.append(f"model version {old.get('version')}" if is_other else "another model")
        elif isinstance(old, dict) and isinstance(new, dict):
            names = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
            parts += [f"{section} {name} {json.dumps(old.get(name))}" for name in names]
        else:
            parts.append(f"{section} {json.dumps(old)}")
    return ", ".join(parts)


def _read_json(path: str, kind: type = dict) -> Any:
    return read_json(path, "the same command with --restart begins anew", kind)
