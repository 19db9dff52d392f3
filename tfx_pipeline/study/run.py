"""Runs a whole study: prepares examples, trains missing trials, compares, writes.

The module imports TFX, hence it is imported only when a study runs.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tfx_pipeline.fingerprints import code_fingerprint
from tfx_pipeline.run_log.lock import only_run
from tfx_pipeline.study.grid.config import Cell
from tfx_pipeline.study.grid.definition import Study
from tfx_pipeline.study.report.page import check_page, write_page
from tfx_pipeline.study.report.plots import write_plots
from tfx_pipeline.study.report.questions import answer
from tfx_pipeline.study.report.report import build_report
from tfx_pipeline.study.trials.baseline_figures import BaselineFigures
from tfx_pipeline.study.trials.data_sets import DataSets
from tfx_pipeline.study.trials.new_tags import run_new_tags
from tfx_pipeline.study.trials.new_tags_results import NewTagsResults
from tfx_pipeline.study.trials.results import Results, Run
from tfx_pipeline.study.trials.training import run_trial
from tfx_pipeline.study.trials.trial import TrialDefinition
from tfx_pipeline.study.trials.trial_loop import train_missing
from tfx_pipeline.study.trials.trial_store import TrialStore
from tfx_pipeline.study.trials.trials import Trial, study_trials
from tfx_pipeline.study.trials.widths import cell_width
from tfx_pipeline.terminal.console import Console
from tfx_pipeline.terminal.report_file import json_rows
from trainer.contract.file_system import make_folders, open_file
from trainer.contract.metric_registry import label
from trainer.contract.whole_files import write_bytes, write_text

TRIALS_DIR = "trials"
REPORT_FILE = "study.md"
RUNS_FILE = "study.json"
NEW_TAGS_FILE = "new_tags.json"

# The code on which a trial's figures depend: this module and all that it imports.
CODE = "tfx_pipeline.study.trials.training"


@dataclasses.dataclass(frozen=True)
class StudyOutcome:
    """The results and files of a study.

    Attributes:
      results: Results of all runs.
      new_tags: Results for tags without history; None: the study does not include them.
      files: Paths of the written files, the report first.
    """

    results: Results
    new_tags: NewTagsResults | None
    files: tuple[Path, ...]


def run_study(study: Study, console: Console, accept_changed_code: bool = False) -> StudyOutcome:
    """Trains the missing trials of a study, and writes report, runs and plots.

    Args:
      study: Checked study.
      console: Console for progress.
      accept_changed_code: Whether trials finished by other code count as finished. Otherwise they
        are trained again, as figures of two versions of the code are not comparable.

    Returns:
      Results and files of the study.

    Raises:
      ValueError: A user's mistake, in one line.
    """
    config = study.config
    make_folders(config.output_dir)
    if config.page is not None:
        check_page(Path(config.page))
    with only_run(config.output_dir):
        data_sets = DataSets(study.pipeline_config, config.seeds, console)
        names = list(dict.fromkeys(cell.data_set for cell in config.cells))
        new_tags_names = [] if config.new_tags is None else [config.new_tags.data_set]
        data_sets.prepare(dict.fromkeys([*names, *new_tags_names]))
        fingerprints: dict[str, str] = {}
        baselines: dict[str, BaselineFigures] = {}
        widths: dict[Cell, int] = {}
        notes: list[str] = []
        for name in names:
            examples = data_sets.examples(name)
            fingerprints[name] = examples.fingerprint
            baselines[name] = data_sets.baselines(name)
            for cell in (cell for cell in config.cells if cell.data_set == name):
                widths[cell], note = cell_width(study, cell, examples)
                notes += [note] if note else []
        trials = study_trials(study, fingerprints, widths)
        store = TrialStore(Path(config.output_dir) / TRIALS_DIR)
        code = code_fingerprint(CODE)
        shown = {f"eval.model.{metric}": label(metric) for metric in config.plot_metrics}
        notes += train_missing(
            trials, data_sets, store, code, run_trial, shown, accept_changed_code, console
        )
        results = Results(tuple(_runs(study, trials, store, baselines)))
        new_tags = None
        if config.new_tags is not None:
            new_tags = run_new_tags(study, config.new_tags, data_sets, accept_changed_code, console)
        files = tuple(_write(study, results, new_tags, notes))
        return StudyOutcome(results, new_tags, files)


def _runs(
    study: Study,
    trials: Sequence[Trial[TrialDefinition]],
    store: TrialStore,
    baselines: Mapping[str, BaselineFigures],
) -> Iterator[Run]:
    """Yields every cell with every seed, in the order of the grid."""
    by_cell = {(cell, trial.definition.seed): trial for trial in trials for cell in trial.cells}
    for cell in study.config.cells:
        for seed in study.config.seeds:
            definition = by_cell[cell, seed].definition
            yield Run(
                cell=cell,
                seed=seed,
                interaction=definition.model.interaction,
                hidden_dim=definition.model.hidden_dim,
                trial=definition.key,
                finished=store.finished(definition),
                baselines=baselines[cell.data_set][seed],
            )


def _write(
    study: Study, results: Results, new_tags: NewTagsResults | None, notes: Sequence[str]
) -> Iterator[Path]:
    """Writes report, runs and plots into the output folder, and into the page if there is one."""
    output = Path(study.config.output_dir)
    answers = answer(study.config.questions, results)
    plots = write_plots(output, results, study.config.plot_metrics)
    report = build_report(study, results, answers, plots, notes, new_tags)
    runs = {RUNS_FILE: [run.to_json(study.config.all_metrics) for run in results.runs]}
    if new_tags is not None:
        runs[NEW_TAGS_FILE] = new_tags.to_json()
    write_text(output / REPORT_FILE, report)
    for name, content in runs.items():
        write_text(output / name, json_rows(content) + "\n")
    names = [REPORT_FILE, *runs, *(path for _, path in plots)]
    if study.config.page is not None:
        page = Path(study.config.page)
        for name in names[1:]:
            with open_file(str(output / name), "rb") as file:
                write_bytes(page.parent / name, file.read())
        write_page(page, report)
        yield page
    yield from (output / name for name in names)
