"""Some users with all they did and what is known of them: what examples are made of at once."""

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np

from trainer.contract.arrow import pa
from trainer.contract.history import UserEvents

# As much as the arrays of a block's examples stay in a processor's cache.
_EVENTS_PER_BLOCK = 16_384
_USERS_PER_BLOCK = 4_096

# By type of a profile feature, that of its column.
PROFILE_TYPES = {"text": pa.string(), "number": pa.float32(), "list": pa.list_(pa.string())}


@dataclasses.dataclass(frozen=True)
class UserBlock:
    """Users in order of their ids.

    Attributes:
      user_ids: string [num_users].
      profile: By name of a profile feature, of `PROFILE_TYPES` [num_users]: a string, "" where
        unknown; a number, null where missing; a list of strings, null or empty where there is none.
      events: The events of all users, one user after the other, each in canonical order.
      offsets: int64 [num_users + 1]; the events of user i are the rows from `offsets[i]` to below
        `offsets[i + 1]`.
      has_older_events: bool [num_users], whether older events were dropped: then a user is no new
        one at any time, whatever is left of the history.
    """

    user_ids: pa.Array
    profile: Mapping[str, pa.Array]
    events: UserEvents
    offsets: np.ndarray
    has_older_events: np.ndarray

    def __len__(self) -> int:
        """Number of users."""
        return len(self.user_ids)

    def slice(self, first: int, end: int) -> "UserBlock":
        """The users from `first` to below `end`."""
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
        """Blocks of a bounded size, of one user at least."""
        first = 0
        while first < len(self):
            bound = self.offsets[first] + _EVENTS_PER_BLOCK
            end = int(np.searchsorted(self.offsets, bound, side="right")) - 1
            end = min(max(end, first + 1), first + _USERS_PER_BLOCK, len(self))
            yield self.slice(first, end)
            first = end
