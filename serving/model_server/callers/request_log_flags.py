"""Flags of `tagtower serve` for the files of request logs; TensorFlow Serving has none of them."""

import argparse
import math

from serving.model_server.callers.tokens import warn_of_permissions
from serving.model_server.session.log_options import MIB, RequestLogOptions
from trainer.contract.file_system import open_file
from trainer.contract.given_paths import path_flag

SALT_FLAG, ID_FLAG = "request_log_salt_file", "request_log_id_names"
_DEFAULTS = RequestLogOptions()
# A salt that can be guessed would let others try all ids.
_MIN_SALT_BYTES = 16
_MAX_SALT_BYTES = 1 << 16


def add_request_log_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags to a command's parser; imports no large library.

    Args:
      parser: Parser of the command.
    """
    group = parser.add_argument_group(
        "request log", "For models whose `logging_config` in --model_config_file logs requests."
    )
    group.add_argument(
        "--request_log_file_mb",
        type=float,
        default=_DEFAULTS.file_bytes / MIB,
        metavar="MB",
        help="size at which a file of the log is closed (default: %(default)g)",
    )
    group.add_argument(
        "--request_log_file_seconds",
        type=float,
        default=_DEFAULTS.file_s,
        metavar="SECONDS",
        help="age at which a file of the log is closed (default: %(default)g)",
    )
    group.add_argument(
        f"--{SALT_FLAG}",
        type=path_flag(SALT_FLAG),
        default="",
        metavar="FILE",
        help="file with a secret by which user ids are hashed in the log (default: they are left "
        "out)",
    )
    group.add_argument(
        f"--{ID_FLAG}",
        default=",".join(_DEFAULTS.id_names),
        metavar="NAME,...",
        help="tensors, and features of tf.Examples, that are user ids (default: %(default)s)",
    )


def check_request_log_flags(arguments: argparse.Namespace) -> None:
    """Refuses values that are out of range.

    Args:
      arguments: Parsed flags.

    Raises:
      ValueError: A value is wrong.
    """
    for name in ("request_log_file_mb", "request_log_file_seconds"):
        value = getattr(arguments, name)
        if not 0 < value < math.inf:
            raise ValueError(f"`--{name}` must be positive. Received: --{name}={value}.")
    if not _names(arguments):
        raise ValueError(
            f"`--{ID_FLAG}` must name a tensor or feature. Received: "
            f"--{ID_FLAG}={arguments.request_log_id_names!r}."
        )
    if arguments.request_log_salt_file:
        _read_salt(arguments.request_log_salt_file)


def request_log_options(arguments: argparse.Namespace) -> RequestLogOptions:
    """Returns the options of the server's request logs.

    Args:
      arguments: Parsed flags.

    Raises:
      ValueError: The salt is too short.
      OSError: The file of the salt cannot be read.
    """
    path = arguments.request_log_salt_file
    if path:
        warn_of_permissions(path)
    return RequestLogOptions(
        file_bytes=math.ceil(arguments.request_log_file_mb * MIB),
        file_s=arguments.request_log_file_seconds,
        id_names=_names(arguments),
        salt=_read_salt(path) if path else None,
    )


def _names(arguments: argparse.Namespace) -> tuple[str, ...]:
    names = (name.strip() for name in arguments.request_log_id_names.split(","))
    return tuple(name for name in names if name)


def _read_salt(path: str) -> bytes:
    with open_file(path, "rb") as file:
        salt: bytes = file.read(_MAX_SALT_BYTES).strip()
    if len(salt) < _MIN_SALT_BYTES:
        # The message does not show the salt, because it goes to a log.
        raise ValueError(
            f"`--{SALT_FLAG}` must name a file with a secret of {_MIN_SALT_BYTES} or more bytes "
            f"(`openssl rand -hex 32` makes one). Received: {path}: {len(salt)} bytes."
        )
    return salt
