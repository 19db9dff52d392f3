"""Requests with users' events, in both forms, and features of every kind to compute from them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from trainer.contract import features as f
from trainer.contract import signatures as s

# A domain of every kind: attribute, clicked or skipped, window, last events, cap, both weightings.
SPEC = f.FeatureSpec(
    history_window_days=40,
    profile=(
        f.ProfileFeature("city"),
        f.ProfileFeature("age", type="number"),
        f.ProfileFeature("languages", type="list", max_values=3),
    ),
    domains=(
        f.Domain("clicked"),
        f.Domain("decayed", weighting="recency", half_life_days=3.3),
        f.Domain("week", window_days=7, weighting="recency", half_life_days=1),
        f.Domain("latest", last_events=3),
        f.Domain("skipped", events="skipped", max_values=2),
        f.Domain("categories", attribute="category"),
        f.Domain("items", attribute="item_id", last_events=2, weighting="recency", max_values=4),
    ),
)
_PADDING = {"item_id": "", "timestamp": 0, "clicked": 0, "weight": 0.0, "category": "", "tags": []}
_COLUMNS = {
    s.EVENT_ITEM_ID: ("item_id", object),
    s.EVENT_CLICKED: ("clicked", np.int64),
    s.EVENT_TIME: ("timestamp", np.int64),
    s.EVENT_CATEGORY: ("category", object),
    s.EVENT_WEIGHT: ("weight", np.float32),
}

User = tuple[Sequence[Mapping[str, Any]], Mapping[str, Any], float]


def event_lists(users: Sequence[User]) -> dict[str, np.ndarray]:
    """Returns the padded form of users, each with events, a profile and a time."""
    width = max(len(events) for events, _, _ in users)
    rows = [[*events, *[_PADDING] * (width - len(events))] for events, _, _ in users]
    depth = max((len(event["tags"]) for row in rows for event in row), default=0)
    shape = (len(users), width)
    tags = [[*event["tags"], *[""] * (depth - len(event["tags"]))] for row in rows for event in row]
    return {
        **_profiles(users),
        s.EVENT_TAGS: _column(tags, object, (*shape, depth)),
        **{
            name: _column([event[key] for row in rows for event in row], dtype, shape)
            for name, (key, dtype) in _COLUMNS.items()
        },
    }


def flat_events(users: Sequence[User]) -> dict[str, np.ndarray]:
    """Returns the flat form of users, each with events, a profile and a time."""
    rows = [event for events, _, _ in users for event in events]
    return {
        **_profiles(users),
        s.NUM_EVENTS: np.array([len(events) for events, _, _ in users], np.int64),
        s.EVENT_NUM_TAGS: np.array([len(event["tags"]) for event in rows], np.int64),
        s.EVENT_TAGS: _column([tag for event in rows for tag in event["tags"]], object, (-1,)),
        **{
            name: _column([event[key] for event in rows], dtype, (-1,))
            for name, (key, dtype) in _COLUMNS.items()
        },
    }


def features_of(columns: Mapping[str, np.ndarray], row: int) -> dict[str, Any]:
    """Returns the features of one user as Python values, without padding."""
    found: dict[str, Any] = {}
    for feature in SPEC.profile:
        value = columns[feature.name][row]
        if feature.is_list:
            found[feature.name] = [text.decode() for text in value if text]
        else:
            found[feature.name] = float(value) if feature.is_number else value.decode()
    for domain in SPEC.domains:
        values = [text.decode() for text in columns[domain.name][row] if text]
        found[domain.name] = values
        weights = columns[f.weights_name(domain.name)][row]
        assert not weights[len(values) :].any()
        found[f.weights_name(domain.name)] = weights[: len(values)].tolist()
    return found


def _profiles(users: Sequence[User]) -> dict[str, np.ndarray]:
    profiles = [profile for _, profile, _ in users]
    width = max(len(profile["languages"]) for profile in profiles)
    languages = [
        [*profile["languages"], *[""] * (width - len(profile["languages"]))] for profile in profiles
    ]
    return {
        s.NOW: np.array([now for _, _, now in users], np.float64),
        "city": _column([profile["city"] for profile in profiles], object, (-1,)),
        "age": np.array([profile["age"] for profile in profiles], np.float32),
        "languages": _column(languages, object, (len(users), width)),
    }


def _column(values: list[Any], dtype: Any, shape: tuple[int, ...]) -> np.ndarray:
    if dtype is object:
        texts = [text.encode() for text in _flattened(values)]
        column = np.empty(len(texts), object)
        column[:] = texts
        return column.reshape(shape)
    return np.array(values, dtype).reshape(shape)


def _flattened(values: list[Any]) -> list[str]:
    return [each for value in values for each in (value if isinstance(value, list) else [value])]
