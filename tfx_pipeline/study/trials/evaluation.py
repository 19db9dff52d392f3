"""Figures of a model in memory, as it would be served and with other second stages."""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from tfx_pipeline.study.grid.config import USER_METRICS
from trainer.contract import features as f
from trainer.contract.list_column import ListValues
from trainer.contract.memory import DomainMemory, remember
from trainer.data.snapshots import Snapshots
from trainer.evaluation.figures import ItemScorer, TagScorer, evaluate, evaluate_users
from trainer.evaluation.second_stage import SecondStage, mixed, over_chunks, two_stage_scores
from trainer.model import InterestModel

# Weight w, and the domains of memory.
_Stage = tuple[float, tuple[DomainMemory, ...]]

_QUERIES = "query_embeddings"
_CLICK_LOGITS = "click_logits"


@dataclasses.dataclass(frozen=True)
class Figures:
    """The figures of one scorer of tags.

    Attributes:
      metrics: Metrics by name; None where undefined.
      by_user: Metrics of `USER_METRICS` that exist, float32 [num_users]; nan where undefined.
    """

    metrics: Mapping[str, float | None]
    by_user: Mapping[str, np.ndarray]


def figures_of(
    tag_scorer: TagScorer,
    snapshots: Snapshots,
    num_tags: int,
    item_scorer: ItemScorer | None = None,
    with_novel: bool = True,
) -> Figures:
    """Computes the protocol's metrics without slices, and those of each user.

    See `trainer.evaluation.figures`.
    """
    arguments = (tag_scorer, snapshots, num_tags, item_scorer)
    by_user = evaluate_users(*arguments, with_novel=with_novel)
    return Figures(
        evaluate(*arguments, with_novel=with_novel, with_slices=False),
        {name: by_user[name].astype(np.float32) for name in USER_METRICS if name in by_user},
    )


def evaluate_stages(
    model: InterestModel, snapshots: Snapshots, stage: SecondStage
) -> dict[str, Figures]:
    """Computes the figures of a model with and without second stages.

    Args:
      model: Trained model.
      snapshots: Examples, one per user.
      stage: Second stage that would be served.

    Returns:
      Figures by names of the report: `model`, as it would be served; if it has memory,
      `without_memory_stage`, the same without it; `multi_class_stage`, without a second stage; and
      with a click head `click_stage`, ordered by it, and `mix_stage`, by the best mix on validation
      users, both without memory.
    """
    has_clicks = model.training_config.click_objective is not None
    stages: dict[str, _Stage] = {"model": (stage.click_weight, stage.memory)}
    if stage.memory:
        stages["without_memory_stage"] = (stage.click_weight, ())
    stages["multi_class_stage"] = (0.0, ())
    if has_clicks:
        stages["click_stage"] = (1.0, ())
        if stage.mix_weight is not None:
            stages["mix_stage"] = (stage.mix_weight, ())
    # The towers run once; every second stage reads their outputs beside the labels.
    raw = model.spec.raw_names
    scalars = {**snapshots.scalars, _QUERIES: over_chunks(model.query_embeddings, snapshots, raw)}
    lists = dict(snapshots.lists)
    item_scorer: ItemScorer | None = None
    if has_clicks:
        names = (*raw, f.IMPRESSION_TAGS, f.IMPRESSION_NUM_TAGS)
        logits = over_chunks(model.impression_logits, snapshots, names)
        lists[_CLICK_LOGITS] = ListValues(logits, lists[f.IMPRESSION_NUM_TAGS].offsets)
        item_scorer = _click_logits
    scored = Snapshots(scalars, lists)
    scorer_of = _stage_scorers(model, stage.num_candidates)
    by_stage = {
        one: figures_of(scorer_of(*one), scored, model.num_tags, item_scorer)
        for one in dict.fromkeys(stages.values())
    }
    return {who: by_stage[one] for who, one in stages.items()}


def _stage_scorers(
    model: InterestModel, num_candidates: int
) -> Callable[[float, tuple[DomainMemory, ...]], TagScorer]:
    candidates = model.candidate_embeddings().numpy()
    clicks = model.click_candidate_embeddings().numpy()

    def scorer_of(weight: float, memory: tuple[DomainMemory, ...]) -> TagScorer:
        ranking = mixed(candidates, clicks, weight)

        def score(chunk: Snapshots) -> np.ndarray:
            queries = chunk.scalars[_QUERIES]
            remembered = remember(memory, chunk.lists, len(candidates)) if memory else None
            return two_stage_scores(
                queries @ candidates.T, queries, ranking, num_candidates, remembered
            )

        return score

    return scorer_of


def _click_logits(chunk: Snapshots) -> np.ndarray:
    return chunk.lists[_CLICK_LOGITS].values
