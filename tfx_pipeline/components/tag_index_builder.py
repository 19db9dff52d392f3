"""TagIndexBuilder: makes servables with an index over all tags from towers.

A servable with a ScaNN index does not load on a server without the ops of ScaNN; hence a second
servable is made from the same towers with an exact index, in TensorFlow's own ops.
"""

import dataclasses
import json
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tfx import v1 as tfx
from tfx.types import artifact_utils
from tfx.utils import path_utils

from serving.index.evaluation import embed, read_serialized
from serving.index.scann_index import (
    MIN_CANDIDATES,
    ScannIndex,
    SearchParameters,
    default_num_leaves,
)
from serving.index.top_k import BruteForceIndex, TopKIndex
from serving.index.tuning import tune
from serving.servable.event_features import EventFeatures
from serving.servable.export import export_servable
from serving.servable.retrieval import TagRetrieval
from tfx_pipeline.artifacts.json_files import read_artifact_json
from tfx_pipeline.components.artifacts import LogSummary
from tfx_pipeline.config.serving import EXACT_BELOW, IndexConfig, TagPolicyConfig
from tfx_pipeline.evaluation.saved_model_scorer import read_second_stage
from tfx_pipeline.examples.log_summary import TAGS_FILE
from tfx_pipeline.fingerprints import files_fingerprint
from tfx_pipeline.versions.servable_paths import (
    INDEX_FILE,
    SOURCE_FILE,
    main_path,
    second_path,
)
from trainer.contract import signatures as s
from trainer.contract.config_loader import from_saved, require, to_mapping
from trainer.contract.features import FeatureSpec
from trainer.contract.file_system import absolute, files_below
from trainer.contract.manifest import check_manifest
from trainer.contract.tag_normalization import TagNormalization
from trainer.contract.whole_files import write_json
from trainer.evaluation.calibration import Calibrations
from trainer.evaluation.second_stage import SecondStage
from trainer.task import TRAINING_FILE
from trainer.towers.tag_views import load_tag_categories

_NUM_WARMUP_USERS = 4

_progress = logging.getLogger(__name__)


@tfx.dsl.components.component
def TagIndexBuilder(  # noqa: N802 (a component is a class to its callers)
    model: tfx.dsl.components.InputArtifact[tfx.types.standard_artifacts.Model],
    examples: tfx.dsl.components.InputArtifact[tfx.types.standard_artifacts.Examples],
    summary: tfx.dsl.components.InputArtifact[LogSummary],
    servable: tfx.dsl.components.OutputArtifact[tfx.types.standard_artifacts.Model],
    index: tfx.dsl.components.Parameter[str],
    policy: tfx.dsl.components.Parameter[str],
    tag_normalization: tfx.dsl.components.Parameter[str],
    code: tfx.dsl.components.Parameter[str],
) -> None:
    """Builds the index, tunes it on vectors of validation users and writes the servable.

    Args:
      model: Towers.
      examples: Raw examples; those of validation are the queries, the first of them the warm-up
        requests.
      summary: Log summary with the categories of the tags, for allow-lists.
      servable: TFX model (`Format-Serving`), with `index.json` beside it and, if its index is
        ScaNN's, a servable with an exact one, see `servable_paths`.
      index: `IndexConfig` as JSON.
      policy: `TagPolicyConfig` as JSON.
      tag_normalization: Normalisation of the tags, as JSON: callers apply the same.
      code: Fingerprint of the code, for the cache.
    """
    del code
    towers_dir = path_utils.serving_model_path(model.uri)
    check_manifest(towers_dir)
    pattern = os.path.join(artifact_utils.get_split_uri([examples], "validation"), "*")
    tags_file = os.path.join(summary.uri, TAGS_FILE)
    build_servables(
        tf.saved_model.load(towers_dir),
        towers_dir,
        read_serialized([pattern]),
        servable.uri,
        from_saved(IndexConfig, json.loads(index), "index"),
        from_saved(TagPolicyConfig, json.loads(policy), "serving.policy"),
        from_saved(TagNormalization, json.loads(tag_normalization), "tag_normalization"),
        load_tag_categories(tags_file),
    )
    write_source(servable.uri, model.uri, examples.uri, tags_file)


def build_servables(
    towers: Any,
    towers_dir: str,
    users: Sequence[bytes],
    uri: str,
    config: IndexConfig,
    policy: TagPolicyConfig,
    tag_normalization: TagNormalization,
    categories: Mapping[str, str],
) -> None:
    """Builds an index over all tags of towers, tunes it and writes the servables.

    Args:
      towers: Saved towers in the form that `serving.servable.retrieval` requires.
      towers_dir: Folder of the saved towers, with `training.json`.
      users: Serialized examples of validation users: the queries; the first of them are the warm-up
        requests.
      uri: Folder to write to, see `servable_paths`.
      config: Configuration of the index.
      policy: Tags that are never returned.
      tag_normalization: Normalisation of the tags.
      categories: Categories by tag, for allow-lists; a tag without an entry has none.
    """
    served = _Served.of(towers, towers_dir, config, policy, tag_normalization, categories)
    found, settings = _tuned_index(served, users, config)
    description = {"kind": "exact" if found.is_exact else "scann", **served.sizes(), **settings}
    training = read_artifact_json(os.path.join(towers_dir, TRAINING_FILE))
    spec = from_saved(FeatureSpec, training["features"], "features")
    of_events = EventFeatures(spec, tag_normalization) if spec.domains else None

    def export(chosen: TopKIndex, path: str, of_index: Mapping[str, Any]) -> None:
        export_servable(
            served.retrieval(chosen),
            path,
            {
                "features": training["features"],
                "tag_normalization": to_mapping(tag_normalization),
                "index": {n: v for n, v in of_index.items() if n != "curve"},
                "second_stage": {
                    "click_weight": served.stage.click_weight,
                    "memory": [to_mapping(part) for part in served.stage.memory],
                },
                "calibration": to_mapping(served.calibrations),
            },
            users[:_NUM_WARMUP_USERS],
            of_events,
        )

    export(found, main_path(uri), description)
    if not found.is_exact and config.export_exact:
        exact = {"kind": "exact", **served.sizes()}
        export(BruteForceIndex(served.vectors), second_path(uri), exact)
    write_json(os.path.join(uri, INDEX_FILE), description)


@dataclasses.dataclass(frozen=True)
class _Served:
    """What every servable of the same towers has, whichever its index is.

    Attributes:
      towers: As `serving.servable.retrieval` takes them.
      tags: All of the towers.
      rows: int [num_served], ascending, of those that the policy leaves.
      vectors: float [num_served, U + R + 1], their vectors for the index.
      categories: Category of each tag, "" where it has none.
      unknown_blocked_tags: Tags that the policy names and the towers do not know.
      min_probability: Below it a tag is not retrieved.
      k: Tags returned for a user.
      stage: The second stage.
      calibrations: Calibrations of the probabilities.
    """

    towers: Any
    tags: Sequence[str]
    rows: np.ndarray
    vectors: np.ndarray
    categories: Sequence[str]
    unknown_blocked_tags: Sequence[str]
    min_probability: float
    k: int
    stage: SecondStage
    calibrations: Calibrations

    @classmethod
    def of(
        cls,
        towers: Any,
        towers_dir: str,
        config: IndexConfig,
        policy: TagPolicyConfig,
        tag_normalization: TagNormalization,
        categories: Mapping[str, str],
    ) -> "_Served":
        """What `build_servables` serves of its arguments."""
        tables = towers.signatures[s.CANDIDATES]()
        tags = [tag.decode() for tag in tables[s.TAGS].numpy()]
        rows, unknown = served_rows(tags, policy.blocked_tags, tag_normalization)
        vectors = tables[s.CANDIDATE_EMBEDDINGS].numpy()[rows]
        stage, calibrations = read_second_stage(towers_dir)
        return cls(
            towers,
            tags,
            rows,
            vectors,
            [categories.get(tags[row], "") for row in rows],
            unknown,
            policy.min_probability,
            min(config.k, len(vectors)),
            stage,
            calibrations,
        )

    @property
    def num_candidates(self) -> int:
        """N, tags proposed by the index."""
        return self.stage.candidates_among(len(self.vectors), self.k)

    def sizes(self) -> dict[str, Any]:
        """What the description of any index says of them."""
        return {
            "num_tags": len(self.vectors),
            "k": self.k,
            "num_candidates": self.num_candidates,
            "num_blocked_tags": len(self.tags) - len(self.vectors),
            "unknown_blocked_tags": self.unknown_blocked_tags,
            "min_probability": self.min_probability,
        }

    def retrieval(self, index: TopKIndex) -> TagRetrieval:
        """The module that is exported, with this index."""
        return TagRetrieval(
            self.towers,
            index,
            self.k,
            num_candidates=self.num_candidates,
            tag_slope=self.calibrations.tags.slope,
            tag_intercept=self.calibrations.tags.intercept,
            tag_categories=self.categories,
            served_rows=self.rows if len(self.rows) < len(self.tags) else None,
            min_probability=self.min_probability,
            memory=self.stage.memory,
        )


def _tuned_index(
    served: _Served, users: Sequence[bytes], config: IndexConfig
) -> tuple[TopKIndex, dict[str, Any]]:
    """The index, and how it was set: `curve` and, of ScaNN's, what was chosen on it."""
    vectors, num_tags = served.vectors, len(served.vectors)
    if is_exact(config, num_tags):
        return BruteForceIndex(vectors), {"curve": []}
    num_leaves = min(config.num_leaves or default_num_leaves(num_tags), num_tags)
    found = ScannIndex(vectors, num_leaves, SearchParameters(num_leaves, num_tags))
    _progress.info("ScaNN index over %d tags is built", num_tags)
    queries = embed(served.towers.signatures[s.EMBED_EXAMPLES], users)
    curve = tune(found, vectors, queries, served.k, config.target_recall, served.num_candidates)
    _progress.info("%d settings of the index are measured, one is chosen", len(curve))
    return found, {
        "num_leaves": num_leaves,
        **dataclasses.asdict(found.search_parameters),
        "curve": [dataclasses.asdict(point) for point in curve],
    }


def served_rows(
    tags: Sequence[str], blocked_tags: Sequence[str], normalization: TagNormalization
) -> tuple[np.ndarray, list[str]]:
    """Selects the tags that a policy allows.

    Args:
      tags: Tags of the model, in order.
      blocked_tags: Blocked tags as the configuration names them.
      normalization: Normalisation of the tags.

    Returns:
      Rows int [num_served] of the allowed tags, and the blocked ones that the model does not know.

    Raises:
      ValueError: No tag is left.
    """
    blocked = set(normalization.apply(blocked_tags))
    unknown = sorted(blocked - set(tags))
    if unknown:
        _progress.warning(
            "`serving.policy.blocked_tags`: %d of %d are not tags of the model: %s",
            len(unknown),
            len(blocked),
            ", ".join(unknown),
        )
    rows = np.array([i for i, tag in enumerate(tags) if tag not in blocked], np.int32)
    require(len(rows) > 0, "serving.policy.blocked_tags", "leave at least one tag", len(blocked))
    return rows, unknown


def write_source(uri: str, towers: str, examples: str, tags_file: str) -> None:
    """Records the sources of servables, for the Pusher and for a later `tagtower reindex`.

    Args:
      uri: Folder of the servables.
      towers: URI of the artifact of the towers.
      examples: URI of the artifact of the raw examples.
      tags_file: Path of `tags.jsonl` in the log's summary.
    """
    files = files_below(path_utils.serving_model_path(towers))
    source = {
        "towers": absolute(towers),
        "towers_fingerprint": files_fingerprint(files),
        "examples": absolute(examples),
        "tags_file": absolute(tags_file),
        "servable": absolute(uri),
    }
    write_json(os.path.join(uri, SOURCE_FILE), source)


def is_exact(config: IndexConfig, num_tags: int) -> bool:
    """Returns whether the index is exact; ScaNN cannot be built over a handful of tags."""
    if config.kind == "auto":
        return num_tags < EXACT_BELOW
    return config.kind == "exact" or num_tags < MIN_CANDIDATES
