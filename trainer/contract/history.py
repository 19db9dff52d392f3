"""Computes feature values at a time from a user's events: the definition of every feature.

The example pipeline uses `HistoryValues` for the snapshots of many users at once. A caller who
holds a user's fresh clicks calls `feature_values`, which uses it for one user, so that a feature
means the same to both. No Beam and no TensorFlow here. A servable computes the same in its graph
(`serving.servable.event_history`), and a property test holds both equal: change both.

Point in time: a feature at time `at` sees events with `timestamp < at`, and nothing else.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tagtower_client.event_records import MAX_WEIGHT as MAX_WEIGHT
from tagtower_client.event_records import EventRecord, read_event
from tagtower_client.line_breaks import one_line
from trainer.contract.config_loader import require
from trainer.contract.features import Domain, FeatureSpec, ProfileFeature, weights_name
from trainer.contract.list_column import ListColumn
from trainer.contract.value_sums import ChosenValues, ValueSums, heaviest

SECONDS_PER_DAY = 86_400.0
ATTRIBUTES = ("tags", "category", "item_id")
# Lower bound of weights: a value whose weight has decayed to 0 still counts and has a logarithm.
MIN_WEIGHT = 1e-6
# A sum below it is 0 for the order of values: TensorFlow's threads take denormal numbers for 0.
NEGLIGIBLE_WEIGHT = 1e-30


@dataclasses.dataclass(frozen=True)
class UserEvents:
    """Events of one user, in canonical order: timestamp, then item id, then clicked.

    Attributes:
      timestamp: int64 [num_events], times in seconds, UTC.
      clicked: bool [num_events], whether the item was clicked, else it was skipped.
      weight: float [num_events], weights of the events; 1 where the log has none. Counts of events
        do not depend on it.
      item: int [num_events], row of the event's item in every column of `attributes`.
      attributes: The item attributes by name (`tags`, `category`, `item_id`).
    """

    timestamp: np.ndarray
    clicked: np.ndarray
    weight: np.ndarray
    item: np.ndarray
    attributes: Mapping[str, ListColumn]

    def __len__(self) -> int:
        return len(self.timestamp)

    @classmethod
    def from_records(cls, records: Iterable[Mapping[str, Any]]) -> "UserEvents":
        """Builds the events of one user from plain records of a live caller.

        Args:
          records: Mappings with `item_id`, `timestamp` (seconds, UTC, or any other form of a time
            that the tables may have), `clicked` (0 or 1), the item's `tags` and
            `category`, and optionally `weight`. Order does not matter; exact duplicates count once.

        Returns:
          The events in canonical order.

        Raises:
          ValueError: A record lacks a key, `clicked` is neither 0 nor 1, or another value is of the
            wrong kind.
        """
        events: dict[tuple[int, str, int, float], EventRecord] = {}
        for event in map(read_event, records):
            events[(event.seconds, event.item_id, event.clicked, event.weight)] = event
        keys = sorted(events)
        rows = [events[key] for key in keys]
        lists = {
            "tags": [list(row.tags) for row in rows],
            "category": [[row.category] if row.category else [] for row in rows],
            "item_id": [[row.item_id] for row in rows],
        }
        return cls(
            timestamp=np.array([key[0] for key in keys], np.int64),
            clicked=np.array([key[2] for key in keys], bool),
            weight=np.array([key[3] for key in keys], np.float64),
            item=np.arange(len(keys)),
            attributes={name: ListColumn.from_lists(values) for name, values in lists.items()},
        )

    def num_before(self, at: float) -> int:
        """Returns the number of events before `at`, which are the first ones in order of time."""
        return int(np.searchsorted(self.timestamp, at, side="left"))


def check_profile(profile: Mapping[str, Any], spec: FeatureSpec) -> None:
    """Checks a user's profile features as a caller gives them.

    Args:
      profile: Values by name of the feature.
      spec: The feature specification.

    Raises:
      ValueError: A name is no profile feature, or a value is of another kind than the feature.
    """
    known = [feature.name for feature in spec.profile]
    unknown = sorted(set(profile) - set(known))
    demand = f"name profile features ({', '.join(known)})"
    require(not unknown, "profile", demand, ", ".join(unknown))
    for feature in spec.profile:
        value = profile.get(feature.name, unknown_value(feature))
        if feature.is_number:
            require(
                value is None or is_profile_number(value),
                feature.name,
                "be a finite number, NaN where unknown",
                value,
            )
        elif feature.is_list:
            is_list = isinstance(value, Sequence) and not isinstance(value, str)
            is_text = is_list and all(isinstance(each, str) for each in value)
            require(is_text, feature.name, "be a list of strings", value)
        else:
            require(isinstance(value, str), feature.name, 'be a string, "" where unknown', value)


def unknown_value(feature: ProfileFeature) -> Any:
    """Returns the value of a profile feature that is unknown: NaN, [] or ""."""
    return float("nan") if feature.is_number else [] if feature.is_list else ""


def is_profile_number(value: Any) -> bool:
    """Returns whether a profile feature `number` may have a value: finite in float32, or NaN."""
    is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    return is_number and (value != value or abs(value) <= MAX_WEIGHT)


def list_values(values: Iterable[str], max_values: int) -> list[str]:
    """Cleans the values of a profile feature of `type: list`, for the tables and live callers.

    Args:
      values: The values as written.
      max_values: Number of values kept, the first ones.

    Returns:
      Distinct, non-empty values of one line, without white space at their ends.
    """
    found = dict.fromkeys(one_line(value).strip() for value in values)
    found.pop("", None)
    return list(found)[:max_values]


def profile_value(feature: ProfileFeature, profile: Mapping[str, Any]) -> Any:
    """Returns the value of one profile feature.

    Args:
      feature: The profile feature.
      profile: A user's row of the `users` table, or the profile features that a caller gives; a
        value that is None or left out is unknown.

    Returns:
      A string, a float (rounded to float32, NaN where unknown), or a list of strings.
    """
    value = profile.get(feature.name)
    if value is None:
        value = unknown_value(feature)
    if feature.is_number:
        return float(np.float32(value))
    if feature.is_list:
        return list_values(value, feature.effective_max_values)
    return one_line(value)


@dataclasses.dataclass(frozen=True)
class Moments:
    """Times at which features of one user or of many are computed.

    Attributes:
      first: int [m], row of the user's first event.
      end: int [m], row after the user's last event before the time.
      at: float or int [m], times in seconds, UTC.
    """

    first: np.ndarray
    end: np.ndarray
    at: np.ndarray


class HistoryValues:
    """Computes domains' values from events and gathers the values of the events only once."""

    def __init__(self, events: UserEvents):
        """Initializes with the events of a user, or those of many, one user after the other."""
        self.events = events
        self._chosen: dict[tuple[str, bool], ChosenValues] = {}

    def chosen(self, attribute: str, *, clicked: bool) -> ChosenValues:
        """Returns the values of an attribute of the clicked events, or of the skipped ones."""
        key = (attribute, clicked)
        if key not in self._chosen:
            events = self.events
            self._chosen[key] = ChosenValues(
                events.attributes[attribute], events.item, events.clicked == clicked
            )
        return self._chosen[key]

    def domain_values(
        self, moments: Moments, domain: Domain, history_window_days: float | None
    ) -> ValueSums:
        """Computes the values of a domain at some moments.

        Args:
          moments: Users and times.
          domain: The domain.
          history_window_days: `FeatureSpec.history_window_days`.

        Returns:
          The values of each moment with their weights, float32; heaviest first, ties in order of
          the strings.
        """
        events = self.events
        windows = [days for days in (domain.window_days, history_window_days) if days is not None]
        first = moments.first
        if windows:
            # The window includes its first moment: events with at - window <= timestamp < at.
            bound = moments.at - min(windows) * SECONDS_PER_DAY
            first = _first_at_or_after(events.timestamp, first, moments.end, bound)
        chosen = self.chosen(domain.attribute, clicked=domain.events == "clicked")
        if domain.last_events is not None:
            first = chosen.first_of_last(domain.last_events, first, moments.end)
        if domain.weighting == "count":
            found = chosen.count(first, moments.end)
        else:
            owner, places = chosen.select(first, moments.end)
            rows = chosen.rows[chosen.position[places]]
            age_days = (moments.at[owner] - events.timestamp[rows]) / SECONDS_PER_DAY
            weights = events.weight[rows] * np.exp2(-age_days / domain.half_life_days)
            found = chosen.add_up(owner, places, weights, len(first))
        # Examples and requests hold float32: the value is the same in both, and never infinite.
        # Values are ordered by it, so that the last digits of a sum, in which numpy and the graph
        # of a servable may differ, decide nothing.
        rounded = np.minimum(found.sums, MAX_WEIGHT).astype(np.float32)
        rounded[found.sums < NEGLIGIBLE_WEIGHT] = 0.0
        found = heaviest(found._replace(sums=rounded), domain.max_values)
        return found._replace(sums=np.maximum(found.sums, np.float32(MIN_WEIGHT)))


def _first_at_or_after(
    timestamps: np.ndarray, first: np.ndarray, end: np.ndarray, bound: np.ndarray
) -> np.ndarray:
    """Finds the first row at or after `bound` in each stretch [first, end) of ascending times."""
    low, high = first.copy(), end.copy()
    while (is_open := low < high).any():
        # Finished searches read row 0, which exists while one is open, and do not change.
        middle = np.where(is_open, (low + high) // 2, 0)
        is_before = is_open & (timestamps[middle] < bound)
        low = np.where(is_before, middle + 1, low)
        high = np.where(is_open & ~is_before, middle, high)
    return low


def feature_values(
    events: UserEvents, profile: Mapping[str, Any] | None, at: float, spec: FeatureSpec
) -> dict[str, Any]:
    """Computes the values of all features of one user at one time.

    Args:
      events: The user's events; those at or after `at` are ignored.
      profile: The user's row of the `users` table; None: unknown.
      at: The time in seconds, UTC.
      spec: The feature specification.

    Returns:
      Values by raw feature name: for a profile feature a string ("" if unknown), a float (NaN if
      unknown) or a list of strings; for a domain a list of strings (heaviest first, ties in order
      of the strings) and a list of floats for its weights.
    """
    profile = profile or {}
    values: dict[str, Any] = {
        feature.name: profile_value(feature, profile) for feature in spec.profile
    }
    history = HistoryValues(events)
    moment = Moments(np.array([0]), np.array([events.num_before(at)]), np.array([at]))
    for domain in spec.domains:
        found = history.domain_values(moment, domain, spec.history_window_days)
        vocabulary = events.attributes[domain.attribute].vocabulary
        values[domain.name] = vocabulary[found.codes].tolist()
        values[weights_name(domain.name)] = found.sums.tolist()
    return values
