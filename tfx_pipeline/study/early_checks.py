"""Checks of a study that run before TFX is loaded."""

from pathlib import Path

from tfx_pipeline.runs.early_checks import check_inputs
from tfx_pipeline.study.grid.defaults_definition import DefaultsStudy
from tfx_pipeline.study.grid.definition import Study
from tfx_pipeline.study.report.page import check_page


def check_study(study: Study) -> None:
    """Checks the page that a study writes to, and the tables of each of its data sets.

    Raises:
      ValueError: The page is unusable, or a table is missing or lacks a column.
    """
    config = study.config
    if config.page is not None:
        check_page(Path(config.page))
    names = [cell.data_set for cell in config.cells]
    if config.new_tags is not None:
        names.append(config.new_tags.data_set)
    for name in dict.fromkeys(names):
        check_inputs(study.pipeline_config(name))


def check_defaults(study: DefaultsStudy) -> None:
    """Checks the tables of those logs whose tables the study does not make.

    Raises:
      ValueError: A table is missing or lacks a column.
    """
    for sample in study.samples:
        if study.tables_dir(sample) is None:
            check_inputs(study.sample_config(sample))
