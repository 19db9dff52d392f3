"""Which of the versions on disk a model serves: the latest, all, or those that are named."""

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol


class VersionPolicy(Protocol):
    """Chooses from the versions under a base path."""

    def choose(self, found: Collection[int]) -> list[int]:
        """The versions to serve, in rising order.

        Args:
          found: The versions that are there.
        """
        ...


@dataclasses.dataclass(frozen=True)
class LatestVersions:
    """The highest versions.

    Attributes:
      num_versions: How many; less than one counts as one.
    """

    num_versions: int = 1

    def choose(self, found: Collection[int]) -> list[int]:
        """The highest of the versions found, in rising order."""
        return sorted(found)[-max(self.num_versions, 1) :]


@dataclasses.dataclass(frozen=True)
class AllVersions:
    """Every version."""

    def choose(self, found: Collection[int]) -> list[int]:
        """The versions found, in rising order."""
        return sorted(found)


@dataclasses.dataclass(frozen=True)
class SpecificVersions:
    """The versions that are named, as far as they are there.

    Attributes:
      versions: Their numbers.
    """

    versions: Sequence[int]

    def choose(self, found: Collection[int]) -> list[int]:
        """The named ones of the versions found, in rising order."""
        return sorted(set(self.versions) & set(found))


class Wish:
    """What is to be served, as the configuration and the disk say at one moment.

    Args:
      policy: Chooses from what is there; None: nothing is to be served.
      found: Version -> folder, of those on the disk.
    """

    def __init__(self, policy: VersionPolicy | None, found: Mapping[int, str]):
        self._policy = policy
        self.found = found
        self.chosen = self.choose(found)

    def choose(self, numbers: Iterable[int]) -> list[int]:
        """Those of some versions that are to serve where there are no others, in rising order."""
        if self._policy is None:
            return []
        return self._policy.choose([number for number in numbers if number in self.found])

    def wants(self, number: int, path: str, available: Collection[int]) -> bool:
        """Whether a version that was loaded from a folder is to serve beside what does.

        One that is not the newest is, until that is loaded: else a server would never serve where
        versions come faster than they are loaded.
        """
        is_there = self.found.get(number) == path
        return is_there and number in self.choose({number, *available})
