"""Trains the trials of a study one after the other, and says how far it is.

In this process: a trial leaves a few megabytes behind, while a process of its own would load
TensorFlow and the examples again, which takes longer than a small training.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping

from tfx_pipeline.study.trials.data_sets import DataSets
from tfx_pipeline.study.trials.examples import StudyExamples
from tfx_pipeline.study.trials.trial import FinishedTrial, TrialOutcome
from tfx_pipeline.study.trials.trial_store import Pending, TrialStore
from tfx_pipeline.study.trials.trials import Definition
from tfx_pipeline.terminal import interrupts
from tfx_pipeline.terminal.console import Console


def announce(
    pending: Pending[Definition], accept_changed_code: bool, console: Console
) -> list[str]:
    """Says what is finished already; figures of two versions of the code never mix in silence.

    Args:
      pending: What is left to do.
      accept_changed_code: Whether finished trials of other code are taken as they are.
      console: Where to say it.

    Returns:
      What a reader of the report must know.
    """
    finished, notes = pending.num_finished, []
    if pending.num_changed and accept_changed_code:
        finished += pending.num_changed
        text = f"Finished trials of other code than this, taken as they are: {pending.num_changed}."
        console.line(text)
        notes.append(text)
    elif pending.num_changed:
        console.line(
            f"Finished trials of other code than this, trained again: {pending.num_changed} "
            "(--accept_changed_code takes them as they are)."
        )
    console.line(f"{finished + len(pending.trials)} trials, {finished} of them finished already")
    return notes


def train_pending(
    pending: Pending[Definition],
    num_trials: int,
    data_sets: DataSets,
    store: TrialStore,
    code: str,
    run: Callable[[Definition, StudyExamples, str], FinishedTrial],
    shown: Mapping[str, str],
    console: Console,
) -> None:
    """Trains what is left, and keeps each trial as soon as it is finished.

    Args:
      pending: What is left.
      num_trials: Of the whole study.
      data_sets: Prepared.
      store: Where finished trials go.
      code: Fingerprint of this code.
      run: Trains one: its definition, the examples of its data set, the fingerprint of the code.
      shown: Titles of the figures that progress shows, by their names in the outcome; a trial
        without one of them goes without.
      console: Where progress goes, a line a trial.
    """
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
    """Sends the lines of a training's steps to the log: of a study, a line a trial is enough."""
    logger = logging.getLogger("tagtower.train")
    # The libraries' output, and with it the standard error, is a file while a command runs.
    handler = logging.StreamHandler()
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.propagate = True
        logger.removeHandler(handler)
