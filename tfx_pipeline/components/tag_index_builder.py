"""TagIndexBuilder: towers -> servable with the index over all tags."""

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
from tfx_pipeline.config import IndexConfig
from tfx_pipeline.saved_model_scorer import read_second_stage
from trainer import signatures as s
from trainer.config_loader import from_mapping, to_mapping
from trainer.task import TRAINING_FILE

INDEX_FILE = "index.json"  # parameters and the measured curve, beside the servable


@tfx.dsl.components.component
def TagIndexBuilder(  # noqa: N802 (a component is a class to its callers)
    model: tfx.dsl.components.InputArtifact[tfx.types.standard_artifacts.Model],
    examples: tfx.dsl.components.InputArtifact[tfx.types.standard_artifacts.Examples],
    servable: tfx.dsl.components.OutputArtifact[tfx.types.standard_artifacts.Model],
    index: tfx.dsl.components.Parameter[str],
    tag_normalization: tfx.dsl.components.Parameter[str],
    code: tfx.dsl.components.Parameter[str],
):
    """Builds the index, tunes it on vectors of validation users and writes the servable.

    Args:
      model: The towers.
      examples: Raw; those of validation are the queries.
      servable: A TFX model (`Format-Serving`), with `index.json` beside it.
      index: `IndexConfig` as JSON.
      tag_normalization: How tags were normalised, as JSON: callers do the same.
      code: Fingerprint of the code, for the cache.
    """
    del code
    config = from_mapping(IndexConfig, json.loads(index), "index")
    towers_dir = path_utils.serving_model_path(model.uri)
    towers = tf.saved_model.load(towers_dir)
    candidates = towers.signatures[s.CANDIDATES]()[s.CANDIDATE_EMBEDDINGS].numpy()
    num_tags = len(candidates)
    k = min(config.k, num_tags)
    stage, calibrations = read_second_stage(towers_dir)
    num_candidates = min(max(stage.num_candidates, k), num_tags)

    description: dict[str, Any] = {"num_tags": num_tags, "k": k, "num_candidates": num_candidates}
    found: TopKIndex
    if is_exact(config, num_tags):
        found = BruteForceIndex(candidates)
        description |= {"kind": "exact", "curve": []}
    else:
        num_leaves = min(config.num_leaves or default_num_leaves(num_tags), num_tags)
        found = ScannIndex(candidates, num_leaves, SearchParameters(num_leaves, num_tags))
        pattern = os.path.join(artifact_utils.get_split_uri([examples], "validation"), "*")
        queries = embed(towers.signatures[s.EMBED_EXAMPLES], read_serialized([pattern]))
        curve = tune(found, candidates, queries, k, config.target_recall, num_candidates)
        description |= {
            "kind": "scann",
            "num_leaves": num_leaves,
            **dataclasses.asdict(found.search_parameters),
            "curve": [dataclasses.asdict(point) for point in curve],
        }
    with tf.io.gfile.GFile(os.path.join(towers_dir, TRAINING_FILE)) as file:
        training = json.load(file)
    retrieval = TagRetrieval(
        towers,
        found,
        k,
        num_candidates=num_candidates,
        tag_slope=calibrations.tags.slope,
        tag_intercept=calibrations.tags.intercept,
    )
    export_servable(
        retrieval,
        path_utils.serving_model_path(servable.uri),
        {
            "features": training["features"],
            "tag_normalization": json.loads(tag_normalization),
            "index": {n: v for n, v in description.items() if n != "curve"},
            "second_stage": {"click_weight": stage.click_weight},
            "calibration": to_mapping(calibrations),
        },
    )
    with tfx.dsl.io.fileio.open(os.path.join(servable.uri, INDEX_FILE), "w") as file:
        file.write(json.dumps(description, indent=1, sort_keys=True) + "\n")


def is_exact(config: IndexConfig, num_tags: int) -> bool:
    """Whether the index is exact; ScaNN cannot be built over a handful of tags."""
    if config.kind == "auto":
        return num_tags < config.exact_below
    return config.kind == "exact" or num_tags < MIN_CANDIDATES
