"""Clears away what killed runs left in an output folder and at its base paths.

The caller holds the lock of the output folder: no other run writes there. Users may: outside the
project's own folders, only names with its mark are removed. Names that identify their process are
removed only if that process has ended (`trainer.contract.owner_marks`).
"""

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Iterator
from glob import escape, glob

from tfx_pipeline.artifacts.metadata_store import STORE_FILE
from tfx_pipeline.artifacts.places import ARTIFACTS_DIR
from tfx_pipeline.run_log.log import RUNS_DIR
from tfx_pipeline.terminal.refusals import OutputInUse
from tfx_pipeline.versions.base_path_lock import locked, remove_abandoned_staging
from trainer.contract.file_system import is_file, is_folder, is_remote, remove_file, remove_folder
from trainer.contract.owner_marks import has_mark, is_abandoned
from trainer.contract.whole_files import UNFINISHED_SUFFIX

_OWN_FOLDERS = (RUNS_DIR, ARTIFACTS_DIR, "statistics", "checkpoints")
# States of an execution in MLMD in which its outputs count.
_COMPLETE, _CACHED = 3, 5


def remove_leftovers(output_dir: str, base_paths: Iterable[str]) -> list[str]:
    """Clears away the leftovers of killed runs.

    Args:
      output_dir: Local output folder; the caller holds its lock.
      base_paths: Folders to which the run pushes.

    Returns:
      Descriptions of what was removed.
    """
    found = {
        "unfinished files": list(_unfinished_files(output_dir)),
        "working folders of nodes": _working_folders(output_dir),
        "outputs of nodes that did not end": list(_partial_outputs(output_dir)),
    }
    for paths in found.values():
        for path in paths:
            _remove(path)
    counts = {name: len(paths) for name, paths in found.items()}
    counts["versions that were not pushed to the end"] = sum(map(_clear_base_path, base_paths))
    return [f"{count} {name}" for name, count in counts.items() if count]


def _clear_base_path(base_path: str) -> int:
    if is_remote(base_path) or not is_folder(base_path):
        return 0
    try:
        with locked([base_path], patience_s=0.0):
            return remove_abandoned_staging(base_path)
    except (OutputInUse, PermissionError):  # processes that may push there clear it themselves
        return 0


def _unfinished_files(output_dir: str) -> Iterator[str]:
    # Links to folders are included: a killed `_publish` of a report leaves them.
    with os.scandir(output_dir) as entries:
        for entry in entries:
            is_ours = entry.name.endswith(UNFINISHED_SUFFIX) and has_mark(entry.name)
            is_one = entry.is_symlink() or entry.is_file()
            if is_ours and is_one and is_abandoned(entry.path):
                yield entry.path
    for folder in (os.path.join(output_dir, name) for name in _OWN_FOLDERS):
        for parent, folders, names in os.walk(folder):
            for name in (*names, *folders):
                path = os.path.join(parent, name)
                # Older releases wrote names without a mark.
                if name.endswith(UNFINISHED_SUFFIX) and is_abandoned(path):
                    yield path


def _working_folders(output_dir: str) -> list[str]:
    """Returns the folders of temporary files of executions; no execution is running."""
    artifacts = escape(os.path.join(output_dir, ARTIFACTS_DIR))
    return glob(os.path.join(artifacts, "*", ".system", "executor_execution", "*", ".temp"))


def _partial_outputs(output_dir: str) -> Iterator[str]:
    """Yields the output folders of killed nodes: no cache and no metadata refer to them."""
    ended = _states_of_executions(os.path.join(output_dir, STORE_FILE))
    if ended is None:
        return
    artifacts = escape(os.path.join(output_dir, ARTIFACTS_DIR))
    for path in glob(os.path.join(artifacts, "*", "*", "*")):
        name = os.path.basename(path)
        if name.isdigit() and ended.get(int(name)) is False:
            yield path


def _states_of_executions(store: str) -> dict[int, bool] | None:
    """Returns by execution whether its outputs count; None: the store cannot be read."""
    if not is_file(store):
        return None
    try:
        with contextlib.closing(sqlite3.connect(store, timeout=10)) as connection:
            rows = connection.execute("SELECT id, last_known_state FROM Execution").fetchall()
    except sqlite3.Error:
        return None
    return {number: state in (_COMPLETE, _CACHED) for number, state in rows}


def _remove(path: str) -> None:
    if is_folder(path) and not os.path.islink(path):
        remove_folder(path)
    else:
        remove_file(path, missing_ok=True)
