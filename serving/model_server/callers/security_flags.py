"""Flags of `tagtower serve` for security: who may call, from where, and what a reload may load."""

import argparse
import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from serving.model_server.callers.tokens import FLAG as TOKEN_FLAG
from serving.model_server.ports import DEFAULT_HOST, is_loopback, numeric_address
from trainer.contract.file_system import is_remote
from trainer.contract.given_paths import path_flag

if TYPE_CHECKING:
    from serving.model_server.callers.transport_security import TransportSecurity

_logger = logging.getLogger("tagtower.model_server")


def add_security_arguments(
    parser: argparse.ArgumentParser, add_switch: Callable[..., None]
) -> None:
    """Adds the flags to a command's parser; imports no large library.

    Args:
      parser: Parser of the command.
      add_switch: Function that adds a flag with an optional value.
    """
    group = parser.add_argument_group("who may call, and from where")
    group.add_argument(
        "--host",
        default=DEFAULT_HOST,
        metavar="ADDRESS",
        help="address to listen on, 0.0.0.0 or :: for all, as in a container (default: "
        "%(default)s, this machine alone)",
    )
    group.add_argument(
        "--ssl_config_file",
        type=path_flag("ssl_config_file"),
        default="",
        metavar="FILE",
        help="TLS for gRPC and REST: file with an SSLConfig as text, with server_key, server_cert, "
        "custom_ca and client_verify",
    )
    group.add_argument(
        f"--{TOKEN_FLAG}",
        type=path_flag(TOKEN_FLAG),
        default="",
        metavar="FILE",
        help="file with one token a line; calls without one of them are refused, over gRPC and "
        "REST",
    )
    add_switch(group, "--allow_reload", False, "answer HandleReloadConfigRequest")
    group.add_argument(
        "--model_roots",
        type=path_flag("model_roots"),
        nargs="+",
        default=[],
        metavar="DIR",
        help="folders below which HandleReloadConfigRequest may load models (default: the base "
        "paths that the server starts with)",
    )


def check_security(arguments: argparse.Namespace) -> None:
    """Checks the flags, and replaces `host` by its numeric address.

    Raises:
      ValueError: A value is wrong.
    """
    arguments.host = numeric_address(arguments.host)
    for root in arguments.model_roots:
        if not is_remote(root) and not os.path.isabs(root):
            raise ValueError(
                f"`--model_roots` must be absolute paths of folders. Received: {root}."
            )


def load_security(arguments: argparse.Namespace) -> "TransportSecurity":
    """Reads the files that the flags name, before TensorFlow is loaded.

    Returns:
      The certificates and tokens of the server.

    Raises:
      ValueError: A file has wrong content.
      OSError: A file cannot be read.
    """
    from serving.model_server.callers.tokens import TokenFile
    from serving.model_server.callers.transport_security import TransportSecurity, read_certificates

    certificates = (
        read_certificates(arguments.ssl_config_file) if arguments.ssl_config_file else None
    )
    token_file = arguments.bearer_token_file
    tokens = TokenFile(token_file) if token_file else None
    if not is_loopback(arguments.host):
        if tokens and not certificates:
            _logger.warning(
                "Tokens cross the network unencrypted on --host=%s: add --ssl_config_file.",
                arguments.host,
            )
        if not tokens and not (certificates and certificates.requires_client):
            _logger.warning(
                "Anyone who reaches --host=%s may call this server: see docs/security.md.",
                arguments.host,
            )
    return TransportSecurity(certificates, tokens)
