"""Trains the trials of a study one after the other, and reports progress.

They run in this process: a trial leaves a few megabytes behind, while a separate process would load
TensorFlow and the examples again, which takes longer than a small training.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from tfx_pipeline.study.trials.data_sets import DataSets
from tfx_pipeline.study.trials.examples import StudyExamples
from tfx_pipeline.study.trials.trial import FinishedTrial, TrialOutcome
from tfx_pipeline.study.trials.trial_store import Pending, TrialStore, pending_trials
from tfx_pipeline.study.trials.trials import Definition, Trial
from tfx_pipeline.terminal import interrupts
from tfx_pipeline.terminal.console import Console


def train_missing(
    trials: Sequence[Trial[Definition]],
    data_sets: DataSets,
    store: TrialStore,
    code: str,
    run: Callable[[Definition, StudyExamples, str], FinishedTrial],
    shown: Mapping[str, str],
    accept_changed_code: bool,
    console: Console,
) -> list[str]:
    """Trains the trials that are not finished, and stores each one as soon as it is.

    Args:
      trials: Trials of the whole study.
      data_sets: Prepared data sets.
      store: Store of finished trials.
      code: Fingerprint of this code.
      run: Function that trains one trial from its definition, the examples of its data set and the
        fingerprint of the code.
      shown: Titles of the figures in the lines of progress, by their names in the outcome; missing
        figures are left out.
      accept_changed_code: Whether trials finished by other code count as finished.
      console: Console for progress, one line per trial.

    Returns:
      Facts for the reader of the report, one sentence each.
    """
    pending = pending_trials(trials, store, code, accept_changed_code)
    notes = _announce(pending, accept_changed_code, console)
    _train(pending, len(trials), data_sets, store, code, run, shown, console)
    return notes


def _announce(
    pending: Pending[Definition], accept_changed_code: bool, console: Console
) -> list[str]:
    """Reports the finished trials: figures of two versions of the code never mix silently."""
    finished, notes = pending.num_finished, []
    if pending.num_changed and accept_changed_code:
        finished += pending.num_changed
        text = (
            "Finished trials of another version of the code, used as they are: "
            f"{pending.num_changed}."
        )
        console.line(text)
        notes.append(text)
    elif pending.num_changed:
        console.line(
            f"Finished trials of another version of the code, trained again: {pending.num_changed} "
            "(--accept_changed_code uses them as they are)."
        )
    console.line(f"{finished + len(pending.trials)} trials, {finished} of them finished already")
    return notes


def _train(
    pending: Pending[Definition],
    num_trials: int,
    data_sets: DataSets,
    store: TrialStore,
    code: str,
    run: Callable[[Definition, StudyExamples, str], FinishedTrial],
    shown: Mapping[str, str],
    console: Console,
) -> None:
    started = time.perf_counter()
    first = num_trials - len(pending.trials) + 1
    for i, trial in enumerate(pending.trials):
        interrupts.check()
        examples = data_sets.examples(trial.data_set)
        with _quiet_steps():
            finished = run(trial.definition, examples, code)
        store.write(trial.definition, finished)
        mean_seconds = (time.perf_counter() - started) / (i + 1)
        minutes = mean_seconds * (len(pending.trials) - i - 1) / 60
        console.line(
            f"[{first + i:3d}/{num_trials}] {trial.title} · seed {trial.definition.seed}: "
            f"{_figures(finished.outcome, shown)}; about {minutes:.0f} min left"
        )


def _figures(outcome: TrialOutcome, shown: Mapping[str, str]) -> str:
    figures = []
    for name, title in shown.items():
        if name in outcome.metrics:
            value = outcome.metrics[name]
            figures.append(f"{title} {'-' if value is None else f'{value:.4f}'}")
    return (
        f"{', '.join(figures)}, step {outcome.best_step} of {outcome.steps}, "
        f"{outcome.seconds:.0f} s"
    )


@contextlib.contextmanager
def _quiet_steps() -> Iterator[None]:
    """Sends the lines of training steps to the log, as one line per trial is enough."""
    logger = logging.getLogger("tagtower.train")
    # While a command runs, the standard error goes to the log file of the libraries.
    handler = logging.StreamHandler()
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.propagate = True
        logger.removeHandler(handler)
