"""Small files of JSON in the artifacts of a run, for other nodes, reports and commands."""

import os
from typing import Any

from tfx_pipeline.artifacts.places import ARTIFACTS_DIR
from trainer.contract.whole_files import read_json

_DEPTH = 3  # `artifacts/NODE/OUTPUT/ID`


def read_artifact_json(path: str, kind: type = dict) -> Any:
    """Reads a file of an artifact.

    Args:
      path: The file.
      kind: What it holds.

    Returns:
      What it holds.

    Raises:
      FileNotFoundError: It is not there.
      DamagedFileError: It is not what was written; the line says which folder to remove, since a
        node whose output is gone is run again.
    """
    folder = artifact_folder(path)
    return read_json(path, f"remove {folder}, and `tagtower run` makes it anew", kind)


def artifact_folder(path: str) -> str:
    """The folder of the whole artifact that a file is in; where it is in none, its own folder."""
    parts = path.split("/")
    if ARTIFACTS_DIR in parts:
        end = len(parts) - parts[::-1].index(ARTIFACTS_DIR) + _DEPTH
        if end < len(parts):
            return "/".join(parts[:end])
    return os.path.dirname(path)
