"""Turns scores into probabilities by Platt scaling, fitted on validation users after training.

`probability = sigmoid(a * logit + b)`, a > 0, so that no order changes (J. Platt, "Probabilistic
outputs for support vector machines", 1999). There are two calibrations:

* items: the logit is the click head's, the outcome is whether an impression was clicked;
* tags: the logit is `log p(t|u)`, p the softmax of the multi-class logits over the N candidates
  that retrieval proposes to a user, the outcome is whether the user clicks an item with the tag in
  the label period. The sum runs over N tags and not over the vocabulary, so that serving can
  compute it. With memory (`trainer.contract.memory`) p is the mixture, and the calibration is
  fitted on the tags of the history as well.

`tfx_pipeline.evaluation.figures` measures how well they hold on other users.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy import optimize, special

from trainer.contract import features as f
from trainer.contract.config_loader import require
from trainer.contract.memory import DomainMemory, Remembered, remember
from trainer.data.snapshots import Snapshots
from trainer.evaluation import metrics
from trainer.evaluation.figures import users_at_once
from trainer.evaluation.second_stage import log_normalizer, over_chunks, spread_users
from trainer.model import InterestModel

# Only two numbers are fitted: more users would only take more time.
MAX_USERS = 20_000
_MAX_SCORES = 2**31  # users times tags: two thousand users for a million tags
_MIN_SLOPE = 1e-4


@dataclasses.dataclass(frozen=True)
class Calibration:
    """The calibration `sigmoid(slope * logit + intercept)`.

    Attributes:
      slope: a, positive.
      intercept: b.
      num_examples: Number of outcomes on which it was fitted.
      note: Reason why nothing could be fitted, so that slope and intercept are 1 and 0; else empty.
    """

    slope: float = 1.0
    intercept: float = 0.0
    num_examples: int = 0
    note: str = ""

    def __post_init__(self) -> None:
        require(self.slope > 0, "slope", "be positive", self.slope)

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Computes calibrated probabilities of logits of any shape."""
        return special.expit(self.slope * np.asarray(logits, np.float64) + self.intercept)


@dataclasses.dataclass(frozen=True)
class Calibrations:
    """The calibrations of a model.

    Attributes:
      items: Calibration of the click head's logits.
      tags: Calibration of log shares among a user's candidates.
    """

    items: Calibration = Calibration()
    tags: Calibration = Calibration()


def fit_calibration(
    logits: np.ndarray, outcomes: np.ndarray, weights: np.ndarray | None = None
) -> Calibration:
    """Fits Platt scaling by maximum likelihood.

    The targets are Platt's `(n_1 + 1) / (n_1 + 2)` and `1 / (n_0 + 2)` instead of 1 and 0, which
    keeps slope and intercept finite where a threshold separates the classes.

    Args:
      logits: float [n], finite logits.
      outcomes: int or bool [n], 0 or 1.
      weights: float [n], multiplicities; None: 1 each.

    Returns:
      The calibration; the default one, with a note, where all outcomes are of one class.
    """
    logits, is_one = np.asarray(logits, np.float64), np.asarray(outcomes) > 0
    weights = np.ones(len(logits)) if weights is None else np.asarray(weights, np.float64)
    num_one, num_zero = weights[is_one].sum(), weights[~is_one].sum()
    if not (num_one and num_zero):
        return Calibration(num_examples=len(logits), note="validation outcomes have one class")
    targets = np.where(is_one, (num_one + 1) / (num_one + 2), 1 / (num_zero + 2))
    shares = weights / weights.sum()
    # With centred and scaled logits the two parameters hardly depend on each other.
    center = shares @ logits
    scale = np.sqrt(shares @ (logits - center) ** 2) or 1.0
    inputs = (logits - center) / scale

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        scores = parameters[0] * inputs + parameters[1]
        value = shares @ (np.logaddexp(0, scores) - targets * scores)
        slopes = shares * (special.expit(scores) - targets)
        return value, np.array([slopes @ inputs, slopes.sum()])

    found = optimize.minimize(
        loss,
        x0=np.array([scale, center]),
        jac=True,
        method="L-BFGS-B",
        bounds=[(_MIN_SLOPE * scale, None), (None, None)],
        options={"ftol": 1e-14, "gtol": 1e-9},
    ).x
    slope = float(found[0] / scale)
    return Calibration(slope, float(found[1] - slope * center), len(logits))


def tag_outcomes(
    multi_class: np.ndarray,
    chunk: Snapshots,
    num_candidates: int,
    remembered: Remembered | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns users' candidates and whether they are clicked, the data of the tags' calibration.

    Args:
      multi_class: float [batch, num_tags], multi-class logits of all tags.
      chunk: The users, with their labels.
      num_candidates: N, number of candidates.
      remembered: Memory's part of the mixture for the users; None: there is no memory.

    Returns:
      Log shares float64 and outcomes bool, [num_pairs], for the N best tags of one user after
      another, then for the other tags in their histories. Users without labels and impressions in
      the label period are left out; those who were shown something and clicked nothing are kept.
    """
    labels = chunk.lists[f.LABEL_TAGS]
    truth = labels.members(multi_class.shape[1])
    is_active = np.diff(labels.offsets) > 0
    if f.IMPRESSION_NUM_TAGS in chunk.lists:
        is_active |= np.diff(chunk.lists[f.IMPRESSION_NUM_TAGS].offsets) > 0
    candidates = metrics.top_k(multi_class, num_candidates)
    if remembered is not None:
        rows, tags, shares = remembered.unite(candidates, multi_class.shape[1])
        logits = multi_class[rows, tags].astype(np.float64)
        log_shares = logits - log_normalizer(logits, candidates.shape)[rows]
        counts = is_active[rows]
        mixture = remembered.log_mixture(log_shares, rows, shares)
        return mixture[counts], truth[rows, tags][counts]
    logits = np.take_along_axis(multi_class, candidates, axis=1).astype(np.float64)
    log_shares = logits - special.logsumexp(logits, axis=1, keepdims=True)
    outcomes = np.take_along_axis(truth, candidates, axis=1)
    return log_shares[is_active].ravel(), outcomes[is_active].ravel()


def calibrate(
    model: InterestModel,
    validation: Snapshots,
    num_candidates: int,
    memory: Sequence[DomainMemory] = (),
) -> Calibrations:
    """Fits the calibrations of items and of tags.

    Args:
      model: The trained model.
      validation: One snapshot for each validation user.
      num_candidates: N, number of candidates that serving retrieves.
      memory: Memory that serving uses.

    Returns:
      Both calibrations.
    """
    users = spread_users(validation, min(MAX_USERS, max(1, _MAX_SCORES // model.num_tags)))
    return Calibrations(
        items=_calibrate_items(model, users),
        tags=_calibrate_tags(model, users, num_candidates, memory),
    )


def _calibrate_items(model: InterestModel, users: Snapshots) -> Calibration:
    if model.training_config.click_objective is None:
        return Calibration(note="no click loss is trained")
    names = (*model.spec.raw_names, f.IMPRESSION_TAGS, f.IMPRESSION_NUM_TAGS)
    return fit_calibration(
        over_chunks(model.impression_logits, users, names),
        users.lists[f.IMPRESSION_CLICKED].values,
        users.lists[f.IMPRESSION_WEIGHTS].values,
    )


def _calibrate_tags(
    model: InterestModel,
    users: Snapshots,
    num_candidates: int,
    memory: Sequence[DomainMemory],
) -> Calibration:
    queries = over_chunks(model.query_embeddings, users, model.spec.raw_names)
    candidates = model.candidate_embeddings().numpy()
    pairs = []
    for rows, chunk in users.chunks(users_at_once(model.num_tags)):
        logits = queries[rows] @ candidates.T
        remembered = remember(memory, chunk.lists, model.num_tags) if memory else None
        pairs.append(tag_outcomes(logits, chunk, num_candidates, remembered))
    log_shares, outcomes = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    return fit_calibration(log_shares, outcomes)
