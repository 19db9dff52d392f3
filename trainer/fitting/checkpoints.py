"""Saves the state of an unfinished training, so that a killed process loses little work.

The folder is named after all inputs that determine the training's result: a training that starts
again with the same configuration on the same examples finds its own state, any other does not.
"""

import dataclasses
import hashlib
import json
import logging
import os
from collections.abc import Mapping
from typing import Any

from trainer.contract.file_system import exists, remove_folder
from trainer.contract.whole_files import PARSE_ERRORS
from trainer.fitting.early_stopping import EarlyStopping
from trainer.fitting.model_state import Arrays, ModelState, read_arrays, with_prefix, write_arrays

_FILE = "checkpoint.npz"
_BEST = "best/"

_progress = logging.getLogger("tagtower.train")

Figures = dict[str, float | None]


@dataclasses.dataclass
class Progress:
    """The progress of a training.

    Attributes:
      first_iteration: Number of steps that the optimizer had taken when this training began.
      step: Number of steps that this training has taken.
      stopping: The evaluations, and which was the best.
      losses: Mean losses of the steps between evaluations.
      history: Metrics on validation users at each evaluation.
      seconds: Seconds of the steps between evaluations.
      validation_seconds: Seconds of each evaluation on validation users.
      loss_since: Sum of the losses of the steps since the last evaluation.
      seconds_since: Seconds of the steps since the last evaluation.
    """

    stopping: EarlyStopping
    first_iteration: int = 0
    step: int = 0
    losses: list[float] = dataclasses.field(default_factory=list)
    history: list[Figures] = dataclasses.field(default_factory=list)
    seconds: list[float] = dataclasses.field(default_factory=list)
    validation_seconds: list[float] = dataclasses.field(default_factory=list)
    loss_since: float = 0.0
    seconds_since: float = 0.0

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> "Progress":
        """Builds the progress from the mapping that `dataclasses.asdict` makes."""
        return cls(**{**mapping, "stopping": EarlyStopping(**mapping["stopping"])})


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """The state of a training after some step.

    Attributes:
      state: State of the model and its optimizer.
      best_weights: Weights of the best state, by name; empty: there is none yet.
      progress: Progress of the training.
    """

    state: ModelState
    best_weights: Arrays
    progress: Progress


class CheckpointFolder:
    """The folder of one training's checkpoint; a new checkpoint replaces the last.

    Args:
      folder: Folder of this training alone. All processes of the training read it; only the chief
        writes.
    """

    def __init__(self, folder: str):
        self.folder = folder
        self._path = os.path.join(folder, _FILE)

    def load(self) -> Checkpoint | None:
        """Reads the last checkpoint; None: there is none, or it is damaged."""
        if not exists(self._path):
            return None
        try:
            arrays, progress = read_arrays(self._path)
            return Checkpoint(
                ModelState.from_arrays(arrays),
                with_prefix(arrays, _BEST),
                Progress.from_mapping(progress),
            )
        except PARSE_ERRORS as error:
            _progress.warning(
                "%s is damaged (%s): the training starts from its first step",
                self._path,
                type(error).__name__,
            )
            return None

    def save(self, checkpoint: Checkpoint) -> None:
        """Writes a checkpoint over the last one."""
        arrays = checkpoint.state.to_arrays()
        arrays |= {_BEST + name: value for name, value in checkpoint.best_weights.items()}
        write_arrays(self._path, arrays, dataclasses.asdict(checkpoint.progress))

    def remove(self) -> None:
        """Removes the folder of a training that is finished."""
        remove_folder(self.folder)


def training_key(**parts: Any) -> str:
    """Hashes the inputs that determine a training's result.

    Args:
      **parts: Configurations and fingerprints of inputs, any values that JSON can hold.

    Returns:
      A hash, 32 letters and digits.
    """
    text = json.dumps(parts, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
