"""`tagtower query`: a user's tags, or why a tag has its score, from a running server."""

import argparse
import dataclasses
import json
import math
import os
from typing import TYPE_CHECKING, Any

from tfx_pipeline.console import silence_imports

if TYPE_CHECKING:
    from serving.client import Retrieval, TagExplanation


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
    features = (
        _parse_json("features", arguments.features)
        if "features" in given
        else _from_events(arguments)
    )
    from serving.client import TagClient, TagClientError

    try:
        with TagClient(
            arguments.server, model_name=arguments.model_name, timeout_s=arguments.timeout
        ) as client:
            if arguments.explain is not None:
                answer = client.explain([features], [arguments.explain])
                _show_explanation(answer.explanations[0], answer.model_version, arguments)
            else:
                _show_profile(client.retrieve([features], num_tags=arguments.num_tags), arguments)
    except TagClientError as error:
        raise ValueError(str(error)) from error
    return 0


def _show_profile(answer: "Retrieval", arguments: argparse.Namespace) -> None:
    profile = answer.profiles[0]
    if arguments.json:
        content = {
            "tags": profile.tags,
            "scores": profile.scores,
            "probabilities": profile.probabilities,
            "version": answer.model_version,
        }
        print(json.dumps(content, ensure_ascii=False))
        return
    from tfx_pipeline.report_tables import format_table

    # A version before probabilities shows none.
    probabilities = profile.probabilities or [None] * len(profile.tags)
    columns = zip(profile.tags, profile.scores, probabilities, strict=True)
    rows = [[rank, *row] for rank, row in enumerate(columns, start=1)]
    print(format_table(["rank", "tag", "score", "probability"], rows))
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


def _from_events(arguments: argparse.Namespace) -> dict[str, Any]:
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
    return feature_values(events, profile, now, config.features)


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
