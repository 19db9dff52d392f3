"""Runs a whole study: prepares examples, trains missing trials, compares, writes.

The module imports TFX, hence it is imported only when a study runs.
"""

import dataclasses
import json
import os
import shutil
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
from tfx_pipeline.study.trials.trial_loop import announce, train_pending
from tfx_pipeline.study.trials.trial_store import TrialStore, pending_trials
from tfx_pipeline.study.trials.trials import Trial, study_trials
from tfx_pipeline.study.trials.widths import cell_width
from tfx_pipeline.terminal.console import Console
from trainer.contract.metric_registry import label
from trainer.contract.whole_files import write_text

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
      num_trained: Number of trials trained now; all others were already finished.
    """

    results: Results
    new_tags: NewTagsResults | None
    files: tuple[Path, ...]
    num_trained: int


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
    os.makedirs(config.output_dir, exist_ok=True)
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
        pending = pending_trials(trials, store, code, accept_changed_code)
        notes += announce(pending, accept_changed_code, console)
        shown = {f"eval.model.{metric}": label(metric) for metric in config.plot_metrics}
        train_pending(pending, len(trials), data_sets, store, code, run_trial, shown, console)
        results = Results(tuple(_runs(study, trials, store, baselines)))
        num_trained, new_tags = len(pending.trials), None
        if config.new_tags is not None:
            new_tags, num_more = run_new_tags(
                study, config.new_tags, data_sets, accept_changed_code, console
            )
            num_trained += num_more
        files = tuple(_write(study, results, new_tags, notes))
        return StudyOutcome(results, new_tags, files, num_trained)


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
        # One line per run: compact, and a changed run changes one line.
        lines = [json.dumps(run, separators=(",", ":"), allow_nan=False) for run in content]
        write_text(output / name, "[\n" + ",\n".join(lines) + "\n]\n")
    names = [REPORT_FILE, *runs, *(path for _, path in plots)]
    if study.config.page is not None:
        page = Path(study.config.page)
        for name in names[1:]:
            shutil.copyfile(output / name, page.parent / name)
        write_page(page, report)
        yield page
    yield from (output / name for name in names)
