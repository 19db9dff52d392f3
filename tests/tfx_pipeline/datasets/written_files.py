"""Reads the files that a command wrote."""

from pathlib import Path


def files_below(folder: Path) -> dict[str, bytes]:
    """Returns the contents of the files of a folder and those below it, by name."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}
