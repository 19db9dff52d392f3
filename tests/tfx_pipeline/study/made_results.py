"""Results without training: given figures, so that a report can be checked."""

from collections.abc import Mapping, Sequence

import numpy as np

from tfx_pipeline.study.grid.config import Cell, NewTagsConfig
from tfx_pipeline.study.trials.evaluation import Figures
from tfx_pipeline.study.trials.new_tags_results import NewTagsResults, NewTagsRun
from tfx_pipeline.study.trials.results import Results, Run
from tfx_pipeline.study.trials.trial import FinishedTrial, TrialOutcome

METRICS = ("precision_at_10", "click_gauc", "distinct_top10")


def make_run(
    cell: Cell,
    seed: int,
    figures: Mapping[str, float | None],
    by_user: Mapping[str, Sequence[float]] | None = None,
    parameters: int = 1_000,
    popularity: float = 0.25,
) -> Run:
    """Makes the results of one run.

    Args:
      cell: Cell of the grid.
      seed: Seed of the run.
      figures: Figures of test users, by `<who>.<metric>`.
      by_user: Figures by user, with the same keys.
      parameters: Number of parameters outside the embedding tables.
      popularity: P@10 of the baseline, the same for every user.

    Returns:
      The run.
    """
    metrics = {f"eval.{name}": value for name, value in figures.items()}
    # Figures as trainings write them; no table shows validation users.
    metrics |= {f"eval_validation.{name}": 0.125 for name in figures}
    metrics["eval.model.num_users"] = 4.0
    outcome = TrialOutcome(parameters, 50, 2_000.0 + seed, 5, 4, 0.05, 40.0, metrics)
    arrays = {name: np.array(values, np.float32) for name, values in (by_user or {}).items()}
    baseline = Figures(
        {"precision_at_10": popularity, "click_gauc": None, "distinct_top10": 1.0},
        {"precision_at_10": np.full(4, popularity, np.float32)},
    )
    return Run(
        cell=cell,
        seed=seed,
        interaction="utpm",
        hidden_dim=512,
        trial=f"{cell.tower}-{cell.budget}-{seed}",
        finished=FinishedTrial("code", outcome, arrays),
        baselines={"popularity": baseline},
    )


def make_results(
    by_cell: Mapping[Cell, Sequence[float]],
    by_user: Mapping[Cell, Sequence[float]] | None = None,
    **options,
) -> Results:
    """Makes the results of several cells.

    Args:
      by_cell: P@10 of the model by seed.
      by_user: P@10 of the model by user, the same for all seeds.
      **options: Other arguments of `make_run`.

    Returns:
      The results; click GAUC is 0.1 below P@10, and there are 7 distinct lists.
    """
    runs = []
    for cell, values in by_cell.items():
        users = {"model.precision_at_10": by_user[cell]} if by_user else None
        for seed, value in enumerate(values):
            figures = {
                "model.precision_at_10": value,
                "model.click_gauc": value - 0.1,
                "model.distinct_top10": 7.0,
            }
            runs.append(make_run(cell, seed, figures, users, **options))
    return Results(tuple(runs))


def make_new_tags_results(
    by_tower: Mapping[str, Sequence[Mapping[str, float | None]]], notes: Sequence[str] = ()
) -> NewTagsResults:
    """Makes the results of held-out tags.

    Args:
      by_tower: By tower and seed, figures `<who>.<metric>` of test users; others are 0.
      notes: Notes of the runs.

    Returns:
      The results; with seed s, 10 + s of 100 tags are held out and 50 + s users clicked one.
    """
    metrics = ("recall_at_10", "recall_at_50", "recall_at_100", "mrr")
    names = [*metrics, *(f"among_new.{name}" for name in metrics)]
    runs = []
    for tower, by_seed in by_tower.items():
        for seed, figures in enumerate(by_seed):
            counts = {"num_tags": 100.0, "num_new_tags": 10.0 + seed, "num_users": 50.0 + seed}
            finished = {}
            for who in ("views", "id_only"):
                outcome = {}
                for one in (who, "popularity_of_category", "random"):
                    zeros = dict.fromkeys(names, 0.0)
                    outcome |= {f"eval.{one}.{k}": v for k, v in {**zeros, **counts}.items()}
                given = {f"eval.{name}": value for name, value in figures.items()}
                outcome |= {name: value for name, value in given.items() if name in outcome}
                finished[who] = FinishedTrial(
                    "code", TrialOutcome(10, 50, 2_000.0, 5, 4, 0.0, 40.0, outcome), {}
                )
            keys = {who: f"{tower}-{who}-{seed}" for who in finished}
            runs.append(NewTagsRun(tower, seed, keys, finished))
    return NewTagsResults(NewTagsConfig(tuple(by_tower), "both"), tuple(runs), tuple(notes))
