"""Pushes versions: a version appears at its base paths whole, or not at all.

The copy is made beside the versions and renamed; if a version were copied into its place, a server
might load half of it. An object store has no such rename: there a version's files arrive one by
one, `saved_model.pb` last.

The content of a servable's manifest is checked before copying and in the copy: neither a truncated
servable nor an incomplete copy is pushed.

A run has one version for servers with the ops of ScaNN and one for servers without; they go to two
base paths under one number. A version that was rolled back stays so: see `rolled_back_version`.
"""

import contextlib
import errno
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from tfx_pipeline.artifacts.json_files import read_artifact_json
from tfx_pipeline.config.utc_times import utc_text
from tfx_pipeline.terminal import interrupts
from tfx_pipeline.versions.base_path_lock import locked, new_staging, remove_abandoned_staging
from tfx_pipeline.versions.pushed_versions import (
    REINDEX,
    RUN,
    WITHDRAWN_DIR,
    read_versions,
    rolled_back_as,
    serving_version,
)
from tfx_pipeline.versions.servable_paths import INDEX_FILE, SOURCE_FILE, exact_path, main_path
from trainer.contract.file_system import (
    copy_folder,
    exists,
    is_folder,
    make_folders,
    move_folder,
    names_in,
    remove_folder,
)
from trainer.contract.manifest import add_to_manifest, check_manifest
from trainer.contract.signatures import PROVENANCE_FILE
from trainer.contract.whole_files import DamagedFileError, read_json, write_json

_progress = logging.getLogger("tagtower.push")

_NOT_PUSHED = "Nothing was pushed; give the same command again, which makes or copies the folder."
PUSHED_FILE = "pushed.json"
_REQUIRED: dict[str, type | tuple[type, ...]] = {
    "version": (int, type(None)),
    "base_path": str,
    "exact_base_path": str,
}
# Where a folder cannot be renamed, these files go last: without them a server finds no model.
_LAST_FILES = ("saved_model.pb",)


def unpushed(
    base_paths: tuple[str, str], is_blessed: bool, facts: Mapping[str, Any], servable_uri: str
) -> dict[str, Any]:
    """Returns the content of `pushed.json` before anything is pushed.

    Args:
      base_paths: Folders for the servable and for the one with an exact index; "": the latter has
        none.
      is_blessed: Whether the gates passed.
      facts: Name and recall of the run, for `version.json`.
      servable_uri: URI of the servable artifact.
    """
    return {
        "version": None,
        "base_path": base_paths[0],
        "exact_base_path": base_paths[1],
        "is_blessed": is_blessed,
        "provenance": {"kind": RUN, **facts, **servable_facts(servable_uri)},
    }


def push_if_blessed(pushed: Mapping[str, Any], servable_uri: str) -> int | None:
    """Pushes a servable if the gates passed and it was not rolled back.

    Args:
      pushed: Result of `unpushed`.
      servable_uri: URI of the servable artifact.

    Returns:
      Its version, or the version as which it already serves; None: nothing was pushed.
    """
    if not pushed["is_blessed"]:
        return None
    sources = push_sources(pushed, servable_uri)

    def settled() -> PushOutcome | None:
        if _withdrawn_version(pushed) is not None:
            return PushOutcome(None)
        already = _already_pushed(pushed, sources)
        return None if already is None else PushOutcome(already)

    return push_unless(settled, sources, pushed["provenance"]).version


def ensure_newest(pushed_uri: str, servable_uri: str) -> int | None:
    """Pushes a cached version again if it is no longer the newest at its base paths.

    A push acts outside the artifact store: its version may have been deleted, or another run may
    have pushed since. An unchanged run must still end with its own version serving, the same one at
    both base paths. Two decisions of a person are kept: a version that was rolled back is not
    pushed again, and a version reindexed from this run's towers goes on serving.

    Args:
      pushed_uri: URI of the `pushed_model` artifact.
      servable_uri: URI of the servable artifact.

    Returns:
      The newest version now; None: a gate or a roll-back prevented the push.
    """
    pushed = _read_pushed(pushed_uri)
    if not pushed.get("is_blessed", pushed["version"] is not None):
        return None
    sources = push_sources(pushed, servable_uri)

    def settled() -> PushOutcome | None:
        if _withdrawn_version(pushed) is not None:
            return PushOutcome(None)
        newest = {_newest(base_path) for base_path in sources}
        return PushOutcome(newest.pop()) if len(newest) == 1 and _is_own(pushed) else None

    outcome = push_unless(settled, sources, pushed.get("provenance", {}))
    if outcome.is_new:
        pushed["version"] = outcome.version
        write_json(os.path.join(pushed_uri, PUSHED_FILE), pushed)
    return outcome.version


def mend_pushed(pushed_uri: str, known: Callable[[], Mapping[str, Any]]) -> None:
    """Rewrites `pushed.json` if it is damaged: a run knows all of it but the number.

    Args:
      pushed_uri: URI of the `pushed_model` artifact.
      known: Function that returns the result of `unpushed`.
    """
    try:
        _read_pushed(pushed_uri)
    except (DamagedFileError, FileNotFoundError) as error:
        _progress.warning("%s It is written again.", error)
        path = os.path.join(pushed_uri, PUSHED_FILE)
        if is_folder(path):
            remove_folder(path)
        write_json(path, known())


def rolled_back_version(pushed_uri: str) -> int | None:
    """Returns the version that was rolled back and that this run would put back into service.

    A run does not undo a person's decision: neither its own version nor the same towers are pushed
    again. `tagtower rollback --to` brings a version back; new towers are pushed as usual.

    Args:
      pushed_uri: URI of the `pushed_model` artifact.

    Returns:
      Number of the version; None: nothing of this run was rolled back.
    """
    return _withdrawn_version(_read_pushed(pushed_uri))


def servable_facts(uri: str) -> dict[str, Any]:
    """Returns the facts on an artifact's servables for `version.json`: towers, tags and index."""
    facts: dict[str, Any] = {}
    if exists(os.path.join(uri, SOURCE_FILE)):
        facts |= read_artifact_json(os.path.join(uri, SOURCE_FILE))
    index = read_artifact_json(os.path.join(uri, INDEX_FILE))
    return facts | {"num_tags": index["num_tags"], "index": index["kind"]}


class PushOutcome(NamedTuple):
    """The result of a push, made or found unnecessary.

    Attributes:
      version: Number of the version that serves; None: nothing was pushed, and no version serves
        instead.
      is_new: Whether this push made the version.
    """

    version: int | None
    is_new: bool = False


def push(sources: Mapping[str, str], provenance: Mapping[str, Any] | None = None) -> int:
    """Pushes folders as a new version, whatever is at their base paths; see `push_unless`."""
    version = push_unless(lambda: None, sources, provenance or {}).version
    assert version is not None
    return version


def push_unless(
    settled: Callable[[], PushOutcome | None],
    sources: Mapping[str, str],
    provenance: Mapping[str, Any],
) -> PushOutcome:
    """Copies folders beside the versions of their base paths, then renames them into place.

    All copies are complete before the first rename: only a process killed between two renames
    leaves a version at one base path alone, and the next push is a newer one at each. The locks of
    the base paths are held while the state is read and during the renames, but not during the
    copies, which take long: a roll-back does not wait for those.

    Args:
      settled: Function that decides, with the locks held, whether there is nothing to push; None:
        there is something. It is called before the copies and again after them, as others may have
        pushed in between.
      sources: Folder to push by base path, in the order of the renames.
      provenance: Facts on the version for `version.json`.

    Returns:
      The result of `settled`, or the new version, the same at every base path: the time in seconds,
      or one more than the highest version, withdrawn or not, if that is larger.

    Raises:
      DamagedFolderError: A folder or its copy does not match its manifest.
      OSError: A folder does not exist, or cannot be copied.
    """
    with locked(sources):
        answer = settled()
        if answer is None:
            # A remote one that nobody has pushed to is not there yet; a local one has the lock.
            for base_path in filter(is_folder, sources):
                remove_abandoned_staging(base_path)
    if answer is not None:
        return answer
    with _staged(sources) as staged, locked(sources):
        return settled() or PushOutcome(_publish(staged, provenance), is_new=True)


@contextlib.contextmanager
def _staged(sources: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Copies folders to their base paths and yields the copies; removes those not renamed."""
    staged: dict[str, str] = {}
    try:
        for base_path, source in sources.items():
            if not is_folder(source):
                raise FileNotFoundError(errno.ENOENT, "no servable to push", source)
            check_manifest(source, remedy=_NOT_PUSHED)
            make_folders(base_path)
            staged[base_path] = new_staging(base_path)
            copy_folder(source, staged[base_path])
            check_manifest(staged[base_path], remedy=_NOT_PUSHED)
        yield staged
    finally:
        for staging in staged.values():
            remove_folder(staging)


def _publish(staged: Mapping[str, str], provenance: Mapping[str, Any]) -> int:
    """Gives copies a number and renames them into place; the caller holds the locks."""
    now = int(time.time())
    version = max(now, *(_highest(base_path) + 1 for base_path in staged))
    described = {**provenance, "version": version, "made": utc_text(now)}
    for staging in staged.values():
        write_json(os.path.join(staging, PROVENANCE_FILE), described)
        add_to_manifest(staging, [PROVENANCE_FILE])
    with interrupts.deferred():
        for base_path, staging in staged.items():
            move_folder(staging, os.path.join(base_path, str(version)), last=_LAST_FILES)
    return version


def push_sources(pushed: Mapping[str, Any], servable_uri: str) -> dict[str, str]:
    """Returns the folder to push by base path, exact ones first: a served version has its twin."""
    sources = {}
    if pushed["exact_base_path"]:
        sources[pushed["exact_base_path"]] = exact_path(servable_uri)
    return sources | {pushed["base_path"]: main_path(servable_uri)}


def _read_pushed(pushed_uri: str) -> dict[str, Any]:
    path = os.path.join(pushed_uri, PUSHED_FILE)
    return read_json(path, "`tagtower run --again` writes it again", required=_REQUIRED)


def _withdrawn_version(pushed: Mapping[str, Any]) -> int | None:
    versions = {v.number: v for v in reversed(read_versions(pushed["base_path"]))}
    own = versions.get(pushed["version"])
    if own is not None and own.is_withdrawn:
        return own.number
    towers = pushed.get("provenance", {}).get("towers")
    return None if towers is None else rolled_back_as(pushed["base_path"], towers)


def _is_own(pushed: Mapping[str, Any]) -> bool:
    """Returns whether the serving version is this run's: its servable, or its towers reindexed."""
    serving = serving_version(pushed["base_path"])
    if serving is None:
        return False
    if serving.number == pushed["version"]:
        return True
    made_from, own = serving.provenance, pushed.get("provenance", {})
    key = "towers" if made_from.get("kind") == REINDEX else "servable"
    return key in own and made_from.get(key) == own[key]


def _already_pushed(pushed: Mapping[str, Any], sources: Mapping[str, str]) -> int | None:
    """Returns the version that serves, if it is this very servable at every base path.

    A model may be evaluated again, against another model, and so its servable be pushed again.
    """
    serving = serving_version(pushed["base_path"])
    if serving is None or serving.provenance.get("kind") != RUN:
        return None
    own = pushed["provenance"].get("servable")
    is_same = own is not None and serving.provenance.get("servable") == own
    is_everywhere = {_newest(base_path) for base_path in sources} == {serving.number}
    return serving.number if is_same and is_everywhere else None


def _newest(base_path: str) -> int:
    return max(_versions(base_path), default=0)


def _highest(base_path: str) -> int:
    return max(_newest(base_path), _newest(os.path.join(base_path, WITHDRAWN_DIR)))


def _versions(base_path: str) -> list[int]:
    names = names_in(base_path) if is_folder(base_path) else []
    return [int(name) for name in names if name.isdigit()]
