"""Conversion of users' events from Python values to the flat tensors of the signatures on events.

The server normalises tags, looks at windows and adds up; here values get one type and one form.
"""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import time
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Optional, Union

import numpy as np

from tagtower_client.event_records import EventRecord, read_event
from tagtower_client.event_rows import FLAT_EVENTS
from tagtower_client.event_times import LAST_SECOND
from tagtower_client.feature_tensors import FeatureValue, InputSlot, to_bytes, to_tensors
from tagtower_client.requirement import require
from tagtower_client.signature_rows import Kind
from tagtower_client.signatures import (
    EVENT_CATEGORY,
    EVENT_CLICKED,
    EVENT_ITEM_ID,
    EVENT_NUM_TAGS,
    EVENT_TAGS,
    EVENT_TIME,
    EVENT_WEIGHT,
    NOW,
    NUM_EVENTS,
)

EventsOfUsers = Iterable[Iterable[Mapping[str, Any]]]
Profiles = Optional[Sequence[Optional[Mapping[str, FeatureValue]]]]
Time = Union[float, datetime.datetime, None]

_INPUTS = frozenset(row.name for row in FLAT_EVENTS if row.kind is Kind.ONE)


@dataclasses.dataclass(frozen=True)
class Users:
    """Users with their events and profiles, checked as far as no model is needed.

    Attributes:
      num_events: Number of events of each user.
      events: Events of all users, one user after the other.
      lacks_category: An event that has no `category`; None: every event has one.
      profiles: Profile features of each user.
      at: Time to answer for, seconds, UTC.
    """

    num_events: Sequence[int]
    events: Sequence[EventRecord]
    lacks_category: Mapping[str, Any] | None
    profiles: Sequence[Mapping[str, FeatureValue]]
    at: float

    def to_tensors(
        self, slots: Mapping[str, InputSlot], list_width: int | None = None
    ) -> dict[str, np.ndarray]:
        """Makes the inputs of a signature.

        Args:
          slots: Inputs of the signature, by name; those that no event has are profile features.
          list_width: Width of profile features that are lists; None: length of the longest.

        Returns:
          Arrays by input name: one value per user, per event or per tag of an event; strings are
          object arrays of bytes.

        Raises:
          ValueError: If the model lists categories and an event has none, or a profile feature is
            unknown or of the wrong kind.
        """
        if EVENT_CATEGORY in slots and self.lacks_category is not None:
            require(False, "events", "have the category of their item", dict(self.lacks_category))
        events = self.events
        tags = list(map(_composed, itertools.chain.from_iterable(event.tags for event in events)))
        tensors = {
            NUM_EVENTS: np.array(self.num_events, np.int64),
            EVENT_NUM_TAGS: np.array([len(event.tags) for event in events], np.int64),
            EVENT_TAGS: _texts("tags", tags),
            EVENT_ITEM_ID: _texts("item_id", [event.item_id for event in events]),
            EVENT_CLICKED: np.array([event.clicked for event in events], np.int64),
            EVENT_TIME: np.array([event.seconds for event in events], np.int64),
            EVENT_CATEGORY: _texts("category", [event.category for event in events]),
            EVENT_WEIGHT: np.array([event.weight for event in events], np.float32),
            NOW: np.full(len(self.num_events), self.at, np.float64),
        }
        of_profile = {name: slot for name, slot in slots.items() if name not in _INPUTS}
        try:
            profile = to_tensors(self.profiles, of_profile, list_width)
        except ValueError as error:
            # The caller knows these instances by the name of the argument.
            raise ValueError(str(error).replace("`features[", "`profiles[")) from None
        return {**{name: tensors[name] for name in slots if name in tensors}, **profile}


def read_users(events_of_users: EventsOfUsers, profiles: Profiles, at: Time) -> Users:
    """Reads the arguments of the calls that take events.

    Args:
      events_of_users: Events of each user.
      profiles: Profile features by name, one mapping or None per user; None: all are unknown.
      at: Time to answer for, seconds or a `datetime`, UTC; None: now.

    Returns:
      The users.

    Raises:
      ValueError: If there is no user, not one profile for each, an event lacks a field, or a value
        is of the wrong kind.
    """
    given = [list(events) for events in events_of_users]
    require(bool(given), "events_of_users", "hold the events of at least one user", given)
    records = list(itertools.chain.from_iterable(given))
    for record in records:
        is_event = isinstance(record, Mapping)
        require(is_event, "events_of_users", "be one list of events for each user", record)
        require("tags" in record, "events", "have the tags of their item", dict(record))
    events = [read_event(record) for record in records]
    for event in events:
        is_text = all(isinstance(tag, str) for tag in event.tags)
        require(is_text, "tags", "be a list of strings", event.tags)
    if profiles is not None and len(profiles) != len(given):
        raise ValueError(
            f"`profiles` must have one mapping for each of the {len(given)} users. "
            f"Received: {len(profiles)} profiles."
        )
    return Users(
        num_events=[len(events) for events in given],
        events=events,
        lacks_category=next((record for record in records if "category" not in record), None),
        profiles=[profile or {} for profile in profiles or [None] * len(given)],
        at=_moment(at),
    )


def _moment(at: Time) -> float:
    if at is None:
        return time.time()
    if isinstance(at, datetime.datetime):
        at = at.replace(tzinfo=at.tzinfo or datetime.timezone.utc).timestamp()
    # With NaN every event would count, with the weight NaN.
    is_time = isinstance(at, (int, float, np.number)) and abs(at) <= LAST_SECOND
    require(is_time, "at", "be a time in seconds since 1970, UTC, not milliseconds", at)
    return float(at)


def _composed(tag: str) -> str:
    """Composes letters and accents (NFC), the one step of normalisation that no server can do."""
    if tag.isascii():
        return tag
    tag = unicodedata.normalize("NFC", tag)
    lowered = tag.lower()
    composed = unicodedata.normalize("NFC", lowered)
    # Some lower-case letters compose with their mark where upper-case ones do not.
    return tag if composed == lowered else composed


def _texts(name: str, values: Sequence[str]) -> np.ndarray:
    array = np.empty(len(values), object)
    array[:] = to_bytes(name, values)
    return array
