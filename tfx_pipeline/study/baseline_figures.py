"""What a study compares its towers with: figures that need no model, on the same users."""

from collections.abc import Iterable

import numpy as np

from tfx_pipeline.study.evaluation import Figures, figures_of
from trainer import baselines
from trainer.snapshots import Snapshots

# By seed, then by name of the baseline.
BaselineFigures = dict[int, dict[str, Figures]]


def baseline_figures(
    clicks: np.ndarray, validation: Snapshots, test: Snapshots, seeds: Iterable[int]
) -> BaselineFigures:
    """Popularity, own history, their blend, and chance.

    Args:
      clicks: float [num_tags], of the train users.
      validation: Chooses the weight of the blend.
      test: One snapshot a user, evaluated.
      seeds: Of `random`; nothing else depends on them.

    Returns:
      The figures.
    """
    num_tags = len(clicks)
    _, blend = baselines.choose_blend(clicks, validation)
    items = baselines.history_item_scorer(num_tags)
    fixed = {
        "popularity": figures_of(baselines.popularity(clicks), test, num_tags),
        # Own history has no opinion about tags never clicked.
        "own_history": figures_of(
            baselines.own_history(num_tags), test, num_tags, items, with_novel=False
        ),
        "blend": figures_of(blend, test, num_tags, with_novel=False),
    }
    return {
        seed: {**fixed, "random": figures_of(baselines.random(num_tags, seed), test, num_tags)}
        for seed in seeds
    }
