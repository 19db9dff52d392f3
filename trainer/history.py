"""From one user's events to feature values at a time: the only place where a feature is computed.

The example pipeline calls `feature_values` for every snapshot, and a caller who holds a user's
fresh clicks calls the same function before asking the server, so that both mean the same by a
feature. No Beam and no TensorFlow here.

Point in time: a feature at time `at` sees events with `timestamp < at`, and nothing else.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from trainer.config_loader import require
from trainer.features import Domain, FeatureSpec, weights_name

SECONDS_PER_DAY = 86_400.0
ATTRIBUTES = ("tags", "category", "item_id")
# A weight that has decayed to nothing still says that the value was there, and has a logarithm.
MIN_WEIGHT = 1e-6
# Seconds reach 1e11 in the year 5138; milliseconds passed it in 1973.
FIRST_MILLISECOND_VALUE = 1e11


@dataclasses.dataclass(frozen=True)
class ListColumn:
    """A column of string lists, dictionary-encoded.

    Attributes:
      codes: int [num_values], positions in `vocabulary`, the lists one after the other.
      offsets: int [num_rows + 1]; row i is `codes[offsets[i]:offsets[i + 1]]`.
      vocabulary: str [num_distinct], sorted, so that the order of codes is the order of strings.
    """

    codes: np.ndarray
    offsets: np.ndarray
    vocabulary: np.ndarray

    @classmethod
    def from_lists(cls, rows: Sequence[Sequence[str]]) -> "ListColumn":
        """Encodes plain lists of strings; a value counts once a row."""
        unique_rows = [sorted(set(row)) for row in rows]
        vocabulary = sorted({value for row in unique_rows for value in row})
        position = {value: i for i, value in enumerate(vocabulary)}
        codes = [position[value] for row in unique_rows for value in row]
        offsets = np.cumsum([0] + [len(row) for row in unique_rows])
        return cls(
            np.array(codes, np.int32), offsets.astype(np.int64), np.array(vocabulary, object)
        )

    def select(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values of some rows.

        Args:
          rows: int [n], row numbers, repetition allowed.

        Returns:
          `codes` int [m], and `position` int [m]: which entry of `rows` each code belongs to.
        """
        starts = self.offsets[rows]
        lengths = self.offsets[rows + 1] - starts
        position = np.repeat(np.arange(len(rows)), lengths)
        first = np.cumsum(lengths) - lengths
        inside = np.arange(len(position)) - first[position]
        return self.codes[starts[position] + inside], position


@dataclasses.dataclass(frozen=True)
class UserEvents:
    """Events of one user, in canonical order: timestamp, then item id, then clicked.

    Attributes:
      timestamp: int64 [num_events], seconds, UTC.
      clicked: bool [num_events].
      weight: float [num_events], weight of an event; 1 where the log has none.
      item: int [num_events], row of the event's item in every column of `attributes`.
      attributes: By name (`tags`, `category`, `item_id`), the item attributes.
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
        """Builds the events of one user from plain records, as a live caller has them.

        Args:
          records: Each with `item_id`, `timestamp` (seconds, UTC), `clicked` (0 or 1), the item's
            `tags` and `category`, and optionally `weight`. Order does not matter; exact duplicates
            count once.

        Returns:
          The events in canonical order.

        Raises:
          ValueError: A record lacks a key, `clicked` is neither 0 nor 1, or another value is of the
            wrong kind.
        """
        events: dict[tuple[int, str, int, float], Mapping[str, Any]] = {}
        for record in records:
            missing = [name for name in ("item_id", "timestamp", "clicked") if name not in record]
            require(not missing, "events", "have item_id, timestamp and clicked", dict(record))
            require(record["clicked"] in (0, 1), "clicked", "be 0 or 1", record["clicked"])
            tags = record.get("tags")
            require(not isinstance(tags, str), "tags", "be a list of strings", tags)
            seconds, weight = _seconds(record["timestamp"]), _weight(record.get("weight"))
            events[(seconds, str(record["item_id"]), int(record["clicked"]), weight)] = record
        keys = sorted(events)
        rows = [events[key] for key in keys]
        lists = {
            "tags": [list(row.get("tags") or ()) for row in rows],
            "category": [[row["category"]] if row.get("category") else [] for row in rows],
            "item_id": [[key[1]] for key in keys],
        }
        return cls(
            timestamp=np.array([key[0] for key in keys], np.int64),
            clicked=np.array([key[2] for key in keys], bool),
            weight=np.array([key[3] for key in keys], np.float64),
            item=np.arange(len(keys)),
            attributes={name: ListColumn.from_lists(values) for name, values in lists.items()},
        )

    def num_before(self, at: float) -> int:
        """Number of events before `at`: as events are in order of time, the first that many."""
        return int(np.searchsorted(self.timestamp, at, side="left"))


def _seconds(timestamp: Any) -> int:
    try:
        seconds = int(timestamp)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"`timestamp` must be seconds since 1970, UTC. Received: timestamp={timestamp!r}."
        ) from error
    is_seconds = seconds <= FIRST_MILLISECOND_VALUE
    require(is_seconds, "timestamp", "be in seconds, not milliseconds", timestamp)
    return seconds


def _weight(weight: Any) -> float:
    # float32, as the examples' events carry it: an event weighs the same on both ways.
    weight = 1.0 if weight is None else weight
    is_number = isinstance(weight, int | float | np.number)
    is_weight = is_number and 0 <= weight <= np.finfo(np.float32).max
    require(is_weight, "weight", "be a number, 0 or more", weight)
    return float(np.float32(weight))


def weighted_values(
    column: ListColumn, rows: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Sums weights by value.

    Args:
      column: The lists.
      rows: int [n], rows of `column`.
      weights: float [n], the weight that each row gives to each of its values.

    Returns:
      `codes` int [m] ascending and distinct, and `sums` float [m].
    """
    codes, position = column.select(rows)
    distinct, inverse = np.unique(codes, return_inverse=True)
    return distinct, np.bincount(inverse, weights=weights[position], minlength=len(distinct))


def feature_values(
    events: UserEvents, profile: Mapping[str, str] | None, at: float, spec: FeatureSpec
) -> dict[str, Any]:
    """Values of every feature of one user at one time.

    Args:
      events: The user's events; those at or after `at` are ignored.
      profile: The user's row of the `users` table; None: unknown.
      at: Seconds, UTC.
      spec: The features.

    Returns:
      By raw feature name: a string for a profile feature ("" if unknown), a list of strings for a
      domain (heaviest first, ties in order of the strings) and a list of floats for its weights.
    """
    profile = profile or {}
    values: dict[str, Any] = {
        feature.name: profile.get(feature.name, "") for feature in spec.profile
    }
    num_before = events.num_before(at)
    for domain in spec.domains:
        tags, weights = _domain_values(events, num_before, at, domain, spec.history_window_days)
        values[domain.name] = tags
        values[weights_name(domain.name)] = weights
    return values


def _domain_values(
    events: UserEvents,
    num_before: int,
    at: float,
    domain: Domain,
    history_window_days: float | None,
) -> tuple[list[str], list[float]]:
    windows = [days for days in (domain.window_days, history_window_days) if days is not None]
    # The window includes its first moment: events with at - window <= timestamp < at.
    first = events.num_before(at - min(windows) * SECONDS_PER_DAY) if windows else 0
    wanted = events.clicked[first:num_before] == (domain.events == "clicked")
    selected = first + np.flatnonzero(wanted)
    weights = events.weight[selected]
    if domain.weighting == "recency":
        age_days = (at - events.timestamp[selected]) / SECONDS_PER_DAY
        weights = weights * np.exp2(-age_days / domain.half_life_days)
    column = events.attributes[domain.attribute]
    codes, sums = weighted_values(column, events.item[selected], weights)
    heaviest = np.lexsort((codes, -sums))[: domain.max_values]
    # float32 is what examples and requests carry: the same value on both ways.
    rounded = np.maximum(sums[heaviest], MIN_WEIGHT).astype(np.float32)
    return column.vocabulary[codes[heaviest]].tolist(), rounded.tolist()
