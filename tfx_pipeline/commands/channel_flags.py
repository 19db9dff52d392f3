"""The flags of commands that ask a server: how it is known, and as whom they ask."""

import argparse
from typing import TYPE_CHECKING

from trainer.contract.given_paths import path_flag

if TYPE_CHECKING:
    from serving.client import ChannelSecurity


def add_channel_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags to a command's parser; imports nothing heavy.

    Args:
      parser: The parser of the command.
    """
    group = parser.add_argument_group("identity of the server and of the caller")
    group.add_argument(
        "--tls",
        action="store_true",
        help="connect over TLS; --ca_file, --client_cert and --client_key imply it",
    )
    for name, text in (
        (
            "ca_file",
            "certificates of the authorities that sign the server's, PEM (default: public ones)",
        ),
        ("client_cert", "certificate of the caller, PEM"),
        ("client_key", "private key of --client_cert, PEM"),
        ("token_file", "file with the token to send"),
    ):
        group.add_argument(f"--{name}", type=path_flag(name), metavar="FILE", help=text)


def channel_security(arguments: argparse.Namespace) -> "ChannelSecurity | None":
    """Returns the client's security settings; None: plain text without authentication.

    Args:
      arguments: Flags parsed by `add_channel_arguments`.

    Raises:
      ValueError: Two flags are inconsistent.
    """
    given = (arguments.ca_file, arguments.client_cert, arguments.client_key, arguments.token_file)
    if not arguments.tls and not any(given):
        return None
    from serving.client import ChannelSecurity

    if bool(arguments.client_cert) != bool(arguments.client_key):
        raise ValueError("give --client_cert and --client_key together.")
    return ChannelSecurity(
        ca_file=arguments.ca_file,
        certificate_file=arguments.client_cert,
        key_file=arguments.client_key,
        uses_tls=arguments.tls,
        token_file=arguments.token_file,
    )
