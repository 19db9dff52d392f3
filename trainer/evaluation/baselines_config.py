"""Names of the baselines, and limits of those that are fitted on training users."""

import dataclasses

from trainer.contract import config_bounds as bounds

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


@bounds.checked
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

    max_ease_memory_mb: bounds.NonNegativeInteger = 2_000
    max_neighbour_users: bounds.PositiveInteger = 20_000
