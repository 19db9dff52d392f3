"""The hidden width of a cell's tower, by the cell's budget."""

import dataclasses

from tfx_pipeline.study.grid.budgets import is_matched, match_width
from tfx_pipeline.study.grid.config import Cell
from tfx_pipeline.study.grid.definition import Study
from tfx_pipeline.study.trials.examples import StudyExamples
from tfx_pipeline.study.trials.training import parameters_of


def cell_width(study: Study, cell: Cell, examples: StudyExamples) -> tuple[int, str]:
    """Determines the hidden width of a cell.

    Args:
      study: Study that defines the tower and the reference.
      cell: Cell of the grid.
      examples: Examples of its data set, whose vocabularies determine the numbers of fields and
        values.

    Returns:
      The width; and a note for the reader if no width gives equal parameters, else "".
    """
    model = study.model_config(cell.tower)
    reference = study.config.parameter_reference
    if cell.budget == "width" or reference is None or cell.tower == reference:
        return model.hidden_dim, ""
    training = study.training_config(cell.objective)
    target = parameters_of(examples, study.model_config(reference), training)
    width = match_width(
        lambda hidden_dim: parameters_of(
            examples, dataclasses.replace(model, hidden_dim=hidden_dim), training
        ),
        target,
        model.hidden_dim,
    )
    if is_matched(width, target):
        return width.hidden_dim, ""
    return width.hidden_dim, (
        f"No width gives equal parameters: `{cell.tower}` has {width.parameters:,} at width "
        f"{width.hidden_dim:,}, `{reference}` {target:,}."
    )
