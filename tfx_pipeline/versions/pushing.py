"""Pushing: a version appears at its base paths whole, or not at all.

The copy is made beside the versions and renamed; a server that looks at the wrong moment would load
half of a version that is copied into its place. An object store has no such rename: there a
version's files come one by one, `saved_model.pb` last.

What a servable's manifest holds is compared before the copy and in it: neither a servable that was
cut nor a copy that lost something is pushed.

A run has a version for servers with ScaNN's ops and one for servers without; they go to two base
paths under one number. What was rolled back stays so: see `rolled_back_version`.
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

_NOT_PUSHED = "Nothing was pushed; the same command again has it made anew, or copied."
PUSHED_FILE = "pushed.json"
_REQUIRED: dict[str, type | tuple[type, ...]] = {
    "version": (int, type(None)),
    "base_path": str,
    "exact_base_path": str,
}
# Where a folder cannot be renamed: a server finds no model in a version until this is there.
_LAST_FILES = ("saved_model.pb",)


def unpushed(
    base_paths: tuple[str, str], is_blessed: bool, facts: Mapping[str, Any], servable_uri: str
) -> dict[str, Any]:
    """What `pushed.json` says before anything is pushed.

    Args:
      base_paths: For the servable and for that with an exact index; "": none for that.
      is_blessed: Whether the gates let it pass.
      facts: Name and recall of the run, for `version.json`.
      servable_uri: The servable artifact.
    """
    return {
        "version": None,
        "base_path": base_paths[0],
        "exact_base_path": base_paths[1],
        "is_blessed": is_blessed,
        "provenance": {"kind": RUN, **facts, **servable_facts(servable_uri)},
    }


def push_if_blessed(pushed: Mapping[str, Any], servable_uri: str) -> int | None:
    """Pushes a servable that the gates let pass and nobody rolled back.

    Args:
      pushed: What `unpushed` says.
      servable_uri: The servable artifact.

    Returns:
      Its version, that at which it serves already where it does; None: nothing was pushed.
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
    """Pushes a version again that the cache says was pushed, if it is not the newest there.

    A push acts outside the artifact store: its version may have been deleted, or a run in between
    may have pushed another. An unchanged run must still end with its own version serving, and with
    the same one at both base paths. Two wishes of a person stay: what was rolled back is not pushed
    again, and what was reindexed from this run's towers goes on serving.

    Args:
      pushed_uri: The `pushed_model` artifact.
      servable_uri: The servable artifact.

    Returns:
      The version that is the newest now; None: a gate or a roll-back held the push.
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
    """Writes `pushed.json` anew where it is damaged: a run knows all but the number.

    Args:
      pushed_uri: The `pushed_model` artifact.
      known: Says what `unpushed` says.
    """
    try:
        _read_pushed(pushed_uri)
    except (DamagedFileError, FileNotFoundError) as error:
        _progress.warning("%s Written anew.", error)
        path = os.path.join(pushed_uri, PUSHED_FILE)
        if is_folder(path):
            remove_folder(path)
        write_json(path, known())


def rolled_back_version(pushed_uri: str) -> int | None:
    """The version that a roll-back took out of service and a run would put back, if there is one.

    A run does not undo what a person has decided: neither its own version nor the same towers are
    pushed again. `tagtower rollback --to` brings a version back; new towers are pushed as ever.

    Args:
      pushed_uri: The `pushed_model` artifact.

    Returns:
      Its number; None: nothing of this run was rolled back.
    """
    return _withdrawn_version(_read_pushed(pushed_uri))


def servable_facts(uri: str) -> dict[str, Any]:
    """What `version.json` says of the servables of an artifact: towers, tags and index."""
    facts: dict[str, Any] = {}
    if exists(os.path.join(uri, SOURCE_FILE)):
        facts |= read_artifact_json(os.path.join(uri, SOURCE_FILE))
    index = read_artifact_json(os.path.join(uri, INDEX_FILE))
    return facts | {"num_tags": index["num_tags"], "index": index["kind"]}


class PushOutcome(NamedTuple):
    """What came of a push.

    Attributes:
      version: The version that serves; None: nothing was pushed, and nothing serves in its place.
      is_new: Whether this push made it.
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

    All copies are there before the first rename: only a process killed between two renames leaves
    a version at one base path alone, and the next push is a newer one at each. The locks of the
    base paths are held for a look at what is there and for the renames, and not for the copies,
    which take long: a roll-back does not wait for those.

    Args:
      settled: Looks, with the locks held, whether there is nothing to push; None: there is. It is
        asked before the copies and again after them, as others may have pushed meanwhile.
      sources: Base path -> folder to push there, in the order of the renames.
      provenance: What it was made from, for `version.json`.

    Returns:
      What `settled` said, or the new version, the same everywhere: the time in seconds, or one more
      than the newest, withdrawn or not, where that is not smaller.

    Raises:
      DamagedFolderError: A folder or its copy does not hold what its manifest says.
      OSError: A folder is not there, or cannot be copied.
    """
    with locked(sources):
        answer = settled()
        if answer is None:
            for base_path in sources:
                remove_abandoned_staging(base_path)
    if answer is not None:
        return answer
    with _staged(sources) as staged, locked(sources):
        return settled() or PushOutcome(_publish(staged, provenance), is_new=True)


@contextlib.contextmanager
def _staged(sources: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Copies of folders at their base paths, base path -> copy; what is not renamed is removed."""
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
    """Gives copies a number and their place. The caller holds the locks."""
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
    """Base path -> what goes there. The exact one first: a version that is served has its twin."""
    sources = {}
    if pushed["exact_base_path"]:
        sources[pushed["exact_base_path"]] = exact_path(servable_uri)
    return sources | {pushed["base_path"]: main_path(servable_uri)}


def _read_pushed(pushed_uri: str) -> dict[str, Any]:
    path = os.path.join(pushed_uri, PUSHED_FILE)
    return read_json(path, "`tagtower run --again` writes it anew", required=_REQUIRED)


def _withdrawn_version(pushed: Mapping[str, Any]) -> int | None:
    versions = {v.number: v for v in reversed(read_versions(pushed["base_path"]))}
    own = versions.get(pushed["version"])
    if own is not None and own.is_withdrawn:
        return own.number
    towers = pushed.get("provenance", {}).get("towers")
    return None if towers is None else rolled_back_as(pushed["base_path"], towers)


def _is_own(pushed: Mapping[str, Any]) -> bool:
    """Whether what serves is this run's: its version or servable, or its towers reindexed."""
    serving = serving_version(pushed["base_path"])
    if serving is None:
        return False
    if serving.number == pushed["version"]:
        return True
    made_from, own = serving.provenance, pushed.get("provenance", {})
    key = "towers" if made_from.get("kind") == REINDEX else "servable"
    return key in own and made_from.get(key) == own[key]


def _already_pushed(pushed: Mapping[str, Any], sources: Mapping[str, str]) -> int | None:
    """The version that serves, if it is this very servable, at every base path.

    A model may be judged again, against another one, and its servable come here again.
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
