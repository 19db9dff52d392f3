"""The protocol's figures of a model, the last blessed one and the baselines, on the same users."""

from collections.abc import Callable, Sequence

import numpy as np
from scipy import special

from tfx_pipeline.held_out_items import HeldOutItems
from tfx_pipeline.report_tables import WITHOUT_MEMORY, stage_weights
from tfx_pipeline.saved_model_scorer import SavedModelScorer, read_examples
from trainer import baselines, metrics
from trainer import features as f
from trainer.evaluation import TagScorer, evaluate, head_tags, users_at_once
from trainer.snapshots import ListValues, Snapshots

# A chunk's impressions are padded to the user with the most of them: small chunks, little padding.
_CHUNK = 64
_CLICK_LOGITS = "click_logits"

Figures = dict[str, dict[str, float | None]]


def evaluate_model(
    who: str,
    towers_dir: str,
    tags: Sequence[str],
    clicks: np.ndarray,
    snapshots: Snapshots,
    examples: Sequence[str],
    with_stages: bool = False,
    items: HeldOutItems | None = None,
) -> Figures:
    """Figures of saved towers, as they are served and with every second stage.

    Args:
      who: Name of the model.
      towers_dir: The saved towers.
      tags: The tags in order of their ids in `snapshots`.
      clicks: float [num_tags], of the train users; says which tags are head and tail.
      snapshots: Transformed examples, one a user.
      examples: File patterns of the same examples, raw.
      with_stages: Whether to evaluate the second stages beside each other.
      items: Those that the users clicked; None: no figures of items.

    Returns:
      By `who`: the protocol's metrics and calibration errors by name (None of clicks where there is
      no click head). By `multi_class_stage` and, where there is a click head, `click_stage` and
      `mix_stage`: the protocol's metrics without memory and with w = 0, 1, and the best between on
      validation users; with memory by `without_memory_stage`, with w as served. One of them may be
      what is served; its figures are then those of `who`.
    """
    scorer = SavedModelScorer(towers_dir, tags, read_examples(examples))
    # Scored once, and found beside the labels by every second stage.
    size = min(_CHUNK, users_at_once(len(tags)))
    logits, probabilities = _in_chunks(scorer.score_impressions, snapshots, size)
    offsets = snapshots.lists[f.IMPRESSION_NUM_TAGS].offsets
    scored = Snapshots(
        snapshots.scalars, {**snapshots.lists, _CLICK_LOGITS: ListValues(logits, offsets)}
    )

    def figures(tag_scorer: TagScorer) -> dict[str, float | None]:
        of_tags = evaluate(
            tag_scorer,
            scored,
            len(tags),
            lambda chunk: chunk.lists[_CLICK_LOGITS].values,
            is_head=head_tags(clicks),
            chunk_size=size,
        )
        return of_tags | (items.figures(tag_scorer, snapshots) if items else {})

    # What nothing has trained has no calibration.
    rows = slice(None if scorer.has_click_head else 0)
    click_calibration = _calibration_figures(
        "click",
        probabilities[rows],
        special.expit(logits[rows].astype(np.float64)),
        snapshots.lists[f.IMPRESSION_CLICKED].values[rows],
        snapshots.lists[f.IMPRESSION_WEIGHTS].values[rows],
    )
    log_shares, is_clicked = _in_chunks(scorer.tag_outcomes, snapshots, size)
    tag_calibration = _calibration_figures(
        "tag", scorer.calibrations.tags.probabilities(log_shares), np.exp(log_shares), is_clicked
    )
    served = figures(scorer.score_tags)
    result: Figures = {who: served | click_calibration | tag_calibration}
    if with_stages:
        stage = scorer.second_stage
        without_memory = served
        if stage.memory:
            without_memory = figures(scorer.stage_scorer(stage.click_weight))
            result[WITHOUT_MEMORY] = without_memory
        for name, weight in stage_weights(stage.mix_weight, scorer.has_click_head).items():
            is_there = weight == stage.click_weight
            found = without_memory if is_there else figures(scorer.stage_scorer(weight))
            result[name] = dict(found)
    return result


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
    prefix: str,
    calibrated: np.ndarray,
    uncalibrated: np.ndarray,
    outcomes: np.ndarray,
    weights: np.ndarray | None = None,
) -> dict[str, float | None]:
    """Calibration error, log loss and Brier score, as served and before calibration."""
    outcomes = outcomes.astype(np.float64)
    figures: dict[str, float | None] = {}
    for suffix, probabilities in (("", calibrated), ("_uncalibrated", uncalibrated)):
        for name, metric in (
            ("ece", metrics.expected_calibration_error),
            ("log_loss", metrics.log_loss),
            ("brier", metrics.brier_score),
        ):
            value = metric(probabilities, outcomes, weights)
            figures[f"{prefix}_{name}{suffix}"] = None if np.isnan(value) else value
    return figures


def evaluate_baselines(
    clicks: np.ndarray,
    validation: Snapshots,
    snapshots: Snapshots,
    seed: int,
    items: HeldOutItems | None = None,
) -> tuple[Figures, float]:
    """Figures of everything that has no model.

    Args:
      clicks: float [num_tags], of the train users.
      validation: Chooses the weight of the blend.
      snapshots: One a user, evaluated.
      seed: Of `random`.
      items: Those that the users clicked; None: no figures of items.

    Returns:
      Metrics by `popularity`, `own_history`, `blend` and `random`, and by `popular_items` those of
      items; and the weight of the blend.
    """
    num_tags = len(clicks)
    is_head = head_tags(clicks)
    weight, blend = baselines.choose_blend(clicks, validation)
    history_items = baselines.history_item_scorer(num_tags)
    scorers = {
        "popularity": baselines.popularity(clicks),
        "own_history": baselines.own_history(num_tags),
        "blend": blend,
        "random": baselines.random(num_tags, seed),
    }
    figures = {
        who: evaluate(
            scorer,
            snapshots,
            num_tags,
            history_items if who == "own_history" else None,
            is_head=is_head,
            # Own history has no opinion about tags never clicked.
            with_novel=who not in ("own_history", "blend"),
        )
        for who, scorer in scorers.items()
    }
    if items:
        for who, scorer in scorers.items():
            figures[who] |= items.figures(scorer, snapshots)
        figures["popular_items"] = items.figures(None, snapshots)
    return figures, weight
