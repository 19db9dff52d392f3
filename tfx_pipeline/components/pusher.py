"""AtomicPusher: a version appears at the base path whole, or not at all.

Stock Pusher copies into the live version folder; a server that looks at the wrong moment loads half
a version. Here the copy is made beside it and renamed, and both blessings are asked for.

A run has a version for servers with ScaNN's ops and one for servers without; they go to two base
paths under one number.
"""

import json
import os
import time
import uuid
from collections.abc import Mapping
from typing import Any

from tfx import v1 as tfx
from tfx.components.evaluator import constants

from tfx_pipeline.components.servable_paths import exact_path, main_path
from tfx_pipeline.components.tag_index_evaluator import BLESSED_PROPERTY

PUSHED_FILE = "pushed.json"
# A name that no server takes for a version.
_STAGING_PREFIX = ".staging-"


@tfx.dsl.components.component
def AtomicPusher(  # noqa: N802 (a component is a class to its callers)
    servable: tfx.dsl.components.InputArtifact[tfx.types.standard_artifacts.Model],
    model_blessing: tfx.dsl.components.InputArtifact[tfx.types.standard_artifacts.ModelBlessing],
    index_blessing: tfx.dsl.components.InputArtifact[tfx.types.standard_artifacts.InfraBlessing],
    pushed_model: tfx.dsl.components.OutputArtifact[tfx.types.standard_artifacts.PushedModel],
    base_path: tfx.dsl.components.Parameter[str],
    exact_base_path: tfx.dsl.components.Parameter[str],
    code: tfx.dsl.components.Parameter[str],
):
    """Pushes the servable if model and index are blessed.

    Args:
      servable: The version, see `servable_paths`.
      model_blessing: Of the Evaluator.
      index_blessing: Of the TagIndexEvaluator.
      pushed_model: `pushed.json` says which version was pushed where; null: none.
      base_path: Folder of the numbered versions.
      exact_base_path: Folder of the versions with an exact index, under the same numbers; empty:
        none are pushed.
      code: Fingerprint of the code, for the cache.
    """
    del code
    is_blessed = (
        model_blessing.get_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY) == 1
        and index_blessing.get_int_custom_property(BLESSED_PROPERTY) == 1
    )
    pushed: dict[str, Any] = {
        "version": None,
        "base_path": base_path,
        "exact_base_path": exact_base_path,
    }
    if is_blessed:
        pushed["version"] = push(_sources(pushed, servable.uri))
    pushed_model.set_int_custom_property("pushed", int(is_blessed))
    with tfx.dsl.io.fileio.open(os.path.join(pushed_model.uri, PUSHED_FILE), "w") as file:
        file.write(json.dumps(pushed) + "\n")


def ensure_newest(pushed_uri: str, servable_uri: str) -> int | None:
    """Pushes a version again that the cache says was pushed, if it is not the newest there.

    A push acts outside the artifact store: its version may have been deleted, or a run in between
    may have pushed another. An unchanged run must still end with its own version serving, and with
    the same one at both base paths.

    Args:
      pushed_uri: The `pushed_model` artifact.
      servable_uri: The servable artifact.

    Returns:
      The version that is the newest now; None: a gate held the push.
    """
    path = os.path.join(pushed_uri, PUSHED_FILE)
    with tfx.dsl.io.fileio.open(path) as file:
        pushed = json.loads(file.read())
    if pushed["version"] is None:
        return None
    sources = _sources(pushed, servable_uri)
    if all(_newest(base_path) == pushed["version"] for base_path in sources):
        return pushed["version"]
    pushed["version"] = push(sources)
    with tfx.dsl.io.fileio.open(path, "w") as file:
        file.write(json.dumps(pushed) + "\n")
    return pushed["version"]


def push(sources: Mapping[str, str]) -> int:
    """Copies folders beside the versions of their base paths, then renames them into place.

    All copies are there before the first rename: only a process killed between two renames leaves
    a version at one base path alone, and the next push is a newer one at each.

    Args:
      sources: Base path -> folder to push there, in the order of the renames.

    Returns:
      The version, the same everywhere: the time in seconds, or one more than the newest where that
      is not smaller.
    """
    fileio = tfx.dsl.io.fileio
    version = max(int(time.time()), *(_newest(base_path) + 1 for base_path in sources))
    staged = {}
    for base_path, source in sources.items():
        fileio.makedirs(base_path)
        for name in fileio.listdir(base_path):
            if name.startswith(_STAGING_PREFIX):  # of a push that was killed
                fileio.rmtree(os.path.join(base_path, name))
        staged[base_path] = os.path.join(base_path, f"{_STAGING_PREFIX}{uuid.uuid4().hex}")
        _copy_tree(source, staged[base_path])
    for base_path, staging in staged.items():
        fileio.rename(staging, os.path.join(base_path, str(version)))
    return version


def _sources(pushed: Mapping[str, Any], servable_uri: str) -> dict[str, str]:
    """Base path -> what goes there. The exact one first: a version that is served has its twin."""
    sources = {}
    if pushed["exact_base_path"]:
        sources[pushed["exact_base_path"]] = exact_path(servable_uri)
    return sources | {pushed["base_path"]: main_path(servable_uri)}


def _newest(base_path: str) -> int:
    return max(_versions(base_path), default=0)


def _versions(base_path: str) -> list[int]:
    fileio = tfx.dsl.io.fileio
    names = fileio.listdir(base_path) if fileio.isdir(base_path) else []
    return [int(name.rstrip("/")) for name in names if name.rstrip("/").isdigit()]


def _copy_tree(source: str, target: str) -> None:
    fileio = tfx.dsl.io.fileio
    for folder, _, files in fileio.walk(source):
        folder = folder.decode() if isinstance(folder, bytes) else folder
        destination = os.path.normpath(os.path.join(target, os.path.relpath(folder, source)))
        fileio.makedirs(destination)
        for name in files:
            name = name.decode() if isinstance(name, bytes) else name
            fileio.copy(os.path.join(folder, name), os.path.join(destination, name))
