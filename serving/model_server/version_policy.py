"""Which of the versions on disk a model serves: the latest, all, or those that are named."""

import dataclasses
from collections.abc import Collection, Sequence
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
