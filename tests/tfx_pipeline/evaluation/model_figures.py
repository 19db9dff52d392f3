"""Figures of saved towers, without those of each user."""

from typing import Any

from tfx_pipeline.evaluation.figures import Figures, evaluate_model_and_users


def model_figures(*args: Any, **options: Any) -> Figures:
    """Returns the first half of `evaluate_model_and_users`, from the same arguments."""
    return evaluate_model_and_users(*args, **options)[0]
