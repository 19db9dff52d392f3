"""Answers to a study's questions: differences of means, and which of them seeds confirm."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np

from tfx_pipeline.study.grid.config import Question, Side, comparisons
from tfx_pipeline.study.statistics import (
    Difference,
    Mean,
    are_separate,
    holm,
    paired_difference,
    welch_difference,
)
from tfx_pipeline.study.trials.results import Results

# `undefined`: a side has no value; `one seed`: the difference has no interval.
Verdict = Literal["above", "below", "not separate", "one seed", "undefined"]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The comparison of two sides by one metric.

    Attributes:
      reference: First side.
      other: Side that it is compared with.
      metric: Name of the metric.
      reference_mean: Mean of the first side over seeds; None where undefined.
      other_mean: Mean of the other side over seeds; None where undefined.
      difference: First minus other, over seeds; None where undefined.
      user_difference: First minus other over users, each user's mean over the seeds compared with
        the same user's of the other side; None where the metric is not stored by user, or users
        differ.
      is_paired: Whether `difference` is taken seed by seed. It is if both sides are figures of the
        same trained models; two models of one seed have only a number in common.
      adjusted_p: p-value of `difference`, adjusted for all comparisons of the study (Holm); None:
        there is none.
    """

    reference: Side
    other: Side
    metric: str
    reference_mean: Mean | None
    other_mean: Mean | None
    difference: Difference | None
    user_difference: Difference | None
    is_paired: bool
    adjusted_p: float | None = None

    @property
    def verdict(self) -> Verdict:
        """Position of the reference; `above` and `below` only if both seeds and users confirm it.

        Seeds confirm it if the 95 % intervals of the means do not overlap (for paired seeds: if
        that of the difference excludes 0), users if the interval of their difference excludes 0.
        """
        first, second, difference = self.reference_mean, self.other_mean, self.difference
        if first is None or second is None or difference is None:
            return "undefined"
        if difference.low is None:
            return "one seed"
        by_seed = difference.is_clear if self.is_paired else are_separate(first, second)
        by_user = self.user_difference is None or self.user_difference.is_clear
        if not (by_seed and by_user):
            return "not separate"
        return "above" if difference.mean > 0 else "below"


@dataclasses.dataclass(frozen=True)
class Answer:
    """A question with its comparisons.

    Attributes:
      question: Question of the study.
      comparisons: Comparisons by budget, then side, then metric.
    """

    question: Question
    comparisons: tuple[Comparison, ...]


def answer(questions: Sequence[Question], results: Results) -> list[Answer]:
    """Makes the comparisons that the questions ask for.

    Args:
      questions: Questions of the study.
      results: Results of the same study.

    Returns:
      One answer per question; p-values are adjusted for all of their comparisons together.
    """
    found = [
        [
            _compare(reference, other, metric, results)
            for reference, other in comparisons(question)
            for metric in question.metrics
        ]
        for question in questions
    ]
    flat = [comparison for part in found for comparison in part]
    adjusted = iter(holm([c.difference.p_value if c.difference else None for c in flat]))
    return [
        Answer(
            question,
            tuple(dataclasses.replace(one, adjusted_p=next(adjusted)) for one in part),
        )
        for question, part in zip(questions, found, strict=True)
    ]


def _compare(reference: Side, other: Side, metric: str, results: Results) -> Comparison:
    first, second = (results.values(side, metric) for side in (reference, other))
    is_paired = reference.cell == other.cell
    difference = None
    if first and second:
        difference = (paired_difference if is_paired else welch_difference)(first, second)
    return Comparison(
        reference,
        other,
        metric,
        results.mean(reference, metric),
        results.mean(other, metric),
        difference,
        _user_difference(*(results.by_user(side, metric) for side in (reference, other))),
        is_paired,
    )


def _user_difference(first: np.ndarray | None, second: np.ndarray | None) -> Difference | None:
    if first is None or second is None or first.shape != second.shape:
        return None
    # Whether a user has a value depends on the user's truth alone, not on the model.
    defined = ~(np.isnan(first) | np.isnan(second))
    if not defined.any():
        return None
    return paired_difference(first[defined].tolist(), second[defined].tolist())
