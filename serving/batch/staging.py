"""The staging folder of a batch prediction: a killed run continues, and no half output shows.

The staging folder is `_<output>.partial` beside the output folder; programs that read a folder skip
such a name. It holds

    manifest.json   model, input and options of the prediction, and the time at which it began
    work/           files that are being written, under unique names
    complete/       results of finished shards, under their final names
    errors/         errors of finished shards
    done/           a file for each finished shard, with its counts: written last, it is the commit

Every finished file gets its name by a rename. A worker that is killed, or that an engine runs
twice, leaves only files in `work/`, because the manifest determines a shard's bytes. At the end
`complete/` is renamed to the output folder. All workers must reach the folder by the same path.

An object store (`gs://`) cannot rename folders and has no locks: there the output's files appear
one by one, `_predictions.json` last, and a second run is not kept out.
"""

import contextlib
import dataclasses
import datetime
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from serving.batch.output import ABOUT_FILE, ERRORS_PREFIX, RESULTS_PREFIX
from trainer.contract.config_loader import require
from trainer.contract.file_lock import locked_file
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
_BEGUN = "begun"  # key in the manifest's file that is not compared with that of another run
_UNREADABLE = ".unreadable"


@dataclasses.dataclass(frozen=True)
class ShardFiles:
    """The files into which a worker writes a shard.

    Attributes:
      results: Path of the results file.
      errors: Path of the errors file.
    """

    results: str
    errors: str


@dataclasses.dataclass(frozen=True)
class Staging:
    """The staging folder of an output.

    Attributes:
      output_dir: Output folder, which appears at the end.
      num_shards: Number of shards.
      suffix: End of the names of results files.
      errors_prefix: Beginning of the name of the errors file.
    """

    output_dir: str
    num_shards: int
    suffix: str = ""
    errors_prefix: str = ERRORS_PREFIX

    @property
    def folder(self) -> str:
        """Returns the path of the staging folder."""
        parent, name = os.path.split(self.output_dir.rstrip("/"))
        # Spark would read `_day=2024-05-03` as data, of the column `_day`.
        return os.path.join(parent, f"_{name.replace('=', '-')}.partial")

    @contextlib.contextmanager
    def begin(
        self, manifest: Mapping[str, Any], restart: bool = False
    ) -> Iterator[datetime.datetime]:
        """Makes the folder, or continues that of a killed run, and keeps other runs out.

        Args:
          manifest: Model, input and options; two runs with equal manifests write the same bytes.
          restart: Whether to delete the files of an earlier run.

        Yields:
          Time at which the prediction began, UTC; for a continued run that of the earlier run.

        Raises:
          ValueError: The output exists, another run is using the folder, or the files in it belong
            to another manifest.
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
        """Renames the staging folder of an older version of this module, `<output>.partial`."""
        older = f"{self.output_dir.rstrip('/')}.partial"
        if is_file(os.path.join(older, _MANIFEST)) and not exists(self.folder):
            with self._locked(older):
                move_folder(older, self.folder)

    @contextlib.contextmanager
    def _locked(self, folder: str) -> Iterator[None]:
        """Keeps other runs out if the file system has locks, which a local disk does."""
        if is_remote(folder):
            yield
            return
        refusal = ValueError(
            f"`output` must be a folder that no other run is writing. Received: {self.output_dir}."
        )
        with locked_file(os.path.join(folder, _LOCK), lambda _: refusal):
            yield

    def is_done(self, shard: int) -> bool:
        """Returns whether a shard is finished."""
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
          shard: Index of the shard.
          counts: Counts of the shard; the worker fills them before the context ends.

        Yields:
          The files to write.
        """
        work = self._path("work", f"{shard:05d}-{uuid.uuid4().hex}")
        files = ShardFiles(f"{work}.results{self.suffix}", f"{work}.errors")
        yield files
        replace_file(files.errors, self._errors(shard))
        replace_file(files.results, self._result(shard))
        self._write_json(self._done(shard), counts)

    def give_up_shard(self, shard: int, reason: str) -> None:
        """Records that a shard cannot be read: the run continues with the others and then fails."""
        self._write_json(f"{self._done(shard)}{_UNREADABLE}", reason)

    def totals(self) -> dict[str, int]:
        """Returns the sums of the shards' counts.

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
        """Joins the errors files and makes the output appear.

        Args:
          about: Description of all results, for `_predictions.json`.
        """
        joined = self._path("work", "errors")
        with open_file(joined, "wb") as target:
            for shard in range(self.num_shards):
                with open_file(self._errors(shard), "rb") as source:
                    shutil.copyfileobj(source, target)
        replace_file(joined, self._path("complete", f"{self.errors_prefix}-00000-of-00001"))
        self._write_json(self._path("complete", ABOUT_FILE), about)
        # In an object store, which cannot rename folders, the last file marks the output complete.
        move_folder(self._path("complete"), self.output_dir, last=(ABOUT_FILE,))
        remove_folder(self.folder)

    def discard(self) -> None:
        """Removes the staging folder with all its files."""
        remove_folder(self.folder)

    def _take_up(self, manifest: Mapping[str, Any], restart: bool) -> datetime.datetime:
        begun = self._path(_MANIFEST)
        time = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
        # With `restart` the earlier manifest is not read: it may be damaged.
        if is_file(begun) and not restart:
            earlier = _read_json(begun)
            begun_at = earlier.pop(_BEGUN, None)
            if begun_at is not None:
                time = datetime.datetime.fromisoformat(begun_at)
            if earlier != manifest:
                raise ValueError(
                    "`output` must be resumed as it was started, or started again with --restart. "
                    f"Received: {self.folder}, started with {_differences(earlier, manifest)}."
                )
        elif not is_file(begun):
            # Without a manifest the folder was not made by this module, so it is not emptied.
            others = sorted(set(names_in(self.folder)) - {_LOCK, "work"})
            require(
                not others,
                "output",
                f"have only files of this command in {self.folder}",
                ", ".join(others),
            )
            restart = True
        for name in _FOLDERS if restart else ("work",):
            remove_folder(self._path(name))
        # The manifest is written before the files it describes: it marks the folder as made by this
        # module.
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
    """Returns names and content hashes of files; moving or touching a file changes neither.

    Args:
      paths: Paths of the files.
      base: Folder that names are relative to; None: each file's own folder.

    Returns:
      [name, hash of the content] of each file, in order.
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
    """Computes a hash of the names and contents of all files in a folder.

    Args:
      folder: Path of the folder.

    Returns:
      Hash in hexadecimal digits.
    """
    content = json.dumps(files_digests(files_below(folder), folder))
    return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()


def _differences(earlier: Mapping[str, Any], manifest: Mapping[str, Any]) -> str:
    """Describes the model, input and options of an earlier run that differ from this run's."""
    parts = []
    for section in sorted({*earlier, *manifest}):
        # Another version of this module may have written other sections.
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
    return read_json(path, "the same command with --restart starts again", kind)
