"""Names of the baselines, and how much those that look at training users may take."""

import dataclasses

from trainer.contract.config_loader import require

# In the order of tables: the strongest first, chance last.
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
    """What a model is compared with, beside popularity and own history.

    Attributes:
      max_ease_memory_mb: Memory that EASE may take, estimated: 24 bytes times the square of the
        number of training users or of tags, whichever is less. Beyond it EASE is left out, and the
        report says so.
      max_neighbour_users: Training users among whom a user's neighbours are looked for; of more,
        that many at even distances in the order of their ids.
    """

    max_ease_memory_mb: int = 2_000
    max_neighbour_users: int = 20_000

    def __post_init__(self):
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
