"""TagIndexBuilder: towers -> servables with the index over all tags.

A servable with a ScaNN index is of no use to a server without ScaNN's ops; beside it goes one from
the same towers with an exact index, in TensorFlow's own ops.
"""

import dataclasses
import json
import os
from typing import Any

import tensorflow as tf
from tfx import v1 as tfx
from tfx.types import artifact_utils
from tfx.utils import path_utils

from serving.export import export_servable
from serving.index import BruteForceIndex, TopKIndex
from serving.index_evaluation import embed, read_serialized
from serving.index_tuning import tune
from serving.retrieval import TagRetrieval
from serving.scann_index import MIN_CANDIDATES, ScannIndex, SearchParameters, default_num_leaves
from tfx_pipeline.components.artifacts import LogSummary
from tfx_pipeline.components.servable_paths import INDEX_FILE, main_path, second_path
from tfx_pipeline.config import IndexConfig
from tfx_pipeline.log_summary import TAGS_FILE
from tfx_pipeline.saved_model_scorer import read_second_stage
from trainer import signatures as s
from trainer.config_loader import from_mapping, to_mapping
from trainer.tag_views import load_tag_attributes
from trainer.task import TRAINING_FILE

_NUM_WARMUP_USERS = 4


@tfx.dsl.components.component
def TagIndexBuilder(  # noqa: N802 (a component is a class to its callers)
    model: tfx.dsl.components.InputArtifact[tfx.types.standard_artifacts.Model],
    examples: tfx.dsl.components.InputArtifact[tfx.types.standard_artifacts.Examples],
    summary: tfx.dsl.components.InputArtifact[LogSummary],
    servable: tfx.dsl.components.OutputArtifact[tfx.types.standard_artifacts.Model],
    index: tfx.dsl.components.Parameter[str],
    tag_normalization: tfx.dsl.components.Parameter[str],
    code: tfx.dsl.components.Parameter[str],
):
    """Builds the index, tunes it on vectors of validation users and writes the servable.

    Args:
      model: The towers.
      examples: Raw; those of validation are the queries, the first of them the warm-up requests.
      summary: The categories of the tags, for allow-lists.
      servable: A TFX model (`Format-Serving`), with `index.json` beside it and, where its index is
        ScaNN's, a servable with an exact one, see `servable_paths`.
      index: `IndexConfig` as JSON.
      tag_normalization: How tags were normalised, as JSON: callers do the same.
      code: Fingerprint of the code, for the cache.
    """
    del code
    config = from_mapping(IndexConfig, json.loads(index), "index")
    towers_dir = path_utils.serving_model_path(model.uri)
    towers = tf.saved_model.load(towers_dir)
    tables = towers.signatures[s.CANDIDATES]()
    candidates = tables[s.CANDIDATE_EMBEDDINGS].numpy()
    tags = [tag.decode() for tag in tables[s.TAGS].numpy()]
    categories = load_tag_attributes(os.path.join(summary.uri, TAGS_FILE), tags).categories
    num_tags = len(candidates)
    k = min(config.k, num_tags)
    stage, calibrations = read_second_stage(towers_dir)
    num_candidates = min(max(stage.num_candidates, k), num_tags)

    pattern = os.path.join(artifact_utils.get_split_uri([examples], "validation"), "*")
    users = read_serialized([pattern])

    sizes = {"num_tags": num_tags, "k": k, "num_candidates": num_candidates}
    exact: dict[str, Any] = {"kind": "exact", **sizes}
    description: dict[str, Any]
    found: TopKIndex
    if is_exact(config, num_tags):
        found = BruteForceIndex(candidates)
        description = exact | {"curve": []}
    else:
        num_leaves = min(config.num_leaves or default_num_leaves(num_tags), num_tags)
        found = ScannIndex(candidates, num_leaves, SearchParameters(num_leaves, num_tags))
        queries = embed(towers.signatures[s.EMBED_EXAMPLES], users)
        curve = tune(found, candidates, queries, k, config.target_recall, num_candidates)
        description = {
            "kind": "scann",
            **sizes,
            "num_leaves": num_leaves,
            **dataclasses.asdict(found.search_parameters),
            "curve": [dataclasses.asdict(point) for point in curve],
        }
    with tf.io.gfile.GFile(os.path.join(towers_dir, TRAINING_FILE)) as file:
        training = json.load(file)

    def export(chosen: TopKIndex, path: str, of_index: dict[str, Any]) -> None:
        export_servable(
            TagRetrieval(
                towers,
                chosen,
                k,
                num_candidates=num_candidates,
                tag_slope=calibrations.tags.slope,
                tag_intercept=calibrations.tags.intercept,
                tag_categories=categories,
            ),
            path,
            {
                "features": training["features"],
                "tag_normalization": json.loads(tag_normalization),
                "index": {n: v for n, v in of_index.items() if n != "curve"},
                "second_stage": {"click_weight": stage.click_weight},
                "calibration": to_mapping(calibrations),
            },
            users[:_NUM_WARMUP_USERS],
        )

    export(found, main_path(servable.uri), description)
    if not found.is_exact and config.export_exact:
        export(BruteForceIndex(candidates), second_path(servable.uri), exact)
    with tfx.dsl.io.fileio.open(os.path.join(servable.uri, INDEX_FILE), "w") as file:
        file.write(json.dumps(description, indent=1, sort_keys=True) + "\n")


def is_exact(config: IndexConfig, num_tags: int) -> bool:
    """Whether the index is exact; ScaNN cannot be built over a handful of tags."""
    if config.kind == "auto":
        return num_tags < config.exact_below
    return config.kind == "exact" or num_tags < MIN_CANDIDATES
