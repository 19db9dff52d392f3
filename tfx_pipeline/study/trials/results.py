"""Results of a study, by cell and seed."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfx_pipeline.study.grid.config import MODEL, Cell, Side
from tfx_pipeline.study.statistics import Mean, mean_of
from tfx_pipeline.study.trials.evaluation import Figures
from tfx_pipeline.study.trials.trial import FinishedTrial, TrialOutcome


@dataclasses.dataclass(frozen=True)
class Run:
    """One seed of one cell.

    Attributes:
      cell: Cell of the grid.
      seed: Seed of the training.
      interaction: Interaction of the tower.
      hidden_dim: Hidden width in use.
      trial: Key of the training; cells with the same definition share it.
      finished: Finished training with its figures.
      baselines: Figures of the baselines on the same users, by name.
    """

    cell: Cell
    seed: int
    interaction: str
    hidden_dim: int
    trial: str
    finished: FinishedTrial
    baselines: Mapping[str, Figures]

    @property
    def outcome(self) -> TrialOutcome:
        """Figures of the trial."""
        return self.finished.outcome

    def figure(self, who: str, metric: str) -> float | None:
        """Returns a metric of test users; None where it is undefined."""
        if who in self.baselines:
            return self.baselines[who].metrics.get(metric)
        return self.outcome.metrics.get(f"eval.{who}.{metric}")

    def by_user(self, who: str, metric: str) -> np.ndarray | None:
        """Returns a metric by user, float [num_users]; None where it is not stored."""
        if who in self.baselines:
            return self.baselines[who].by_user.get(metric)
        return self.finished.by_user.get(f"{who}.{metric}")

    def to_json(self, metrics: Sequence[str]) -> dict[str, Any]:
        """Returns the run in the form of `study.json`.

        Args:
          metrics: Metrics to include of baselines and of second stages that are not served; all
            metrics of the model itself are included.

        Returns:
          The run; `metrics` has the names of the report.
        """
        figures = {
            name: value
            for name, value in self.outcome.metrics.items()
            if name.split(".")[1] == MODEL
        }
        others = {name.split(".")[1] for name in self.outcome.metrics} | {*self.baselines}
        for who in sorted(others - {MODEL}):
            figures |= {f"eval.{who}.{metric}": self.figure(who, metric) for metric in metrics}
        return {
            "interaction": self.interaction,
            "objective": self.cell.objective,
            "seed": self.seed,
            "metrics": figures,
            "parameters": self.outcome.parameters,
            "examples_per_second": self.outcome.examples_per_second,
            "tower": self.cell.tower,
            "data_set": self.cell.data_set,
            "budget": self.cell.budget,
            "hidden_dim": self.hidden_dim,
            "embedding_parameters": self.outcome.embedding_parameters,
            "steps": self.outcome.steps,
            "best_step": self.outcome.best_step,
            "click_weight": self.outcome.click_weight,
            "seconds": self.outcome.seconds,
            "trial": self.trial,
        }


@dataclasses.dataclass(frozen=True)
class Results:
    """All runs of a study.

    Attributes:
      runs: Runs by cell in the order of the grid, then seed.
    """

    runs: tuple[Run, ...]

    @functools.cached_property
    def cells(self) -> tuple[Cell, ...]:
        """Cells of the grid, each once."""
        return tuple(dict.fromkeys(run.cell for run in self.runs))

    @property
    def data_sets(self) -> tuple[str, ...]:
        """Names of the data sets, each once."""
        return tuple(dict.fromkeys(cell.data_set for cell in self.cells))

    @property
    def has_data_sets(self) -> bool:
        """Whether there is more than one data set."""
        return len(self.data_sets) > 1

    @property
    def has_budgets(self) -> bool:
        """Whether there is more than one budget."""
        return len({cell.budget for cell in self.cells}) > 1

    def of_cell(self, cell: Cell) -> tuple[Run, ...]:
        """Returns the runs of a cell, in the order of the seeds."""
        return tuple(run for run in self.runs if run.cell == cell)

    def values(self, side: Side, metric: str) -> list[float]:
        """Returns a metric by seed; empty if any seed lacks it: a mean over some would mislead."""
        values = [run.figure(side.who, metric) for run in self.of_cell(side.cell)]
        defined = [value for value in values if value is not None]
        return defined if len(defined) == len(values) else []

    def mean(self, side: Side, metric: str) -> Mean | None:
        """Returns the mean of a metric over seeds; None where it is undefined."""
        values = self.values(side, metric)
        return mean_of(values) if values else None

    def by_user(self, side: Side, metric: str) -> np.ndarray | None:
        """Returns a metric by user, mean over the seeds; None where it is not stored."""
        found = [run.by_user(side.who, metric) for run in self.of_cell(side.cell)]
        kept = [values for values in found if values is not None]
        return np.mean(kept, axis=0, dtype=np.float64) if kept and len(kept) == len(found) else None
