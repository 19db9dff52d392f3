"""Where the artifacts are that reports and versions name: output folders are moved and copied.

Both name an artifact by the absolute path at which it was made, which is also what says that two of
them are one. Who opens one asks here where it is now. Reports of older releases have paths that
were relative to whatever folder the run was started in.
"""

import os

from trainer.contract.file_system import absolute, exists

ARTIFACTS_DIR = "artifacts"  # of an output folder, where TFX writes


def located(path: str, output_dir: str) -> str:
    """Finds an artifact of an output folder.

    Args:
      path: What a report or a version calls it.
      output_dir: The output folder as it is called now.

    Returns:
      The absolute path where it is: the same one or, where nothing is there any more, that below
      the output folder. Where neither is there, the same one.
    """
    name = _name(path)
    if name is not None and not exists(absolute(path)):
        moved = os.path.join(absolute(output_dir), name)
        if exists(moved):
            return moved
    return absolute(path)


def is_moved(path: str, now: str) -> bool:
    """Whether what is at a path may be what a report or a version calls otherwise.

    Args:
      path: What it is called.
      now: A path.

    Returns:
      Whether both have one name below some output folder, and the first is there no more.
    """
    name = _name(path)
    return name is not None and name == _name(absolute(now)) and not exists(absolute(path))


def _name(path: str) -> str | None:
    """`artifacts/Trainer/model/5`; None: it is no artifact of an output folder."""
    parts = path.split("/")
    if ARTIFACTS_DIR not in parts:
        return None
    start = len(parts) - 1 - parts[::-1].index(ARTIFACTS_DIR)
    return "/".join(parts[start:])
