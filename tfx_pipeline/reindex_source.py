"""The version whose towers `tagtower reindex` takes. Light: looked for before TFX is loaded."""

from tfx_pipeline.pushed_versions import PushedVersion, serving_version
from trainer.file_system import is_folder


def reindexed_version(base_path: str) -> PushedVersion:
    """The version that serves, once it is sure that what it was made from is there.

    Args:
      base_path: Folder of the numbered versions, absolute.

    Returns:
      The version.

    Raises:
      ValueError: There is none, or its towers or examples are not there.
    """
    version = serving_version(base_path)
    if version is None:
        raise ValueError(
            f"`serving.base_path` must hold a pushed version. Received: {base_path} without any; "
            "`tagtower run` pushes one."
        )
    if "towers" not in version.provenance:
        raise ValueError(
            "`serving.base_path` must hold a version that says what it was made from. Received: "
            f"version {version.number}, pushed before that was noted; `tagtower run` makes one."
        )
    for name in ("towers", "examples"):
        path = version.provenance[name]
        if not is_folder(path):
            raise ValueError(
                f"`{name}` of version {version.number} must still be there. Received: {path}; "
                "`tagtower run` makes them anew."
            )
    return version
