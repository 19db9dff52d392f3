"""Figures of the baselines of a study: they need no model and use the same users."""

from collections.abc import Iterable

from tfx_pipeline.study.trials.evaluation import Figures, figures_of
from trainer.data.snapshots import Snapshots
from trainer.evaluation import baselines
from trainer.evaluation.fitted_baselines import FittedBaselines

# Figures by seed, then by name of the baseline.
BaselineFigures = dict[int, dict[str, Figures]]


def baseline_figures(
    fitted: FittedBaselines, test: Snapshots, num_tags: int, seeds: Iterable[int]
) -> BaselineFigures:
    """Computes the figures of all fitted baselines.

    Args:
      fitted: Fitted baselines.
      test: Snapshots that are evaluated, one per user.
      num_tags: Number of tags.
      seeds: Seeds of `random`; no other baseline depends on them.

    Returns:
      Figures by seed and name.
    """
    fixed = {
        who: figures_of(
            baseline.tag_scorer, test, num_tags, baseline.item_scorer, baseline.has_novel
        )
        for who, baseline in fitted.by_name.items()
        if who != "random"
    }
    return {
        seed: {**fixed, "random": figures_of(baselines.random(num_tags, seed), test, num_tags)}
        for seed in seeds
    }
