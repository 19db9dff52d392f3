"""The subject of `tagtower query`: feature values, a user of the tables, or fresh events."""

import argparse
import json
from typing import Any

from trainer.contract.config_loader import unique_names
from trainer.contract.file_system import is_file, open_file
from trainer.contract.given_paths import given_path, path_flag
from trainer.contract.history import check_profile, unknown_value

# Largest file of feature values; those of a user are some kilobytes.
_MOST_BYTES = 16 << 20


def add_subject_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that select the subject of a query."""
    who = parser.add_argument_group(
        "whose tags to ask for: feature values, a user of the tables, or fresh events"
    )
    who.add_argument(
        "--features",
        metavar="JSON",
        help='one instance, as {"clicked_tags": ["jazz"]}, or @FILE with one; with --config its '
        "tags are normalised as training's were",
    )
    who.add_argument("--user", metavar="ID", help="a user of the tables that --config names")
    who.add_argument(
        "--events",
        type=path_flag("events"),
        metavar="FILE",
        help="file of fresh events (item_id, timestamp, clicked); with --user they are added to "
        "the stored ones",
    )
    who.add_argument("--profile", metavar="JSON", help="profile features that go with --events")
    parser.add_argument(
        "--config",
        type=path_flag("config"),
        help="the configuration, for --user, --events and --features",
    )


def named_subjects(arguments: argparse.Namespace) -> list[str]:
    """Returns the given flags that select the subject of a query."""
    return [name for name in ("features", "user", "events") if getattr(arguments, name) is not None]


def check_subject(arguments: argparse.Namespace) -> None:
    """Checks that the flags select one subject.

    Raises:
      ValueError: There is no subject, or flags contradict each other.
    """
    given = named_subjects(arguments)
    if not given or ("features" in given and len(given) > 1):
        raise ValueError("give one of --features, --user and --events (or the last two together).")
    if arguments.profile is not None and "events" not in given:
        raise ValueError("--profile goes with --events.")


def read_subject(arguments: argparse.Namespace) -> tuple[dict[str, Any], set[str]]:
    """Reads the feature values, and the items that the user has clicked, as far as known.

    Raises:
      ValueError: A file or a value is invalid, or `--config` is missing.
    """
    if arguments.features is not None:
        features = _parse_json("features", arguments.features)
        return (_normalized(features, arguments) if arguments.config else features), set()
    return _from_events(arguments)


def _normalized(features: dict[str, Any], arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns feature values with their tags in the spelling of the served version."""
    from serving.client import EventFeatures
    from tfx_pipeline.config.pipeline import load_config
    from tfx_pipeline.examples.user_lookup import served_tag_normalization

    config = load_config(arguments.config)
    return EventFeatures(config.features, served_tag_normalization(config)).normalized(features)


def _from_events(arguments: argparse.Namespace) -> tuple[dict[str, Any], set[str]]:
    """Returns feature values, and the items that the user has clicked."""
    if not arguments.config:
        raise ValueError(
            "`config` must say where the tables are. Give --config with --user or --events."
        )
    from tfx_pipeline.config.pipeline import load_config
    from tfx_pipeline.examples.user_lookup import find_user, read_events, to_records
    from trainer.contract.history import UserEvents, feature_values

    config = load_config(arguments.config)
    profile: dict[str, Any] | None = None
    events = UserEvents.from_records([])
    now = 0
    if arguments.user is not None:
        events, profile, now = find_user(config, arguments.user)
    if arguments.events is not None:
        records = [*to_records(events), *read_events(arguments.events, config)]
        events = UserEvents.from_records(records)
    if arguments.profile is not None:
        given = _parse_json("profile", arguments.profile)
        # As everywhere, null means unknown.
        unknown = {feature.name: unknown_value(feature) for feature in config.features.profile}
        given = {n: unknown.get(n, "") if value is None else value for n, value in given.items()}
        check_profile(given, config.features)
        profile = {**(profile or {}), **given}
    # As in the pipeline's split `now`: after all known events.
    now = max([now, *(int(time) + 1 for time in events.timestamp[-1:])])
    features = feature_values(events, profile, now, config.features)
    codes, _ = events.attributes["item_id"].select(events.item[events.clicked])
    return features, set(events.attributes["item_id"].vocabulary[codes].tolist())


def _parse_json(name: str, text: str) -> dict[str, Any]:
    if text.startswith("@"):
        path = given_path(text[1:], name)
        if not is_file(path):
            raise ValueError(f"`{name}` must name a file after @. Received: {text}.")
        with open_file(path, "rb") as file:
            content = file.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise ValueError(
                f"`{name}` must name a file of at most {_MOST_BYTES >> 20} MB after @. "
                f"Received: {text}."
            )
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"`{name}` must name a file in UTF-8 after @. Received: {text} ({error.reason})."
            ) from error
    try:
        value = json.loads(text, object_pairs_hook=unique_names)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"`{name}` must be JSON. Received: {_shown(text)} ({error}).") from error
    if not isinstance(value, dict):
        raise ValueError(f"`{name}` must be a JSON object. Received: {_shown(text)}.")
    return value


def _shown(text: str) -> str:
    """Returns the beginning of a text, in one line."""
    return " ".join(text[:200].split())
