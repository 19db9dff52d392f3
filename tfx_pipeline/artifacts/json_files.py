"""Small JSON files in the artifacts of a run, for other nodes, reports and commands."""

import os
from typing import Any

from tfx_pipeline.artifacts.places import ARTIFACTS_DIR
from trainer.contract.whole_files import read_json

_DEPTH = 3  # number of names in `NODE/OUTPUT/ID` below `artifacts`


def read_artifact_json(path: str, kind: type = dict) -> Any:
    """Reads a JSON file of an artifact.

    Args:
      path: Path of the file.
      kind: Expected type of the content.

    Returns:
      The content of the file.

    Raises:
      FileNotFoundError: The file does not exist.
      DamagedFileError: The file is damaged; the line names the folder to remove, since a node whose
        output is gone is run again.
    """
    folder = artifact_folder(path)
    return read_json(path, f"remove {folder}, and `tagtower run` makes it again", kind)


def artifact_folder(path: str) -> str:
    """Returns the folder of the artifact that contains a file, or else the file's own folder."""
    parts = path.split("/")
    if ARTIFACTS_DIR in parts:
        end = len(parts) - parts[::-1].index(ARTIFACTS_DIR) + _DEPTH
        if end < len(parts):
            return "/".join(parts[:end])
    return os.path.dirname(path)
