"""A block of users with their events and profile features, from which examples are made."""

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np

from trainer.contract.arrow import pa
from trainer.contract.history import UserEvents

# Sizes at which the arrays of a block's examples stay in a processor's cache.
_EVENTS_PER_BLOCK = 16_384
_USERS_PER_BLOCK = 4_096

# Arrow type of the column of a profile feature, by the feature's type.
PROFILE_TYPES = {"text": pa.string(), "number": pa.float32(), "list": pa.list_(pa.string())}


@dataclasses.dataclass(frozen=True)
class UserBlock:
    """Users in order of their ids, with events and profile features.

    Attributes:
      user_ids: string [num_users], ids of the users.
      profile: Columns by name of a profile feature, of `PROFILE_TYPES` [num_users]: a string, ""
        where unknown; a number, null where missing; a list of strings, null or empty where there is
        none.
      events: The events of all users, user by user, each user's in canonical order.
      offsets: int64 [num_users + 1]; the events of user i are the rows from `offsets[i]` to below
        `offsets[i + 1]`.
      has_older_events: bool [num_users], whether older events were dropped: such a user is new at
        no time, however few events are kept.
    """

    user_ids: pa.Array
    profile: Mapping[str, pa.Array]
    events: UserEvents
    offsets: np.ndarray
    has_older_events: np.ndarray

    def __len__(self) -> int:
        """Returns the number of users."""
        return len(self.user_ids)

    def slice(self, first: int, end: int) -> "UserBlock":
        """Returns the users from `first` to below `end`."""
        rows = slice(self.offsets[first], self.offsets[end])
        events = dataclasses.replace(
            self.events,
            timestamp=self.events.timestamp[rows],
            clicked=self.events.clicked[rows],
            weight=self.events.weight[rows],
            item=self.events.item[rows],
        )
        return UserBlock(
            self.user_ids[first:end],
            {name: column[first:end] for name, column in self.profile.items()},
            events,
            self.offsets[first : end + 1] - self.offsets[first],
            self.has_older_events[first:end],
        )

    def split(self) -> Iterator["UserBlock"]:
        """Yields blocks of bounded size, each of at least one user."""
        first = 0
        while first < len(self):
            bound = self.offsets[first] + _EVENTS_PER_BLOCK
            end = int(np.searchsorted(self.offsets, bound, side="right")) - 1
            end = min(max(end, first + 1), first + _USERS_PER_BLOCK, len(self))
            yield self.slice(first, end)
            first = end
