"""A training that is not finished, in one file, so that a process killed in it loses little.

The folder is named after what decides the training's outcome: a training that starts again with the
same configuration on the same examples finds its own state, any other one does not.
"""

import dataclasses
import hashlib
import json
import logging
import os
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from trainer.contract.whole_files import PARSE_ERRORS
from trainer.fitting.early_stopping import EarlyStopping
from trainer.fitting.model_state import Arrays, ModelState, read_arrays, with_prefix, write_arrays

_FILE = "checkpoint.npz"
_BEST = "best/"

_progress = logging.getLogger("tagtower.train")

Figures = dict[str, float | None]


@dataclasses.dataclass
class Progress:
    """How far a training has come.

    Attributes:
      first_iteration: Steps that the optimizer had taken when this training began.
      step: Steps of this training.
      stopping: The evaluations, and which was the best.
      losses: Mean loss of the steps between each two evaluations.
      history: Metrics on validation users, by evaluation.
      seconds: Time of the steps between each two evaluations.
      validation_seconds: Time of each evaluation on validation users.
      loss_since: Sum of the losses of the steps since the last evaluation.
      seconds_since: Time of these steps.
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
        """The inverse of `dataclasses.asdict`."""
        return cls(**{**mapping, "stopping": EarlyStopping(**mapping["stopping"])})


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A training at one moment.

    Attributes:
      state: The model and its optimizer.
      best_weights: Weights of the best state, by name; empty: there is none yet.
      progress: How far it has come.
    """

    state: ModelState
    best_weights: Arrays
    progress: Progress


class CheckpointFolder:
    """The place of one training's checkpoint; a new one takes the place of the last.

    Args:
      folder: Of this training alone. All processes of the training see it; only the chief writes.
    """

    def __init__(self, folder: str):
        self.folder = folder
        self._path = os.path.join(folder, _FILE)

    def load(self) -> Checkpoint | None:
        """The last checkpoint; None: there is none, or one that is damaged."""
        if not tf.io.gfile.exists(self._path):
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
                "%s is damaged (%s): the training begins anew", self._path, type(error).__name__
            )
            return None

    def save(self, checkpoint: Checkpoint) -> None:
        """Writes a checkpoint."""
        tf.io.gfile.makedirs(self.folder)
        arrays = checkpoint.state.to_arrays()
        arrays |= {_BEST + name: value for name, value in checkpoint.best_weights.items()}
        write_arrays(self._path, arrays, dataclasses.asdict(checkpoint.progress))

    def remove(self) -> None:
        """Forgets the training, which is finished."""
        if tf.io.gfile.exists(self.folder):
            tf.io.gfile.rmtree(self.folder)


def training_key(**parts: Any) -> str:
    """Names what decides a training's outcome.

    Args:
      **parts: Configurations and fingerprints of inputs, anything that JSON can hold.

    Returns:
      A hash, 32 letters and digits.
    """
    text = json.dumps(parts, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
