"""Figures of saved towers, without what every user adds to them."""

from typing import Any

from tfx_pipeline.evaluation.figures import Figures, evaluate_model_and_users


def model_figures(*args: Any, **options: Any) -> Figures:
    """The first half of what `evaluate_model_and_users` says, of the same arguments."""
    return evaluate_model_and_users(*args, **options)[0]
