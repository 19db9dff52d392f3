"""The current places of artifacts that reports and versions name, after a move or a copy.

Both name an artifact by the absolute path at which it was made, which also identifies it. Code that
opens an artifact asks here for its current path. Reports of older releases have paths relative to
the folder in which the run was started.
"""

import os

from trainer.contract.file_system import absolute, exists

ARTIFACTS_DIR = "artifacts"  # folder in an output folder to which TFX writes


def located(path: str, output_dir: str) -> str:
    """Finds the current path of an artifact of an output folder.

    Args:
      path: Path of the artifact in a report or a version.
      output_dir: Current path of the output folder.

    Returns:
      The current absolute path: the given one or, if nothing is there, the one below the output
      folder. If neither exists, the given one.
    """
    name = _name(path)
    if name is not None and not exists(absolute(path)):
        moved = os.path.join(absolute(output_dir), name)
        if exists(moved):
            return moved
    return absolute(path)


def is_moved(path: str, now: str) -> bool:
    """Returns whether the artifact at a path may be the one that a report or a version names.

    Args:
      path: Path of the artifact in a report or a version.
      now: Current path of an artifact.

    Returns:
      Whether both have the same name below some output folder, and the first no longer exists.
    """
    name = _name(path)
    return name is not None and name == _name(absolute(now)) and not exists(absolute(path))


def _name(path: str) -> str | None:
    """Returns the name, e.g. `artifacts/Trainer/model/5`; None: the path is in no output folder."""
    parts = path.split("/")
    if ARTIFACTS_DIR not in parts:
        return None
    start = len(parts) - 1 - parts[::-1].index(ARTIFACTS_DIR)
    return "/".join(parts[start:])
