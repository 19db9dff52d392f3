"""Finished trials on disk, so that a study that was stopped goes on."""

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
from trainer.contract.whole_files import PARSE_ERRORS, write_bytes


class TrialStore:
    """A folder of finished trials: `<key>.json` and, written before it, `<key>.npz`.

    Args:
      folder: Made when the first trial is written.
    """

    def __init__(self, folder: Path):
        self._folder = folder

    def path(self, definition: TrialDefinition) -> Path:
        """Where a trial is, or would be."""
        return self._folder / f"{definition.key}.json"

    def read(self, definition: TrialDefinition) -> FinishedTrial | None:
        """A finished trial; None where there is none, or something that is not one.

        Files are written whole or not at all, but a disk may have been full, or a folder copied
        halfway: what does not read back as this trial counts as not trained.
        """
        path = self.path(definition)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
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
        """A trial that was seen to be finished.

        Raises:
          RuntimeError: It is not there any more.
        """
        trial = self.read(definition)
        if trial is None:
            raise RuntimeError(f"{self.path(definition)} has gone while the study ran.")
        return trial

    def write(self, definition: TrialDefinition, trial: FinishedTrial) -> None:
        """Writes a finished trial, whole or not at all."""
        path = self.path(definition)
        archive = io.BytesIO()
        np.savez_compressed(archive, **trial.by_user)  # type: ignore[arg-type]
        write_bytes(path.with_suffix(".npz"), archive.getvalue())
        content = {"code": trial.code, "outcome": to_mapping(trial.outcome)}
        write_report({"definition": _plain(definition), **content}, path)


@dataclasses.dataclass(frozen=True)
class Pending(Generic[Definition]):
    """What is left to do of a study.

    Attributes:
      trials: To be trained.
      num_finished: Finished trials of this code.
      num_changed: Finished trials of other code.
    """

    trials: tuple[Trial[Definition], ...]
    num_finished: int
    num_changed: int


def pending_trials(
    trials: Sequence[Trial[Definition]], store: TrialStore, code: str, accept_changed_code: bool
) -> Pending[Definition]:
    """Looks at what is finished.

    Args:
      trials: Of the study.
      store: Where finished ones are.
      code: Fingerprint of this code.
      accept_changed_code: Whether those of other code need not be trained again.

    Returns:
      What is left.
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
    """As JSON reads it back."""
    return json.loads(json.dumps(to_mapping(definition)))
