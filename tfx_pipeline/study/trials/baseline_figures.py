"""What a study compares its towers with: figures that need no model, on the same users."""

from collections.abc import Iterable

from tfx_pipeline.study.trials.evaluation import Figures, figures_of
from trainer.data.snapshots import Snapshots
from trainer.evaluation import baselines
from trainer.evaluation.fitted_baselines import FittedBaselines

# By seed, then by name of the baseline.
BaselineFigures = dict[int, dict[str, Figures]]


def baseline_figures(
    fitted: FittedBaselines, test: Snapshots, num_tags: int, seeds: Iterable[int]
) -> BaselineFigures:
    """Figures of all baselines that there are.

    Args:
      fitted: The baselines.
      test: One snapshot a user, evaluated.
      num_tags: Number of tags.
      seeds: Of `random`; nothing else depends on them.

    Returns:
      The figures.
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
