"""Results for tags without history, by tower and seed."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from tfx_pipeline.study.grid.config import NewTagsConfig
from tfx_pipeline.study.statistics import Mean, mean_of
from tfx_pipeline.study.trials.trial import FinishedTrial
from trainer.contract.metric_registry import RECALL, RECIPROCAL_RANK

# Names of rankings in `tfx_pipeline.study.trials.hidden_tags`. The baselines need no model.
VIEWS, ID_ONLY = "views", "id_only"
BASELINES = ("popularity_of_category", "random")
# Metrics of each ranking; with the prefix, of lists of new tags alone.
CUTS = (10, 50, 100)
METRICS = (*(RECALL.at(k) for k in CUTS), RECIPROCAL_RANK.name)
AMONG_NEW = "among_new."


@dataclasses.dataclass(frozen=True)
class NewTagsRun:
    """One seed of one tower, with and without views.

    Attributes:
      tower: Name of the tower.
      seed: Seed of the trainings and of the held-out tags.
      trials: Keys of the trainings with (`views`) and without views (`id_only`).
      finished: Finished trainings, by the same names.
    """

    tower: str
    seed: int
    trials: Mapping[str, str]
    finished: Mapping[str, FinishedTrial]

    def figure(self, who: str, metric: str) -> float | None:
        """Returns a metric of test users; None where it is undefined."""
        # Baselines depend on seed and users only: they are equal in both trainings.
        return self.finished[who if who == ID_ONLY else VIEWS].outcome.metrics[
            f"eval.{who}.{metric}"
        ]

    def to_json(self, config: NewTagsConfig) -> dict[str, Any]:
        """Returns the run in the form of `new_tags.json`."""
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
    """All results for tags without history.

    Attributes:
      config: Section `new_tags` of the study.
      runs: Runs by tower, then seed.
      notes: Facts about these runs for the reader, one sentence each.
    """

    config: NewTagsConfig
    runs: tuple[NewTagsRun, ...]
    notes: tuple[str, ...] = ()

    def values(self, tower: str, who: str, metric: str) -> list[float]:
        """Returns a metric by seed; empty if any seed lacks it: a mean over some would mislead."""
        values = [run.figure(who, metric) for run in self.runs if run.tower == tower]
        defined = [value for value in values if value is not None]
        return defined if len(defined) == len(values) else []

    def mean(self, tower: str, who: str, metric: str) -> Mean | None:
        """Returns the mean of a metric over seeds; None where it is undefined."""
        values = self.values(tower, who, metric)
        return mean_of(values) if values else None

    def to_json(self) -> list[dict[str, Any]]:
        """Returns the content of `new_tags.json`, one entry per run."""
        return [run.to_json(self.config) for run in self.runs]
