"""One training: its definition, and its results."""

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
    """All settings that a training depends on besides the code.

    Attributes:
      examples: Fingerprint of the prepared examples.
      features: Feature specification.
      model: Configuration of the towers, with the hidden width in use.
      training: Configuration of objective and optimisation.
      ranking: Configuration of the second stage, which is chosen after the fit.
      seed: Seed of initialisation and training order.
    """

    examples: str
    features: FeatureSpec
    model: ModelConfig
    training: TrainingConfig
    ranking: RankingConfig
    seed: int

    @property
    def key(self) -> str:
        """Name of the trial: a hash of the definition, 16 hexadecimal digits."""
        text = json.dumps(to_mapping(self), sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


@dataclasses.dataclass(frozen=True)
class TrialOutcome:
    """The results of a training.

    Attributes:
      parameters: Number of parameters outside the embedding tables.
      embedding_parameters: Number of parameters of the embedding tables and the tag tower.
      examples_per_second: Speed of the fit, without validation.
      steps: Number of steps taken.
      best_step: Number of steps of the kept state; 0: the untrained start.
      click_weight: Click weight of the second stage that is best on validation users; 0: no second
        stage.
      seconds: Duration of fit and evaluation together.
      metrics: Figures by names of the report.
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
    """A finished trial, as it is stored.

    Attributes:
      code: Fingerprint of the code that trained and evaluated it.
      outcome: Results of the training.
      by_user: Figures of the test users by `<who>.<metric>`, float32 [num_users].
    """

    code: str
    outcome: TrialOutcome
    by_user: Mapping[str, np.ndarray]
