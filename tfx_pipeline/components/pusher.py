"""AtomicPusher: a version appears at the base path whole, or not at all.

Stock Pusher copies into the live version folder; a server that looks at the wrong moment loads half
a version. Here the copy is made beside it and renamed, and both blessings are asked for.
"""

import json
import os
import time
import uuid

from tfx import v1 as tfx
from tfx.components.evaluator import constants
from tfx.utils import path_utils

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
    code: tfx.dsl.components.Parameter[str],
):
    """Pushes the servable if model and index are blessed.

    Args:
      servable: The version.
      model_blessing: Of the Evaluator.
      index_blessing: Of the TagIndexEvaluator.
      pushed_model: `pushed.json` says which version was pushed where; null: none.
      base_path: Folder of the numbered versions.
      code: Fingerprint of the code, for the cache.
    """
    del code
    is_blessed = (
        model_blessing.get_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY) == 1
        and index_blessing.get_int_custom_property(BLESSED_PROPERTY) == 1
    )
    version = push(path_utils.serving_model_path(servable.uri), base_path) if is_blessed else None
    pushed_model.set_int_custom_property("pushed", int(is_blessed))
    with tfx.dsl.io.fileio.open(os.path.join(pushed_model.uri, PUSHED_FILE), "w") as file:
        file.write(json.dumps({"version": version, "base_path": base_path}) + "\n")


def ensure_newest(pushed_uri: str, servable_uri: str) -> int | None:
    """Pushes a version again that the cache says was pushed, if it is not the newest there.

    A push acts outside the artifact store: its version may have been deleted, or a run in between
    may have pushed another. An unchanged run must still end with its own version serving.

    Args:
      pushed_uri: The `pushed_model` artifact.
      servable_uri: The servable artifact.

    Returns:
      The version that is the newest now; None: a gate held the push.
    """
    path = os.path.join(pushed_uri, PUSHED_FILE)
    with tfx.dsl.io.fileio.open(path) as file:
        pushed = json.loads(file.read())
    if pushed["version"] is None or pushed["version"] == max(
        _versions(pushed["base_path"]), default=0
    ):
        return pushed["version"]
    pushed["version"] = push(path_utils.serving_model_path(servable_uri), pushed["base_path"])
    with tfx.dsl.io.fileio.open(path, "w") as file:
        file.write(json.dumps(pushed) + "\n")
    return pushed["version"]


def push(source: str, base_path: str) -> int:
    """Copies a version folder beside the base path's versions and renames it into place.

    Args:
      source: The folder to push.
      base_path: Folder of the numbered versions.

    Returns:
      The version: the time in seconds, or one more than the newest where that is not smaller.
    """
    fileio = tfx.dsl.io.fileio
    fileio.makedirs(base_path)
    for name in fileio.listdir(base_path):
        if name.startswith(_STAGING_PREFIX):  # of a push that was killed
            fileio.rmtree(os.path.join(base_path, name))
    version = max(int(time.time()), max(_versions(base_path), default=0) + 1)
    staging = os.path.join(base_path, f"{_STAGING_PREFIX}{uuid.uuid4().hex}")
    _copy_tree(source, staging)
    fileio.rename(staging, os.path.join(base_path, str(version)))
    return version


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
