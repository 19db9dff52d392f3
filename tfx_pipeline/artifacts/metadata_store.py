"""The store in which TFX records the outputs of nodes, checked before a run opens it.

Without the store no existing artifact is known: a new store would count from 1 again and write
among them. So a lost or damaged store is not replaced without asking.
"""

import contextlib
import os
import shlex
import sqlite3

from tfx_pipeline.artifacts.places import ARTIFACTS_DIR
from trainer.contract.file_system import exists, file_size, is_folder, names_in, open_file

STORE_FILE = "metadata.sqlite"
_TABLES = {"Artifact", "Execution", "Event", "MLMDEnv"}
_READ_ONLY = "read-only"
_HEADER = b"SQLite format 3\0"


def check_store(output_dir: str) -> None:
    """Refuses an output folder whose store is lost or damaged.

    Args:
      output_dir: Local output folder. The caller holds its lock.

    Raises:
      ValueError: The store is unusable; one line names the fault, the loss, and the command to go
        on.
    """
    path = os.path.join(output_dir, STORE_FILE)
    artifacts = os.path.join(output_dir, ARTIFACTS_DIR)
    fault = _fault(path, is_folder(artifacts) and bool(names_in(artifacts)))
    if fault is None:
        return
    if fault == _READ_ONLY:
        raise ValueError(
            f"{path} and its folder must be writable. Received: read-only. Make them writable by "
            "`chmod u+w`, and give the same command again."
        )
    raise ValueError(
        f"{path} must be the metadata store of the artifacts beside it: {fault}. The cache and "
        "the last blessed model are lost: the next run makes everything again, and neither "
        "compares with that model nor starts from it. Pushed versions and the log of runs are "
        f"kept. Give `{_moving_away(output_dir, path, artifacts)}`, then the same command."
    )


def _fault(path: str, has_artifacts: bool) -> str | None:
    if not os.path.lexists(path):
        return "it is not there" if has_artifacts else None
    if is_folder(path):
        return "it is a folder"
    if not exists(path):
        return "it is a broken link"
    if not os.access(path, os.R_OK | os.W_OK) or not os.access(os.path.dirname(path), os.W_OK):
        return _READ_ONLY
    if file_size(path) == 0:
        # A store whose first transaction was killed is empty as well.
        return "it is empty" if has_artifacts else None
    with open_file(path, "rb") as file:
        if file.read(len(_HEADER)) != _HEADER:
            return "it is not an SQLite database"
    return _damage(path, has_artifacts)


def _damage(path: str, has_artifacts: bool) -> str | None:
    """Returns the fault that SQLite finds in a store; it may first undo a killed transaction."""
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=10)) as store:
            found = store.execute("PRAGMA quick_check(1)").fetchone()
            tables = {name for (name,) in store.execute("SELECT name FROM sqlite_master")}
    except sqlite3.Error as error:
        return f"it is truncated or damaged ({error})"
    if found != ("ok",):
        return f"it is truncated or damaged ({' '.join(str(found[0]).split())})"
    if has_artifacts and not tables >= _TABLES:
        return "it is another database"
    return None


def _moving_away(output_dir: str, path: str, artifacts: str) -> str:
    lost, number = os.path.join(output_dir, "lost"), 1
    while os.path.lexists(lost):
        number += 1
        lost = os.path.join(output_dir, f"lost-{number}")
    parts = [part for part in (path, artifacts) if os.path.lexists(part)]
    return f"mkdir {shlex.quote(lost)} && mv {shlex.join(parts)} {shlex.quote(lost)}"
