"""One training: what defines it, and what it came to."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping

import numpy as np

from trainer.config import ModelConfig, RankingConfig, TrainingConfig
from trainer.contract.config_loader import to_mapping
from trainer.contract.features import FeatureSpec


@dataclasses.dataclass(frozen=True)
class TrialDefinition:
    """Everything a training depends on beside the code.

    Attributes:
      examples: Fingerprint of the prepared examples.
      features: The features.
      model: The towers, with the hidden width in use.
      training: Objective and optimisation.
      ranking: The second stage, which is chosen after the fit.
      seed: Of initialisation and order.
    """

    examples: str
    features: FeatureSpec
    model: ModelConfig
    training: TrainingConfig
    ranking: RankingConfig
    seed: int

    @property
    def key(self) -> str:
        """Name of the trial: a hash of all of it, 16 hexadecimal digits."""
        text = json.dumps(to_mapping(self), sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


@dataclasses.dataclass(frozen=True)
class TrialOutcome:
    """What a training came to.

    Attributes:
      parameters: Parameters outside the embedding tables.
      embedding_parameters: Parameters of the embedding tables and the tag tower.
      examples_per_second: Of the fit, validation not counted.
      steps: Steps taken.
      best_step: Steps of the state kept; 0: the untrained start.
      click_weight: Of the second stage that validation users prefer; 0: no second stage.
      seconds: Of fit and evaluation together.
      metrics: Figures under names of the report.
    """

    parameters: int
    embedding_parameters: int
    examples_per_second: float
    steps: int
    best_step: int
    click_weight: float
    seconds: float
    metrics: dict[str, float | None]


@dataclasses.dataclass(frozen=True)
class FinishedTrial:
    """A finished trial.

    Attributes:
      code: Fingerprint of the code that trained and evaluated it.
      outcome: What it came to.
      by_user: Figures of the test users, `<who>.<metric>`: float32 [num_users].
    """

    code: str
    outcome: TrialOutcome
    by_user: Mapping[str, np.ndarray]
