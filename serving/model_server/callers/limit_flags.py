"""Flags of `tagtower serve` that limit callers' use of resources; TensorFlow Serving lacks most."""

import argparse
import math
from typing import Any

_MIB = 1 << 20


def add_limit_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags to a command's parser; imports no large library.

    Args:
      parser: Parser of the command.
    """
    parser.add_argument(
        "--grpc_channel_arguments",
        default="",
        metavar="NAME=VALUE,...",
        help="options of the gRPC library, such as grpc.max_connection_age_ms=2000",
    )
    own = parser.add_argument_group(
        "limits that TensorFlow Serving does not have", "Requests beyond a limit are refused."
    )
    own.add_argument(
        "--max_message_bytes",
        type=int,
        default=32 * _MIB,
        metavar="BYTES",
        help="largest size of a request, uncompressed (default: %(default)s)",
    )
    own.add_argument(
        "--max_request_memory_mb",
        type=int,
        default=512,
        metavar="MB",
        help="memory for requests under way, for each of gRPC and REST (default: %(default)s)",
    )
    own.add_argument(
        "--max_batch_size",
        type=int,
        default=4096,
        metavar="EXAMPLES",
        help="most examples in a request (default: %(default)s)",
    )
    own.add_argument(
        "--max_concurrent_requests",
        type=int,
        default=1000,
        help="most requests under way or waiting, for each of gRPC and REST (default: %(default)s)",
    )
    own.add_argument(
        "--request_read_timeout_seconds",
        type=float,
        default=20.0,
        metavar="SECONDS",
        help="time in which the request of a gRPC call must arrive (default: %(default)s)",
    )
    own.add_argument(
        "--drain_seconds",
        type=float,
        default=30.0,
        help="time for requests under way to end after a stop (default: %(default)s)",
    )
    add_switch(
        own, "--enable_grpc_reflection", False, "gRPC reflection: list the methods of the server"
    )


def check_limit_flags(arguments: argparse.Namespace) -> None:
    """Refuses values that are out of range.

    Args:
      arguments: Parsed flags.

    Raises:
      ValueError: If a value is wrong.
    """
    for name in (
        "max_concurrent_requests",
        "max_batch_size",
        "max_request_memory_mb",
        "request_read_timeout_seconds",
    ):
        value = getattr(arguments, name)
        if not 0 < value < math.inf:
            raise ValueError(f"`--{name}` must be positive. Received: --{name}={value}.")
    if not arguments.drain_seconds >= 0:
        raise ValueError(
            "`--drain_seconds` must not be negative. Received: "
            f"--drain_seconds={arguments.drain_seconds}."
        )
    channel_arguments(arguments.grpc_channel_arguments)


def limit_arguments(arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns the flags' values as arguments of a `ModelServer`.

    Args:
      arguments: Parsed flags.
    """
    return {
        "max_requests": arguments.max_concurrent_requests,
        "max_message_bytes": arguments.max_message_bytes,
        "max_request_memory_mb": arguments.max_request_memory_mb,
        "max_batch_size": arguments.max_batch_size,
        "request_read_timeout_s": arguments.request_read_timeout_seconds,
        "has_reflection": arguments.enable_grpc_reflection,
        "channel_arguments": channel_arguments(arguments.grpc_channel_arguments),
    }


def channel_arguments(text: str) -> list[tuple[str, int | str]]:
    """Reads options of the gRPC library, in the form of TensorFlow Serving's flag.

    Args:
      text: Options as `name=value,name=value`; a value of digits is a number.

    Returns:
      Name and value of each option.

    Raises:
      ValueError: If an option has no name or no value.
    """
    options: list[tuple[str, int | str]] = []
    for option in filter(None, text.split(",")):
        name, equals, value = (part.strip() for part in option.partition("="))
        if not name or not equals or not value:
            raise ValueError(
                "`--grpc_channel_arguments` must be name=value pairs with commas between them. "
                f"Received: --grpc_channel_arguments={text}."
            )
        options.append((name, int(value) if value.lstrip("-").isdecimal() else value))
    return options


def add_switch(parser: argparse._ActionsContainer, name: str, default: bool, text: str) -> None:
    """Adds a flag that takes an optional value, as TensorFlow Serving's do: `--flag=false`.

    Args:
      parser: Parser, or a group of a parser.
      name: Name of the flag.
      default: Value if the flag is not given.
      text: Help text of the flag.
    """
    parser.add_argument(
        name,
        type=_boolean,
        nargs="?",
        const=True,
        default=default,
        metavar="BOOL",
        help=f"{text} (default: {str(default).lower()})",
    )


def _boolean(text: str) -> bool:
    values = {"true": True, "1": True, "false": False, "0": False}
    if text.lower() not in values:
        raise argparse.ArgumentTypeError(f"must be true or false. Received: {text}")
    return values[text.lower()]
