"""The protocol's figures of a model, the last blessed one and the baselines, on the same users."""

import json
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfx_pipeline.saved_model_scorer import SavedModelScorer, read_examples
from trainer import baselines
from trainer.evaluation import evaluate, head_tags
from trainer.snapshots import Snapshots

# A chunk's impressions are padded to the user with the most of them: small chunks, little padding.
_CHUNK = 64

Figures = dict[str, dict[str, float | None]]


def load_tag_clicks(path: str, tags: Sequence[str]) -> np.ndarray:
    """Clicks of the train users by tag.

    Args:
      path: `tags.jsonl` of the example generator.
      tags: The tags in order of their ids.

    Returns:
      float [num_tags].
    """
    with tf.io.gfile.GFile(path) as file:
        rows = [json.loads(line) for line in file]
    clicks = {row["tag"]: float(row["clicks"]) for row in rows}
    return np.array([clicks.get(tag, 0.0) for tag in tags])


def evaluate_model(
    towers_dir: str,
    tags: Sequence[str],
    clicks: np.ndarray,
    snapshots: Snapshots,
    examples: Sequence[str],
) -> dict[str, float | None]:
    """Figures of saved towers.

    Args:
      towers_dir: The saved towers.
      tags: The tags in order of their ids in `snapshots`.
      clicks: float [num_tags], of the train users; says which tags are head and tail.
      snapshots: Transformed examples, one a user.
      examples: File patterns of the same examples, raw.

    Returns:
      The protocol's metrics by name.
    """
    scorer = SavedModelScorer(towers_dir, tags, read_examples(examples))
    return evaluate(
        scorer.score_tags,
        snapshots,
        len(tags),
        scorer.score_impressions,
        is_head=head_tags(clicks),
        chunk_size=_CHUNK,
    )


def evaluate_baselines(
    clicks: np.ndarray, validation: Snapshots, snapshots: Snapshots, seed: int
) -> tuple[Figures, float]:
    """Figures of everything that has no model.

    Args:
      clicks: float [num_tags], of the train users.
      validation: Chooses the weight of the blend.
      snapshots: One a user, evaluated.
      seed: Of `random`.

    Returns:
      Metrics by `popularity`, `own_history`, `blend` and `random`, and the weight of the blend.
    """
    num_tags = len(clicks)
    is_head = head_tags(clicks)
    weight, blend = baselines.choose_blend(clicks, validation)
    history_items = baselines.history_item_scorer(num_tags)
    figures = {
        "popularity": evaluate(baselines.popularity(clicks), snapshots, num_tags, is_head=is_head),
        # Own history has no opinion about tags never clicked.
        "own_history": evaluate(
            baselines.own_history(num_tags),
            snapshots,
            num_tags,
            history_items,
            is_head=is_head,
            with_novel=False,
        ),
        "blend": evaluate(blend, snapshots, num_tags, is_head=is_head, with_novel=False),
        "random": evaluate(baselines.random(num_tags, seed), snapshots, num_tags, is_head=is_head),
    }
    return figures, weight
