"""`tagtower query`: a user's tags and items, what a score comes from, or what is near a tag."""

import argparse
import os
from typing import TYPE_CHECKING, Any

from tfx_pipeline.commands.channel_flags import add_channel_arguments, channel_security
from tfx_pipeline.commands.query_answers import show_explanation, show_neighbours, show_profile
from tfx_pipeline.commands.query_spelling import (
    known_explanation,
    known_neighbours,
    note_spellings,
)
from tfx_pipeline.commands.query_subject import (
    add_subject_arguments,
    check_subject,
    named_subjects,
    read_subject,
)
from tfx_pipeline.terminal.console import silence_imports
from trainer.contract.given_paths import path_flag

if TYPE_CHECKING:
    from trainer.contract.tag_items import TagItems


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    parser.add_argument(
        "--server",
        default="localhost:8500",
        help="host:port of the gRPC interface (default: %(default)s)",
    )
    parser.add_argument(
        "--model_name",
        default="default",
        help="name of the model at the server (default: %(default)s)",
    )
    parser.add_argument(
        "--num_tags",
        type=int,
        default=10,
        help="number of tags to show, with --explain of values of each history (default: "
        "%(default)s)",
    )
    parser.add_argument(
        "--explain", metavar="TAG", help="show what this tag's score comes from instead of the tags"
    )
    parser.add_argument(
        "--similar",
        metavar="TAG",
        help="show the tags nearest to this one, for no user in particular",
    )
    parser.add_argument(
        "--items",
        type=int,
        metavar="N",
        help="also show N items that the shown tags recall, without those the user has clicked",
    )
    parser.add_argument(
        "--items_file",
        type=path_flag("items_file"),
        metavar="FILE",
        help="items by tag (default: items.jsonl in the output folder of --config)",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=10.0,
        help="deadline of a call, seconds (default: %(default)s)",
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object instead of a table"
    )
    add_subject_arguments(parser)
    add_channel_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Asks the server and prints the answer."""
    silence_imports()
    if arguments.similar is None:
        check_subject(arguments)
    elif named_subjects(arguments) or arguments.profile is not None:
        raise ValueError("--similar asks for no user: give no --features, --user or --events.")
    if arguments.num_tags < 1:
        raise ValueError(
            f"`num_tags` must be a positive integer. Received: num_tags={arguments.num_tags}."
        )
    asked = ("items", "explain", "similar")
    if sum(getattr(arguments, name) is not None for name in asked) > 1:
        raise ValueError("give one of --items, --explain and --similar.")
    tag_items = None if arguments.items is None else _load_tag_items(arguments)
    features: dict[str, Any] = {}
    clicked_items: set[str] = set()
    if arguments.similar is None:
        features, clicked_items = read_subject(arguments)
    from serving.client import TagClient, TagClientError

    try:
        with TagClient(
            arguments.server,
            model_name=arguments.model_name,
            timeout_s=arguments.timeout,
            security=channel_security(arguments),
        ) as client:
            if arguments.similar is not None:
                near, version = known_neighbours(client, arguments.similar, arguments.num_tags)
                show_neighbours(near, version, arguments)
            elif arguments.explain is not None:
                explanation, version = known_explanation(client, features, arguments.explain)
                show_explanation(explanation, version, arguments)
            else:
                if arguments.features is not None and not arguments.config:
                    note_spellings(client, features)
                answer = client.retrieve([features], num_tags=arguments.num_tags)
                items = None
                if tag_items is not None:
                    tags = answer.profiles[0].tags
                    items = tag_items.recall(tags, arguments.items, clicked_items)
                show_profile(answer, items, arguments)
    except TagClientError as error:
        raise ValueError(str(error)) from error
    return 0


def _load_tag_items(arguments: argparse.Namespace) -> "TagItems":
    if arguments.items < 1:
        raise ValueError(f"`items` must be a positive integer. Received: items={arguments.items}.")
    if not arguments.items_file and not arguments.config:
        raise ValueError("give --items_file or --config with --items.")
    from trainer.contract.tag_items import ROW_KEYS, TagItems
    from trainer.contract.whole_files import read_json_lines

    path = arguments.items_file
    if not path:
        from tfx_pipeline.config.pipeline import load_config
        from tfx_pipeline.examples.log_summary import ITEMS_FILE

        path = os.path.join(load_config(arguments.config).output_dir, ITEMS_FILE)
    return TagItems.from_rows(read_json_lines(path, ROW_KEYS))
