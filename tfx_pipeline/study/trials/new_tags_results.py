"""What became of tags without history, by tower and seed."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from tfx_pipeline.study.grid.config import NewTagsConfig
from tfx_pipeline.study.statistics import Mean, mean_of
from tfx_pipeline.study.trials.trial import FinishedTrial

# Who ranks: names of `tfx_pipeline.study.trials.hidden_tags`. The baselines need no model.
VIEWS, ID_ONLY = "views", "id_only"
BASELINES = ("popularity_of_category", "random")


@dataclasses.dataclass(frozen=True)
class NewTagsRun:
    """One seed of one tower.

    Attributes:
      tower: Its name.
      seed: The seed.
      trials: Keys of the trainings with (`views`) and without views (`id_only`).
      finished: What they came to.
    """

    tower: str
    seed: int
    trials: Mapping[str, str]
    finished: Mapping[str, FinishedTrial]

    def figure(self, who: str, metric: str) -> float | None:
        """A metric of test users; None where it is undefined."""
        # Baselines belong to seed and users: both trainings have the same.
        return self.finished[who if who == ID_ONLY else VIEWS].outcome.metrics[
            f"eval.{who}.{metric}"
        ]

    def to_json(self, config: NewTagsConfig) -> dict[str, Any]:
        """The run as `new_tags.json` has it."""
        outcomes = {who: finished.outcome for who, finished in self.finished.items()}
        return {
            "tower": self.tower,
            "objective": config.objective,
            "data_set": config.data_set,
            "fraction": config.fraction,
            "seed": self.seed,
            "metrics": {**outcomes[ID_ONLY].metrics, **outcomes[VIEWS].metrics},
            "steps": {who: outcome.steps for who, outcome in outcomes.items()},
            "best_step": {who: outcome.best_step for who, outcome in outcomes.items()},
            "seconds": {who: outcome.seconds for who, outcome in outcomes.items()},
            "trials": dict(self.trials),
        }


@dataclasses.dataclass(frozen=True)
class NewTagsResults:
    """All of it.

    Attributes:
      config: What was asked.
      runs: Tower by tower, seeds within.
      notes: What a reader must know of them, a sentence each.
    """

    config: NewTagsConfig
    runs: tuple[NewTagsRun, ...]
    notes: tuple[str, ...] = ()

    def values(self, tower: str, who: str, metric: str) -> list[float]:
        """A metric by seed; empty where any seed has none: a mean over some of them misleads."""
        values = [run.figure(who, metric) for run in self.runs if run.tower == tower]
        defined = [value for value in values if value is not None]
        return defined if len(defined) == len(values) else []

    def mean(self, tower: str, who: str, metric: str) -> Mean | None:
        """Its mean; None where it is undefined."""
        values = self.values(tower, who, metric)
        return mean_of(values) if values else None

    def to_json(self) -> list[dict[str, Any]]:
        """What `new_tags.json` has, a run an entry."""
        return [run.to_json(self.config) for run in self.runs]
