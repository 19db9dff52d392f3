"""The trainings of a study: cells and seeds, each training once."""

import dataclasses
from collections.abc import Mapping
from typing import Generic, TypeVar

from tfx_pipeline.study.grid.config import Cell
from tfx_pipeline.study.grid.definition import Study
from tfx_pipeline.study.trials.trial import TrialDefinition

Definition = TypeVar("Definition", bound=TrialDefinition)


@dataclasses.dataclass(frozen=True)
class Trial(Generic[Definition]):
    """One training of the study.

    Attributes:
      data_set: Name of the data set it trains on.
      cells: Cells that it stands for: two budgets may give the same width, and two names the same
        tower. It is trained once.
      definition: Definition of the training.
    """

    data_set: str
    cells: tuple[Cell, ...]
    definition: Definition

    @property
    def title(self) -> str:
        """First cell of the trial in words, without the seed."""
        cell = self.cells[0]
        return " · ".join((cell.tower, cell.objective, cell.data_set, cell.budget))


def study_trials(
    study: Study, fingerprints: Mapping[str, str], widths: Mapping[Cell, int]
) -> list[Trial[TrialDefinition]]:
    """Builds the trainings by data set, with all seeds of a cell before the next cell.

    Args:
      study: Checked study.
      fingerprints: Hashes of the prepared examples, by data set.
      widths: Hidden width in use, by cell.

    Returns:
      Each training once.
    """
    trials: dict[tuple[str, str], Trial[TrialDefinition]] = {}
    for data_set in fingerprints:
        features = study.pipeline_config(data_set).features
        for cell in (cell for cell in study.config.cells if cell.data_set == data_set):
            model = dataclasses.replace(study.model_config(cell.tower), hidden_dim=widths[cell])
            for seed in study.config.seeds:
                definition = TrialDefinition(
                    examples=fingerprints[data_set],
                    features=features,
                    model=model,
                    training=study.training_config(cell.objective),
                    ranking=study.base.ranking,
                    seed=seed,
                )
                name = (data_set, definition.key)
                known = trials[name].cells if name in trials else ()
                trials[name] = Trial(data_set, (*known, cell), definition)
    return list(trials.values())
