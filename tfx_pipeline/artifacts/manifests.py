"""Manifests of the artifacts of a run, each beside its folder.

Not within it: TFX's own components take a schema or statistics for the only file of their folder,
and batch prediction reads every file of the instances. What TFX's cache answers was made by an
earlier run, and nothing has looked at it since.
"""

import logging
from collections.abc import Mapping, Sequence

from ml_metadata import proto
from tfx import types
from tfx.orchestration import metadata

from trainer.contract.file_system import is_folder
from trainer.contract.manifest import (
    MANIFEST_SUFFIX,
    DamagedFolderError,
    check_manifest,
    write_manifest,
)

# Written to after their node has ended, and read by no other one.
_CHANGING = ("PushedModel", "ModelRun")
_NOT_USED = "The folder is used no more: it is made anew, or an earlier one is taken."

Outputs = Mapping[str, Sequence[types.Artifact]]

_logger = logging.getLogger(__name__)


class ArtifactManifests:
    """Those of one run, which reads no artifact twice for them."""

    def __init__(self):
        self._known: set[str] = set()
        self._damaged: set[str] = set()

    def write(self, outputs: Outputs) -> None:
        """Writes the manifest of each output of a node that has just run.

        Args:
          outputs: The node's.
        """
        for folder in map(_folder, _held(outputs)):
            write_manifest(folder, folder + MANIFEST_SUFFIX)
            self._known.add(folder)

    def forget_damaged(self, handle: metadata.Metadata, outputs: Outputs) -> str | None:
        """Compares what the cache or a resolver answered with its manifests.

        What is damaged is marked as deleted in TFX's metadata, after which neither answers with it.

        Args:
          handle: The metadata store, open.
          outputs: The answer.

        Returns:
          A line that names the first wrong file; None: nothing is wrong.

        Raises:
          DamagedFolderError: The same was found before, and is answered with again.
        """
        for artifact in _held(outputs):
            folder = _folder(artifact)
            if folder in self._known:
                continue
            try:
                if not check_manifest(folder, folder + MANIFEST_SUFFIX, remedy=_NOT_USED):
                    _logger.info("%s has no manifest, not checked", folder)
            except DamagedFolderError as error:
                if folder in self._damaged:
                    raise
                self._damaged.add(folder)
                (stored,) = handle.store.get_artifacts_by_id([artifact.id])
                stored.state = proto.Artifact.DELETED
                handle.store.put_artifacts([stored])
                return str(error)
            self._known.add(folder)
        return None


def _held(outputs: Outputs) -> list[types.Artifact]:
    return [
        artifact
        for artifacts in outputs.values()
        for artifact in artifacts
        if artifact.type_name not in _CHANGING and is_folder(artifact.uri)
    ]


def _folder(artifact: types.Artifact) -> str:
    return artifact.uri.rstrip("/")
