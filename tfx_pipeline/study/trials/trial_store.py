"""Finished trials on disk, so that an interrupted study can continue."""

import dataclasses
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Generic

import numpy as np

from tfx_pipeline.study.trials.trial import FinishedTrial, TrialDefinition, TrialOutcome
from tfx_pipeline.study.trials.trials import Definition, Trial
from tfx_pipeline.terminal.report_file import write_report
from trainer.contract.config_loader import from_saved, to_mapping
from trainer.contract.file_system import open_file
from trainer.contract.whole_files import PARSE_ERRORS, write_bytes


class TrialStore:
    """A folder of finished trials: `<key>.json` and, written before it, `<key>.npz`.

    Args:
      folder: Folder, created when the first trial is written.
    """

    def __init__(self, folder: Path):
        self._folder = folder

    def path(self, definition: TrialDefinition) -> Path:
        """Returns the path of a trial, whether it exists or not."""
        return self._folder / f"{definition.key}.json"

    def read(self, definition: TrialDefinition) -> FinishedTrial | None:
        """Reads a finished trial; None if there is none, or if its files are damaged.

        Files are written whole or not at all, but a disk may have been full, or a folder copied
        partly: files that do not read back as this trial count as not trained.
        """
        path = self.path(definition)
        try:
            with open_file(str(path), "rb") as file:
                content = json.loads(file.read())
            if content["definition"] != _plain(definition):
                return None
            outcome = from_saved(TrialOutcome, content["outcome"])
            with np.load(path.with_suffix(".npz")) as arrays:
                return FinishedTrial(content["code"], outcome, dict(arrays))
        except FileNotFoundError:
            return None
        except PARSE_ERRORS:
            return None

    def finished(self, definition: TrialDefinition) -> FinishedTrial:
        """Reads a trial that was found to be finished.

        Raises:
          RuntimeError: The trial no longer exists.
        """
        trial = self.read(definition)
        if trial is None:
            raise RuntimeError(f"{self.path(definition)} was removed while the study ran.")
        return trial

    def write(self, definition: TrialDefinition, trial: FinishedTrial) -> None:
        """Writes a finished trial, whole or not at all."""
        path = self.path(definition)
        archive = io.BytesIO()
        np.savez_compressed(archive, **trial.by_user)
        write_bytes(path.with_suffix(".npz"), archive.getvalue())
        content = {"code": trial.code, "outcome": to_mapping(trial.outcome)}
        write_report({"definition": _plain(definition), **content}, path)


@dataclasses.dataclass(frozen=True)
class Pending(Generic[Definition]):
    """The trials of a study that are left to train.

    Attributes:
      trials: Trials to train.
      num_finished: Number of trials finished by this code.
      num_changed: Number of trials finished by other code.
    """

    trials: tuple[Trial[Definition], ...]
    num_finished: int
    num_changed: int


def pending_trials(
    trials: Sequence[Trial[Definition]], store: TrialStore, code: str, accept_changed_code: bool
) -> Pending[Definition]:
    """Determines the trials that are not finished.

    Args:
      trials: Trials of the study.
      store: Store of finished trials.
      code: Fingerprint of this code.
      accept_changed_code: Whether trials finished by other code count as finished.

    Returns:
      The trials that are left, and numbers of the others.
    """
    pending, num_finished, num_changed = [], 0, 0
    for trial in trials:
        finished = store.read(trial.definition)
        is_changed = finished is not None and finished.code != code
        num_changed += is_changed
        num_finished += finished is not None and not is_changed
        if finished is None or (is_changed and not accept_changed_code):
            pending.append(trial)
    return Pending(tuple(pending), num_finished, num_changed)


def _plain(definition: TrialDefinition) -> object:
    """Returns the definition in the form in which JSON reads it back."""
    return json.loads(json.dumps(to_mapping(definition)))
