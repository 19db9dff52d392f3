"""The versions at a base path: the one that serves, where each came from, the withdrawn ones.

A server serves the highest number among the children of a base path. A version that was rolled back
is in the folder `withdrawn` there, whose name no server takes for a version: on one file system, so
that one rename takes a whole version out of service or brings it back. This module uses files and
folders alone, so that listing and rolling back load no library. `pushing` pushes versions.

An object store cannot rename folders: there each of these steps copies files one by one.
"""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

from serving.model_server.models.version_folder import list_versions
from tfx_pipeline.artifacts.places import is_moved
from tfx_pipeline.fingerprints import files_fingerprint
from tfx_pipeline.versions.base_path_lock import locked
from trainer.contract.config_loader import require
from trainer.contract.file_system import (
    absolute,
    files_below,
    is_folder,
    make_folders,
    move_folder,
    names_in,
    remove_folder,
)
from trainer.contract.manifest import check_manifest
from trainer.contract.signatures import DESCRIPTION_FILE, DESCRIPTION_REMEDY, PROVENANCE_FILE
from trainer.contract.tag_normalization import TagNormalization
from trainer.contract.whole_files import DamagedFileError, read_json

WITHDRAWN_DIR = "withdrawn"
_SAVED_TOWERS = "Format-Serving"  # folder in TFX's artifact of a model
RUN, REINDEX = "run", "reindex"  # kinds of versions
_ANOTHER = (
    "`tagtower rollback --to` serves another; `tagtower versions --verify` says which are sound."
)
# Entries of a version's provenance that are paths, hashes or names.
_TEXTS = ("towers", "towers_fingerprint", "servable", "examples", "tags_file", "kind", "run")
_REMEDY = (
    "a server that has loaded the version keeps serving it, but does not load it again: roll it "
    "back, or push another by `tagtower run --again`"
)


@dataclasses.dataclass(frozen=True)
class PushedVersion:
    """One version at a base path, with its provenance.

    Attributes:
      number: Number of the version.
      path: Folder of the version.
      is_withdrawn: Whether the version was rolled back.
      provenance: Content of `version.json` (docs/refresh.md); empty for a version that was pushed
        before that file existed.
      damage: Error message if `version.json` is damaged; None: it is not.
    """

    number: int
    path: str
    is_withdrawn: bool
    provenance: dict[str, Any]
    damage: str | None = None


def read_versions(base_path: str) -> list[PushedVersion]:
    """Returns the versions at a base path, including withdrawn ones, lowest number first."""
    found = []
    for folder, is_withdrawn in ((base_path, False), (_withdrawn(base_path), True)):
        for number, path in _numbered(folder).items():
            found.append(PushedVersion(number, path, is_withdrawn, *_provenance(path)))
    return sorted(found, key=lambda version: (version.number, version.is_withdrawn))


def serving_version(base_path: str) -> PushedVersion | None:
    """Returns the version that a server serves: the highest one in place; None: there is none."""
    return max(
        (version for version in read_versions(base_path) if not version.is_withdrawn),
        key=lambda version: version.number,
        default=None,
    )


def tag_normalization_of(version: PushedVersion) -> TagNormalization | None:
    """Returns the normalisation of the tags that a version knows; None: it does not record it.

    The configuration, or a default, may have changed since: tags are compared with those of the
    version.
    """
    try:
        description = read_json(os.path.join(version.path, DESCRIPTION_FILE), DESCRIPTION_REMEDY)
    except FileNotFoundError:
        return None
    if "tag_normalization" not in description:
        return None
    return TagNormalization.of_version(description["tag_normalization"], "tag_normalization")


def rolled_back_towers(base_path: str) -> dict[str, int]:
    """Returns the towers whose versions are all withdrawn, with the highest of these versions."""
    versions = [v for v in read_versions(base_path) if "towers" in v.provenance]
    in_place = {v.provenance["towers"] for v in versions if not v.is_withdrawn}
    return {
        version.provenance["towers"]: version.number
        for version in versions
        if version.is_withdrawn and version.provenance["towers"] not in in_place
    }


def rolled_back_as(base_path: str, towers: str) -> int | None:
    """Returns the version as which towers were rolled back.

    Args:
      base_path: Folder of the numbered versions.
      towers: URI of the towers' artifact. Towers in a moved output folder are recognised by the
        hash of their files.

    Returns:
      The highest of their versions; None: they were not rolled back.
    """
    known = rolled_back_towers(base_path)
    if absolute(towers) in known:
        return known[absolute(towers)]
    moved = {number for path, number in known.items() if is_moved(path, towers)}
    if not moved:
        return None
    content = files_fingerprint(files_below(os.path.join(towers, _SAVED_TOWERS)))
    return max(
        (
            version.number
            for version in read_versions(base_path)
            if version.number in moved and version.provenance.get("towers_fingerprint") == content
        ),
        default=None,
    )


def version_before(base_path: str) -> int:
    """Returns the number of the version that served before the current one.

    Args:
      base_path: Folder of the numbered versions.

    Returns:
      The number of the version.

    Raises:
      ValueError: There is no earlier version.
    """
    numbers = sorted(_numbered(base_path))
    require(
        len(numbers) > 1,
        "model_base_path",
        "hold a version before the one that serves",
        f"{base_path} with {', '.join(map(str, numbers)) or 'none'}",
    )
    return numbers[-2]


def roll_back(base_paths: Sequence[str], version: int) -> list[int]:
    """Makes a version the serving one: withdraws newer ones and brings it back if it was withdrawn.

    Each step is one rename, and repeating a killed roll-back completes it. The serving version
    changes once, with the last rename at a base path: versions between are withdrawn first. A
    roll-back and a simultaneous push there wait for each other.

    Args:
      base_paths: Folders in which the version shall serve; the first one defines what serves, and
        at no time has it a version in place that the others lack.
      version: Number of the version.

    Returns:
      The numbers of the versions withdrawn by this call, lowest first.

    Raises:
      ValueError: A base path does not have the version, or its files are damaged; nothing is moved
        then.
    """
    with locked(base_path for base_path in base_paths if is_folder(base_path)):
        return _roll_back(base_paths, version)


def _roll_back(base_paths: Sequence[str], version: int) -> list[int]:
    for base_path in base_paths:
        known = {**_numbered(_withdrawn(base_path)), **_numbered(base_path)}
        one_of = f"be one of {sorted(known)}, the versions of {base_path}"
        require(version in known, "to", one_of, version)
        check_manifest(known[version], remedy=_ANOTHER)
    for base_path in reversed(base_paths):
        if version not in _numbered(base_path):
            path = _numbered(_withdrawn(base_path))[version]
            move_folder(path, os.path.join(base_path, str(version)), last=("saved_model.pb",))
    newer: set[int] = set()
    for base_path in base_paths:
        in_place = _numbered(base_path)
        for number in sorted(number for number in in_place if number > version):
            make_folders(_withdrawn(base_path))
            move_folder(in_place[number], os.path.join(_withdrawn(base_path), str(number)))
            newer.add(number)
        if is_folder(_withdrawn(base_path)) and not names_in(_withdrawn(base_path)):
            remove_folder(_withdrawn(base_path))
    return sorted(newer)


def _withdrawn(base_path: str) -> str:
    return os.path.join(base_path, WITHDRAWN_DIR)


def _numbered(folder: str) -> dict[int, str]:
    return list_versions(folder) if is_folder(folder) else {}


def _provenance(path: str) -> tuple[dict[str, Any], str | None]:
    """Reads the provenance of a version, and the error message if the file is damaged."""
    try:
        provenance = read_json(os.path.join(path, PROVENANCE_FILE), _REMEDY)
    except FileNotFoundError:
        return {}, None
    except DamagedFileError as error:
        return {}, str(error)
    wrong = [name for name in _TEXTS if not isinstance(provenance.get(name, ""), str)]
    if wrong:
        file = os.path.join(path, PROVENANCE_FILE)
        return {}, f"{file} is damaged: its `{wrong[0]}` is not text; {_REMEDY}."
    return provenance, None
