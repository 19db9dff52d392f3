"""The version whose towers `tagtower reindex` takes. Light: looked for before TFX is loaded."""

from tfx_pipeline.artifacts.places import located
from tfx_pipeline.versions.pushed_versions import PushedVersion, serving_version
from trainer.contract.file_system import exists

# Of a version's provenance: what a reindex reads.
SOURCES = ("towers", "examples", "tags_file")


def reindexed_version(base_path: str, output_dir: str) -> PushedVersion:
    """The version that serves, once it is sure that what it was made from is there.

    Args:
      base_path: Folder of the numbered versions, absolute.
      output_dir: The output folder of the run, which may have been moved.

    Returns:
      The version.

    Raises:
      ValueError: There is none, or something that it was made from is not there.
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
            f"version {version.number}, pushed before that was noted; `tagtower run` makes one."
        )
    for name in SOURCES:
        path = version.provenance[name]
        if not exists(located(path, output_dir)):
            raise ValueError(
                f"`{name}` of version {version.number} in `serving.base_path` must still be there, "
                f"or below `output`, {output_dir}, if that was moved. Received: {path}; "
                "`tagtower run` makes them anew."
            )
    return version
