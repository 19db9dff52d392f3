"""The protocol's figures of a model, the last blessed one and the baselines, on the same users."""

from collections.abc import Callable, Sequence

import numpy as np
from scipy import special

from tfx_pipeline.evaluation.held_out_items import HeldOutItems
from tfx_pipeline.evaluation.saved_model_scorer import SavedModelScorer, read_examples
from tfx_pipeline.terminal.tables import WITHOUT_MEMORY, stage_weights
from trainer.contract import features as f
from trainer.contract.list_column import ListValues
from trainer.contract.metric_registry import (
    BRIER,
    CALIBRATION_ERROR,
    LOG_LOSS,
    UNCALIBRATED,
    calibration_name,
)
from trainer.data.snapshots import Snapshots
from trainer.evaluation import metrics
from trainer.evaluation.figures import TagScorer, evaluate_all_and_users, head_tags, users_at_once
from trainer.evaluation.fitted_baselines import FittedBaselines

# A chunk's impressions are padded to the user with the most: small chunks need little padding.
_CHUNK = 64
_CLICK_LOGITS = "click_logits"

Figures = dict[str, dict[str, float | None]]
# Contributions of the users by name of the ranking and of the metric, float [num_users].
UserFigures = dict[str, dict[str, np.ndarray]]


def evaluate_model_and_users(
    who: str,
    towers_dir: str,
    tags: Sequence[str],
    clicks: np.ndarray,
    snapshots: Snapshots,
    examples: Sequence[str],
    with_stages: bool = False,
    items: HeldOutItems | None = None,
) -> tuple[Figures, UserFigures]:
    """Computes the figures of saved towers, as they are served and with every second stage.

    Args:
      who: Name of the model.
      towers_dir: Folder of the saved towers.
      tags: Tags in order of their ids in `snapshots`.
      clicks: float [num_tags], clicks by train users, which define head and tail tags.
      snapshots: Transformed examples, one per user.
      examples: File patterns of the same examples, raw.
      with_stages: Whether to evaluate every second stage for comparison.
      items: Items that the users clicked; None: no figures of items are computed.

    Returns:
      The figures, and the contribution of each user to those that were computed. Under `who`: the
      protocol's metrics and calibration errors by name (those of clicks are None without a click
      head). Under `multi_class_stage` and, with a click head, `click_stage` and `mix_stage`: the
      protocol's metrics without memory for w = 0, w = 1 and the best w between on validation users;
      if there is memory, under `without_memory_stage` those without it for the served w. One of the
      stages may be the served one; its figures are then those of `who`.
    """
    scorer = SavedModelScorer(towers_dir, tags, read_examples(examples))
    # Scored once; every second stage reads the scores beside the labels.
    size = min(_CHUNK, users_at_once(len(tags)))
    logits, probabilities = _in_chunks(scorer.score_impressions, snapshots, size)
    users = _ScoredUsers(snapshots, logits, clicks, size, items)
    calibration = _calibrations(scorer, users, probabilities)
    served = users.figures(scorer.score_tags, who)
    result: Figures = {who: served | calibration}
    if with_stages:
        stage = scorer.second_stage
        without_memory = served
        if stage.memory:
            without_memory = users.figures(scorer.stage_scorer(stage.click_weight), WITHOUT_MEMORY)
            result[WITHOUT_MEMORY] = without_memory
        for name, weight in stage_weights(stage.mix_weight, scorer.has_click_head).items():
            is_there = weight == stage.click_weight
            found = without_memory if is_there else users.figures(scorer.stage_scorer(weight), name)
            result[name] = dict(found)
    return result, users.by_user


class _ScoredUsers:
    """Users whose impressions a model has scored, and what they add to the figures of its stages.

    Attributes:
      snapshots: One a user.
      logits: float [num_impressions], of clicks.
      chunk_size: Users looked at at a time.
      by_user: What every user adds, by name of a stage whose figures were computed.
    """

    def __init__(
        self,
        snapshots: Snapshots,
        logits: np.ndarray,
        clicks: np.ndarray,
        chunk_size: int,
        items: HeldOutItems | None,
    ):
        """Initializes with the users.

        Args:
          snapshots: One a user.
          logits: float [num_impressions], of clicks.
          clicks: float [num_tags], of the train users; says which tags are head and tail.
          chunk_size: Users looked at at a time.
          items: Items that the users clicked; None: no figures of items.
        """
        self.snapshots = snapshots
        self.logits = logits
        self.chunk_size = chunk_size
        self.by_user: UserFigures = {}
        offsets = snapshots.lists[f.IMPRESSION_NUM_TAGS].offsets
        self._scored = Snapshots(
            snapshots.scalars, {**snapshots.lists, _CLICK_LOGITS: ListValues(logits, offsets)}
        )
        self._is_head = head_tags(clicks)
        self._items = items

    def figures(self, tag_scorer: TagScorer, name: str) -> dict[str, float | None]:
        """The figures of a stage that scores tags, of items too where there are any."""
        of_tags, self.by_user[name] = evaluate_all_and_users(
            tag_scorer,
            self._scored,
            len(self._is_head),
            lambda chunk: chunk.lists[_CLICK_LOGITS].values,
            is_head=self._is_head,
            chunk_size=self.chunk_size,
        )
        return of_tags | (self._items.figures(tag_scorer, self.snapshots) if self._items else {})


def _calibrations(
    scorer: SavedModelScorer, users: _ScoredUsers, probabilities: np.ndarray
) -> dict[str, float | None]:
    """The calibration figures of clicks and of tags; `probabilities` are of the impressions."""
    # What nothing has trained has no calibration.
    rows = slice(None if scorer.has_click_head else 0)
    of_clicks = _calibration_figures(
        "click",
        probabilities[rows],
        special.expit(users.logits[rows].astype(np.float64)),
        users.snapshots.lists[f.IMPRESSION_CLICKED].values[rows],
        users.snapshots.lists[f.IMPRESSION_WEIGHTS].values[rows],
    )
    log_shares, is_clicked = _in_chunks(scorer.tag_outcomes, users.snapshots, users.chunk_size)
    of_tags = _calibration_figures(
        "tag", scorer.calibrations.tags.probabilities(log_shares), np.exp(log_shares), is_clicked
    )
    return of_clicks | of_tags


def _in_chunks(
    function: Callable[[Snapshots], tuple[np.ndarray, np.ndarray]], snapshots: Snapshots, size: int
) -> tuple[np.ndarray, np.ndarray]:
    rows = np.arange(snapshots.num_examples)
    parts = [
        function(snapshots.take(rows[first : first + size])) for first in range(0, len(rows), size)
    ]
    first, second = zip(*parts, strict=True)
    return np.concatenate(first), np.concatenate(second)


def _calibration_figures(
    outcome: str,
    calibrated: np.ndarray,
    uncalibrated: np.ndarray,
    outcomes: np.ndarray,
    weights: np.ndarray | None = None,
) -> dict[str, float | None]:
    """Returns calibration error, log loss and Brier score, as served and before calibration."""
    outcomes = outcomes.astype(np.float64)
    figures: dict[str, float | None] = {}
    for suffix, probabilities in (("", calibrated), (UNCALIBRATED, uncalibrated)):
        for metric, compute in (
            (CALIBRATION_ERROR, metrics.expected_calibration_error),
            (LOG_LOSS, metrics.log_loss),
            (BRIER, metrics.brier_score),
        ):
            value = compute(probabilities, outcomes, weights)
            name = calibration_name(metric, outcome, suffix)
            figures[name] = None if np.isnan(value) else value
    return figures


def evaluate_baselines(
    fitted: FittedBaselines,
    clicks: np.ndarray,
    snapshots: Snapshots,
    items: HeldOutItems | None = None,
) -> tuple[Figures, UserFigures]:
    """Computes the figures of the baselines, which have no model.

    Args:
      fitted: Fitted baselines.
      clicks: float [num_tags], clicks by train users, which define head and tail tags.
      snapshots: Examples that are evaluated, one per user.
      items: Items that the users clicked; None: no figures of items are computed.

    Returns:
      Metrics by name of the baseline, and those of items under `popular_items`; and the
      contribution of each user to them.
    """
    is_head = head_tags(clicks)
    figures: Figures = {}
    by_user: UserFigures = {}
    for who, baseline in fitted.by_name.items():
        figures[who], by_user[who] = evaluate_all_and_users(
            baseline.tag_scorer,
            snapshots,
            len(clicks),
            baseline.item_scorer,
            is_head=is_head,
            with_novel=baseline.has_novel,
        )
        if items:
            figures[who] |= items.figures(baseline.tag_scorer, snapshots)
    if items:
        figures["popular_items"] = items.figures(None, snapshots)
    return figures, by_user
