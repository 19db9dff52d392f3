"""Finds the version whose towers `tagtower reindex` uses, before TFX is loaded."""

from tfx_pipeline.artifacts.places import located
from tfx_pipeline.versions.pushed_versions import PushedVersion, serving_version
from trainer.contract.file_system import exists

# Entries of a version's provenance that a reindex reads.
SOURCES = ("towers", "examples", "tags_file")


def reindexed_version(base_path: str, output_dir: str) -> PushedVersion:
    """Returns the version that serves, after checking that its sources exist.

    Args:
      base_path: Folder of the numbered versions, absolute.
      output_dir: Output folder of the run, which may have been moved.

    Returns:
      The version with its provenance.

    Raises:
      ValueError: There is no version, or one of its sources does not exist.
    """
    version = serving_version(base_path)
    if version is None:
        raise ValueError(
            f"`serving.base_path` must hold a pushed version. Received: {base_path} without any; "
            "`tagtower run` pushes one."
        )
    if version.damage is not None:
        raise ValueError(version.damage)
    if not version.provenance.keys() >= set(SOURCES):
        raise ValueError(
            "`serving.base_path` must hold a version that says what it was made from. Received: "
            f"version {version.number}, pushed before versions said so; `tagtower run` makes one."
        )
    for name in SOURCES:
        path = version.provenance[name]
        if not exists(located(path, output_dir)):
            raise ValueError(
                f"`{name}` of version {version.number} in `serving.base_path` must still be there, "
                f"or below `output`, {output_dir}, if that was moved. Received: {path}; "
                "`tagtower run` makes them again."
            )
    return version
