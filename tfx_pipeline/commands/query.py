"""`tagtower query`: a user's tags and the items they recall, or what a tag's score comes from."""

import argparse
import dataclasses
import json
import math
import os
from typing import TYPE_CHECKING, Any

from tfx_pipeline.console import silence_imports

if TYPE_CHECKING:
    from serving.client import Retrieval, TagExplanation
    from trainer.tag_items import TagItems


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    parser.add_argument(
        "--server",
        default="localhost:8500",
        help="host:port of the gRPC interface (default: %(default)s)",
    )
    parser.add_argument(
        "--model_name", default="default", help="model at the server (default: %(default)s)"
    )
    parser.add_argument(
        "--num_tags",
        type=int,
        default=10,
        help="tags to show, or values of the histories (default: %(default)s)",
    )
    parser.add_argument(
        "--explain", metavar="TAG", help="show what this tag's score comes from instead of the tags"
    )
    parser.add_argument(
        "--items",
        type=int,
        metavar="N",
        help="also show N items that the shown tags recall, without those the user has clicked",
    )
    parser.add_argument(
        "--items_file",
        metavar="FILE",
        help="items by tag (default: items.jsonl in the output folder of --config)",
    )
    parser.add_argument(
        "--timeout", type=float, default=10.0, help="deadline, seconds (default: %(default)s)"
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object instead of a table"
    )
    who = parser.add_argument_group(
        "whom to ask for: feature values, a user of the tables, or fresh events"
    )
    who.add_argument(
        "--features",
        metavar="JSON",
        help='one instance, as {"clicked_tags": ["jazz"]}, or @FILE with one',
    )
    who.add_argument("--user", metavar="ID", help="a user of the tables that --config names")
    who.add_argument(
        "--events",
        metavar="FILE",
        help="fresh events (item_id, timestamp, clicked); with --user they are added to the stored",
    )
    who.add_argument("--profile", metavar="JSON", help="profile features that go with --events")
    parser.add_argument("--config", help="the configuration, for --user and --events")


def run(arguments: argparse.Namespace) -> int:
    """Asks and prints."""
    silence_imports()
    given = [
        name for name in ("features", "user", "events") if getattr(arguments, name) is not None
    ]
    if not given or ("features" in given and len(given) > 1):
        raise ValueError("give one of --features, --user and --events (or the last two together).")
    if arguments.profile is not None and "events" not in given:
        raise ValueError("--profile goes with --events.")
    if arguments.num_tags < 1:
        raise ValueError(
            f"`num_tags` must be a positive integer. Received: num_tags={arguments.num_tags}."
        )
    if arguments.items is not None and arguments.explain is not None:
        raise ValueError("give one of --items and --explain.")
    tag_items = None if arguments.items is None else _load_tag_items(arguments)
    clicked_items: set[str] = set()
    if "features" in given:
        features = _parse_json("features", arguments.features)
    else:
        features, clicked_items = _from_events(arguments)
    from serving.client import TagClient, TagClientError

    try:
        with TagClient(
            arguments.server, model_name=arguments.model_name, timeout_s=arguments.timeout
        ) as client:
            if arguments.explain is not None:
                explained = client.explain([features], [arguments.explain])
                _show_explanation(explained.explanations[0], explained.model_version, arguments)
            else:
                answer = client.retrieve([features], num_tags=arguments.num_tags)
                items = None
                if tag_items is not None:
                    tags = answer.profiles[0].tags
                    items = tag_items.recall(tags, arguments.items, clicked_items)
                _show_profile(answer, items, arguments)
    except TagClientError as error:
        raise ValueError(str(error)) from error
    return 0


def _show_profile(
    answer: "Retrieval", items: list[str] | None, arguments: argparse.Namespace
) -> None:
    profile = answer.profiles[0]
    if arguments.json:
        content: dict[str, Any] = {
            "tags": profile.tags,
            "scores": profile.scores,
            "probabilities": profile.probabilities,
            "version": answer.model_version,
        }
        if items is not None:
            content["items"] = items
        print(json.dumps(content, ensure_ascii=False))
        return
    from tfx_pipeline.report_tables import format_table

    # A version before probabilities shows none.
    probabilities = profile.probabilities or [None] * len(profile.tags)
    columns = zip(profile.tags, profile.scores, probabilities, strict=True)
    rows = [[rank, *row] for rank, row in enumerate(columns, start=1)]
    print(format_table(["rank", "tag", "score", "probability"], rows))
    if items is not None:
        print(f"items {' '.join(items)}")
    print(f"model version {answer.model_version}")


def _show_explanation(
    explanation: "TagExplanation", model_version: int, arguments: argparse.Namespace
) -> None:
    if math.isnan(explanation.score):
        raise ValueError(
            f"`explain` must be a tag that the model knows. Received: {explanation.tag}."
        )
    values = explanation.values[: arguments.num_tags]
    if arguments.json:
        content = {
            **dataclasses.asdict(explanation),
            "values": [dataclasses.asdict(value) for value in values],
            "version": model_version,
        }
        print(json.dumps(content, ensure_ascii=False))
        return
    from tfx_pipeline.report_tables import format_table

    print(f"{explanation.tag}: score {explanation.score:.3f}; without ... it changes by")
    print()
    rows = [[v.domain, v.value, 0.0 - v.contribution, v.attention] for v in values]
    print(format_table(["value of", "", "change", "attention"], rows))
    print()
    rows = [[x.feature, 0.0 - x.contribution, x.attention] for x in explanation.features]
    print(format_table(["all of", "change", "attention"], rows))
    print(f"model version {model_version}")


def _load_tag_items(arguments: argparse.Namespace) -> "TagItems":
    if arguments.items < 1:
        raise ValueError(f"`items` must be a positive integer. Received: items={arguments.items}.")
    if not arguments.items_file and not arguments.config:
        raise ValueError("give --items_file or --config with --items.")
    from trainer.tag_items import TagItems

    path = arguments.items_file
    if not path:
        from tfx_pipeline.config import load_config
        from tfx_pipeline.log_summary import ITEMS_FILE

        path = os.path.join(load_config(arguments.config).output_dir, ITEMS_FILE)
    return TagItems.load(path)


def _from_events(arguments: argparse.Namespace) -> tuple[dict[str, Any], set[str]]:
    """Feature values, and the items that the user has clicked."""
    if not arguments.config:
        raise ValueError(
            "`config` must say where the tables are. Give --config with --user or --events."
        )
    from tfx_pipeline.config import load_config
    from tfx_pipeline.user_lookup import find_user, read_events, to_records
    from trainer.history import UserEvents, feature_values

    config = load_config(arguments.config)
    profile: dict[str, str] | None = None
    events = UserEvents.from_records([])
    now = 0
    if arguments.user is not None:
        events, profile, now = find_user(config, arguments.user)
    if arguments.events is not None:
        records = [*to_records(events), *read_events(arguments.events, config)]
        events = UserEvents.from_records(records)
    if arguments.profile is not None:
        given = _parse_json("profile", arguments.profile)
        known = [feature.name for feature in config.features.profile]
        unknown = sorted(set(given) - set(known))
        if unknown:
            raise ValueError(
                f"`profile` must name profile features ({', '.join(known)}). "
                f"Received: {', '.join(unknown)}."
            )
        profile = {**(profile or {}), **given}
    # As in the pipeline's snapshot "now": after everything that is known.
    now = max([now, *(int(time) + 1 for time in events.timestamp[-1:])])
    features = feature_values(events, profile, now, config.features)
    codes, _ = events.attributes["item_id"].select(events.item[events.clicked])
    return features, set(events.attributes["item_id"].vocabulary[codes].tolist())


def _parse_json(name: str, text: str) -> dict[str, Any]:
    if text.startswith("@"):
        if not os.path.isfile(text[1:]):
            raise ValueError(f"`{name}` must name a file after @. Received: {text}.")
        with open(text[1:], encoding="utf-8") as file:
            text = file.read()
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ValueError(f"`{name}` must be JSON. Received: {text[:200]} ({error}).") from error
    if not isinstance(value, dict):
        raise ValueError(f"`{name}` must be a JSON object. Received: {text[:200]}.")
    return value
