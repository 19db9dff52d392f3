"""The versions of a model: the numbered folders in its base path."""

import logging
import os
import re

from trainer.contract.file_system import names_in

_logger = logging.getLogger("tagtower.model_server")

# Warnings that were logged: a base path is listed every second, and duplicate versions stay there.
_warned: set[tuple[int, str, str]] = set()
_MAX_WARNED = 1000

_NUMBER = re.compile(r"[0-9]+")
_LARGEST_VERSION = 2**63 - 1


def list_versions(base_path: str) -> dict[int, str]:
    """Finds the versions under a base path.

    A child is a version if its name is a number: `00000007` is version 7. Every other child is
    ignored. Therefore it is safe to write a version under another name and then rename it.

    Args:
      base_path: Folder of the versions.

    Returns:
      Paths by version number; of two names for one number the last in sorted order is used.

    Raises:
      OSError: If the base path cannot be listed; FileNotFoundError if it does not exist.
    """
    versions: dict[int, str] = {}
    for name in names_in(base_path):
        if not _NUMBER.fullmatch(name) or int(name) > _LARGEST_VERSION:
            continue
        version, path = int(name), os.path.join(base_path, name)
        if version in versions:
            _warn_once(version, path, versions[version])
        versions[version] = path
    return versions


def _warn_once(version: int, used: str, ignored: str) -> None:
    if (version, used, ignored) in _warned or len(_warned) >= _MAX_WARNED:
        return
    _warned.add((version, used, ignored))
    _logger.warning(
        "Version %d has two folders: %s is used, %s is ignored.", version, used, ignored
    )
