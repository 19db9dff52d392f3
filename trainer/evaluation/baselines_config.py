"""Names of the baselines, and limits of those that are fitted on training users."""

import dataclasses

from trainer.contract.config_loader import require

# In the order of the report's tables: the strongest first, chance last.
BASELINES = (
    "ease_own_history",
    "ease",
    "neighbours",
    "blend",
    "own_history",
    "shown",
    "popularity",
    "random",
)


@dataclasses.dataclass(frozen=True)
class BaselinesConfig:
    """Limits of the baselines that are fitted on training users.

    Attributes:
      max_ease_memory_mb: Memory in MB that EASE may take, estimated as 24 bytes times the square of
        the smaller of the numbers of training users and of tags. If it would take more, EASE is
        left out, and the report says so.
      max_neighbour_users: Largest number of training users among whom a user's neighbours are
        searched; of more users, this many are taken at even distances in the order of their ids.
    """

    max_ease_memory_mb: int = 2_000
    max_neighbour_users: int = 20_000

    def __post_init__(self) -> None:
        require(
            self.max_ease_memory_mb >= 0,
            "max_ease_memory_mb",
            "be 0 or positive",
            self.max_ease_memory_mb,
        )
        require(
            self.max_neighbour_users >= 1,
            "max_neighbour_users",
            "be a positive integer",
            self.max_neighbour_users,
        )
