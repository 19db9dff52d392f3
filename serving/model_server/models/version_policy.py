"""Version policies: which versions on disk a model serves (the latest, all, or named ones)."""

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol


class VersionPolicy(Protocol):
    """A policy that chooses from the versions under a base path."""

    def choose(self, found: Collection[int]) -> list[int]:
        """Returns the versions to serve, in rising order.

        Args:
          found: Numbers of the versions on disk.
        """
        ...


@dataclasses.dataclass(frozen=True)
class LatestVersions:
    """A policy that serves the highest versions.

    Attributes:
      num_versions: Number of versions; less than one counts as one.
    """

    num_versions: int = 1

    def choose(self, found: Collection[int]) -> list[int]:
        """Returns the highest of the versions found, in rising order."""
        return sorted(found)[-max(self.num_versions, 1) :]


@dataclasses.dataclass(frozen=True)
class AllVersions:
    """A policy that serves every version."""

    def choose(self, found: Collection[int]) -> list[int]:
        """Returns the versions found, in rising order."""
        return sorted(found)


@dataclasses.dataclass(frozen=True)
class SpecificVersions:
    """A policy that serves named versions, if they exist.

    Attributes:
      versions: Numbers of the versions.
    """

    versions: Sequence[int]

    def choose(self, found: Collection[int]) -> list[int]:
        """Returns the named ones of the versions found, in rising order."""
        return sorted(set(self.versions) & set(found))


class Wish:
    """The versions to serve, as the configuration and the disk determine them at one moment.

    Args:
      policy: Policy that chooses from the versions; None: no version is to be served.
      found: Folders of the versions on disk, by version number.
    """

    def __init__(self, policy: VersionPolicy | None, found: Mapping[int, str]):
        self._policy = policy
        self.found = found
        self.chosen = self.choose(found)

    def choose(self, numbers: Iterable[int]) -> list[int]:
        """Returns the versions to serve if only the given ones existed, in rising order."""
        if self._policy is None:
            return []
        return self._policy.choose([number for number in numbers if number in self.found])

    def wants(self, number: int, path: str, available: Collection[int]) -> bool:
        """Returns whether a version loaded from a folder is to serve beside the available ones.

        A version that is not the newest one serves until the newest is loaded: otherwise no version
        would ever serve if new versions appear faster than they are loaded.
        """
        is_there = self.found.get(number) == path
        return is_there and number in self.choose({number, *available})
