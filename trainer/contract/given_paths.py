"""Turns paths that users write into paths that mean the same to every part of a command.

The shell expands `~` and `$HOME` on the command line, but not in a configuration or after
`--output=`, where a folder named `~` would be made. A `..` after a symbolic link means one folder
to code that normalises paths and another to code that opens files. Both are resolved here, once.
"""

import argparse
import os
import re
from collections.abc import Callable

from trainer.contract import file_system
from trainer.contract.config_loader import require

_VARIABLE = re.compile(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)\})", re.ASCII)
_LOCAL_URI = "file:///"
# TFX and Beam find the files of an artifact, and TensorFlow those of a model, by patterns that
# contain the path unescaped.
_PATTERN_CHARACTERS = "*?[\\"


def given_path(path: str, name: str) -> str:
    """Resolves a path that a user wrote, for all parts of a command.

    Args:
      path: Path of a file, a folder or a glob, which may exist or not.
      name: Name of the key or argument, for messages.

    Returns:
      The path with `~` replaced by the home folder, and `$NAME` and `${NAME}` by variables of the
      environment, unless there is a file or folder of that very name. A path that has none of
      these, nor a `..` that leads out of a linked folder, is returned as it is.

    Raises:
      ValueError: The path names the home of an unknown user or a variable that is not set, or has
        a scheme for which there is no reader.
    """
    if path.startswith(_LOCAL_URI):
        path = path[len(_LOCAL_URI) - 1 :]
    if file_system.is_remote(path):
        fault = file_system.scheme_fault(path)
        if fault is not None:
            raise ValueError(f"`{name}` must {fault}. Received: {path}.")
        return _with_variables(path, name)
    if path.startswith("~"):
        path = _with_home(path, name)
    path = _with_variables(path, name)
    if os.pardir in path.split(os.sep):
        # Most often both are the same place; then the user's own path is kept.
        resolved = file_system.absolute(path)
        if os.path.realpath(os.path.normpath(path)) != os.path.realpath(resolved):
            return resolved
    return path


def require_no_pattern(path: str, name: str) -> None:
    """Refuses a folder below which TFX, Beam or TensorFlow would not find their own files.

    Args:
      path: The folder; a relative path is checked together with the working directory.
      name: Name of the key or argument.

    Raises:
      ValueError: A name in the path has a wildcard character.
    """
    place = file_system.absolute(path)
    require(
        not set(_PATTERN_CHARACTERS) & set(place),
        name,
        f"have none of {' '.join(_PATTERN_CHARACTERS)} in its path, the working directory "
        "included, as TensorFlow and TFX take them for patterns",
        place,
    )


def path_flag(name: str) -> Callable[[str], str]:
    """Returns the `type` of an argparse flag that takes a path.

    Args:
      name: Name of the flag, without its dashes.

    Returns:
      A function that calls `given_path` and turns its error into argparse's.
    """

    def convert(text: str) -> str:
        try:
            return given_path(text, name)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return convert


def _with_home(path: str, name: str) -> str:
    user = path.partition(os.sep)[0]
    if user != "~" and os.path.lexists(user):
        return path
    home = os.path.expanduser(user)
    if home == user:
        raise ValueError(f"`{name}` must name a home folder after ~. Received: {path}.")
    return home + path[len(user) :]


def _with_variables(path: str, name: str) -> str:
    names = path.split(os.sep)
    for i, part in enumerate(names):
        if "$" in part and not os.path.lexists(os.sep.join(names[: i + 1])):
            names[i] = _VARIABLE.sub(lambda match: _value(match, path, name), part)
    return os.sep.join(names)


def _value(match: re.Match[str], path: str, name: str) -> str:
    value = os.environ.get(match[1] or match[2])
    if value is None:
        raise ValueError(
            f"`{name}` must name a variable that is set, or a file or folder that is there. "
            f"Received: {path}, where {match[0]} is not set."
        )
    return value
