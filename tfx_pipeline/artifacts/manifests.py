"""Manifests of the artifacts of a run, each beside its folder.

They are not inside it: TFX's own components expect a schema or statistics to be the only file of
their folder, and batch prediction reads every file of the instances. Outputs from TFX's cache were
made by an earlier run, and nothing has checked them since.
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

# Types of artifacts that are written to after their node has ended, and that no other node reads.
_CHANGING = ("PushedModel", "ModelRun")
_NOT_USED = "The folder is no longer used: it is made again, or an earlier one is used."

Outputs = Mapping[str, Sequence[types.Artifact]]

_logger = logging.getLogger(__name__)


class ArtifactManifests:
    """The manifests of one run, which reads no artifact twice to check it."""

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._damaged: set[str] = set()

    def write(self, outputs: Outputs) -> None:
        """Writes the manifest of each output of a node that has just run.

        Args:
          outputs: Outputs of the node.
        """
        for folder in map(_folder, _held(outputs)):
            write_manifest(folder, folder + MANIFEST_SUFFIX)
            self._known.add(folder)

    def forget_damaged(self, handle: metadata.Metadata, outputs: Outputs) -> str | None:
        """Checks the outputs that the cache or a resolver returned against their manifests.

        A damaged artifact is marked as deleted in TFX's metadata, so that neither returns it again.

        Args:
          handle: Open metadata store.
          outputs: Outputs that were returned.

        Returns:
          A line that names the first wrong file; None: there is none.

        Raises:
          DamagedFolderError: The same artifact was damaged before, and was returned again.
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
