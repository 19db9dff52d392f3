"""Runs a whole study of defaults: tables, examples, trainings, report.

The module imports TFX, hence it is imported only when a study runs.
"""

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfx_pipeline.fingerprints import code_fingerprint
from tfx_pipeline.run_log.lock import only_run
from tfx_pipeline.study.grid.defaults_definition import DefaultsStudy, Sample
from tfx_pipeline.study.grid.log_tables import make_tables
from tfx_pipeline.study.report.defaults_report import build_defaults_report
from tfx_pipeline.study.run import CODE, REPORT_FILE, RUNS_FILE, TRIALS_DIR
from tfx_pipeline.study.trials.data_sets import DataSets
from tfx_pipeline.study.trials.defaults_results import (
    DefaultRun,
    DefaultsResults,
    SampleBaselines,
)
from tfx_pipeline.study.trials.defaults_trials import (
    DefaultsTrial,
    data_set_configs,
    defaults_trials,
    trial_definitions,
)
from tfx_pipeline.study.trials.training import run_trial
from tfx_pipeline.study.trials.trial_loop import announce, train_pending
from tfx_pipeline.study.trials.trial_store import TrialStore, pending_trials
from tfx_pipeline.terminal.console import Console
from trainer.contract.features import USER_ID
from trainer.contract.metric_registry import label
from trainer.contract.whole_files import write_text


@dataclasses.dataclass(frozen=True)
class DefaultsOutcome:
    """The results and files of a study of defaults.

    Attributes:
      results: Results of all runs.
      files: Paths of the written files, the report first.
      num_trained: Number of trials trained now; all others were already finished.
    """

    results: DefaultsResults
    files: tuple[Path, ...]
    num_trained: int


def run_defaults(
    study: DefaultsStudy, console: Console, accept_changed_code: bool = False
) -> DefaultsOutcome:
    """Trains the missing trials of a study of defaults, and writes report and runs.

    Args:
      study: Checked study.
      console: Console for progress.
      accept_changed_code: Whether trials finished by other code count as finished.

    Returns:
      Results and files of the study.

    Raises:
      ValueError: A user's mistake, in one line.
    """
    config = study.config
    os.makedirs(config.output_dir, exist_ok=True)
    with only_run(config.output_dir):
        made = make_tables(study, console)
        samples = made.samples
        by_data_set = data_set_configs(study, samples)
        data_sets = DataSets(by_data_set.__getitem__, config.seeds, console)
        data_sets.prepare(by_data_set)
        fingerprints: dict[str, str] = {}
        users: dict[str, np.ndarray] = {}
        baselines: dict[Sample, SampleBaselines] = {}
        by_name = {sample.name: sample for sample in samples}
        for name in by_data_set:
            examples = data_sets.examples(name)
            fingerprints[name] = examples.fingerprint
            users[name] = examples.splits["test"].scalars[USER_ID]
            if name in by_name:
                figures = data_sets.baselines(name)
                baselines[by_name[name]] = SampleBaselines(figures, users[name])
        trials = defaults_trials(study, samples, fingerprints)
        store = TrialStore(Path(config.output_dir) / TRIALS_DIR)
        code = code_fingerprint(CODE)
        pending = pending_trials(list(trials.values()), store, code, accept_changed_code)
        notes = [f"Log `{log}` is left out: {reason}" for log, reason in made.skipped.items()]
        notes += announce(pending, accept_changed_code, console)
        shown = {f"eval.model.{metric}": label(metric) for metric in config.metrics}
        train_pending(pending, len(trials), data_sets, store, code, run_trial, shown, console)
        runs = tuple(_runs(study, samples, trials, store, users))
        results = DefaultsResults(runs, baselines, config.metrics)
        files = _write(study, results, notes, made.skipped)
        return DefaultsOutcome(results, files, len(pending.trials))


def _runs(
    study: DefaultsStudy,
    samples: Sequence[Sample],
    trials: Mapping[tuple[str, str], DefaultsTrial],
    store: TrialStore,
    users: Mapping[str, np.ndarray],
) -> Iterator[DefaultRun]:
    """Yields all runs, by sample, then default, then seed."""
    fingerprints = {trial.data_set: trial.definition.examples for trial in trials.values()}
    for sample in samples:
        for default in study.config.defaults:
            data_set = study.data_set(sample, default)
            for definition in trial_definitions(study, sample, default, fingerprints[data_set]):
                yield DefaultRun(
                    sample=sample,
                    default=default,
                    seed=definition.seed,
                    data_set=data_set,
                    trial=definition.key,
                    finished=store.finished(definition),
                    users=users[data_set],
                )


def _write(
    study: DefaultsStudy,
    results: DefaultsResults,
    notes: Sequence[str],
    skipped: Mapping[str, str],
) -> tuple[Path, ...]:
    output = Path(study.config.output_dir)
    comparisons = tuple(results.comparisons())
    write_text(
        output / REPORT_FILE, build_defaults_report(study.config, results, comparisons, notes)
    )
    content = {
        "runs": [run.to_json() for run in results.runs],
        "baselines": list(_baselines_json(results)),
        "comparisons": [one.to_json() for one in comparisons],
        "skipped": [{"log": log, "reason": reason} for log, reason in skipped.items()],
    }
    write_text(output / RUNS_FILE, _json_lines(content))
    return output / REPORT_FILE, output / RUNS_FILE


def _baselines_json(results: DefaultsResults) -> Iterator[dict[str, Any]]:
    for sample, baselines in results.baselines.items():
        figures = next(iter(baselines.figures.values()))
        for who in results.baselines_of(sample.log):
            metrics = {
                f"eval.{who}.{name}": figures[who].metrics.get(name) for name in results.metrics
            }
            yield {"log": sample.log, "draw": sample.draw, "who": who, "metrics": metrics}


def _json_lines(content: Mapping[str, Sequence[Any]]) -> str:
    """Returns JSON with one line per list entry: compact, and a changed run changes one line."""
    parts = []
    for name, entries in content.items():
        lines = [json.dumps(e, separators=(",", ":"), allow_nan=False) for e in entries]
        parts.append(f'"{name}":[' + ("\n" + ",\n".join(lines) + "\n" if lines else "") + "]")
    return "{\n" + ",\n".join(parts) + "\n}\n"
