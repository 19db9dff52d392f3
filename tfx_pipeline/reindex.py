"""Saved towers and a file of tags -> a new version, without training, through the same recall gate.

The towers are those of the version that serves, and the tags those that they were trained with and
what the file changes of them: a file says the whole difference, so that the same file gives the
same version whatever was reindexed before. Index, tuning, exports, gate and push are the
pipeline's.

Imports TFX, hence is itself imported only when the command runs.
"""

import dataclasses
import os
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf
from tfx.utils import path_utils

from serving.index_evaluation import read_serialized
from serving.retagged_towers import RetaggedTowers, TagChanges, changed_tables, embed_new_tags
from tfx_pipeline.components.pusher import push, push_sources, servable_facts
from tfx_pipeline.components.servable_paths import main_path
from tfx_pipeline.components.tag_index_builder import build_servables, write_source
from tfx_pipeline.components.tag_index_evaluator import (
    DECIDING_SPLIT,
    EVALUATED_SPLITS,
    INDEX_EVALUATION_FILE,
    evaluate_in_own_process,
)
from tfx_pipeline.config import PipelineConfig
from tfx_pipeline.console import Console
from tfx_pipeline.fingerprints import files_fingerprint
from tfx_pipeline.gate import Check
from tfx_pipeline.pushed_versions import REINDEX, PushedVersion, serving_version
from tfx_pipeline.run_lock import only_run
from tfx_pipeline.table_inputs import tag_normalization
from tfx_pipeline.tables.table_files import list_files
from tfx_pipeline.tag_file import (
    UNKNOWN_TO_VIEWS,
    TagFile,
    check_rejected,
    read_tag_file,
    tag_changes,
)
from trainer import signatures as s
from trainer.file_system import absolute, is_folder
from trainer.tag_views import load_tag_categories

# Below the output folder.
WORK_DIR = "reindex"
REJECTED_FILE = "rejected.jsonl"


@dataclasses.dataclass(frozen=True)
class ReindexResult:
    """What came of it.

    Attributes:
      version: The version pushed; None: the gate held it.
      provenance: What is known of it, as in `version.json`.
      num_rejected: Rows of the file that were set aside.
      failed_checks: Why nothing was pushed; empty if a version was.
    """

    version: int | None
    provenance: Mapping[str, Any]
    num_rejected: int
    failed_checks: tuple[str, ...]

    @property
    def is_pushed(self) -> bool:
        """Whether the index was good enough."""
        return not self.failed_checks


def reindex(
    config: PipelineConfig, tags: str, is_complete: bool, console: Console
) -> ReindexResult:
    """Builds, measures and pushes a version with other tags.

    Args:
      config: Of the run whose towers serve.
      tags: The file of tags, see `tfx_pipeline.tag_file`.
      is_complete: Whether it is the whole catalogue; else it lists changes.
      console: Where progress goes.

    Returns:
      The result.

    Raises:
      ValueError: A user's mistake, in one line.
    """
    base_path = absolute(config.base_path)
    source = _source(serving_version(base_path), base_path)
    with only_run(config.output_dir):
        work = absolute(os.path.join(config.output_dir, WORK_DIR))
        servable = os.path.join(work, "servable")
        shutil.rmtree(servable, ignore_errors=True)  # of one that was killed
        try:
            return _reindex(config, tags, is_complete, source, work, servable, console)
        finally:
            shutil.rmtree(servable, ignore_errors=True)


def _reindex(
    config: PipelineConfig,
    tags: str,
    is_complete: bool,
    source: PushedVersion,
    work: str,
    servable: str,
    console: Console,
) -> ReindexResult:
    file = read_tag_file(tags, config.data)
    towers_uri, examples_uri, tags_file = (
        source.provenance[name] for name in ("towers", "examples", "tags_file")
    )
    towers_dir = path_utils.serving_model_path(towers_uri)
    towers = tf.saved_model.load(towers_dir)
    changes = _changes(towers, file, is_complete)
    check_rejected(file, config.data, os.path.join(work, REJECTED_FILE))
    console.line(
        f"{len(changes.new)} new, {len(changes.retired)} retired, {len(changes.weights)} "
        f"re-weighted tags; the towers of version {source.number}"
    )
    patterns = {
        split: os.path.join(examples_uri, f"Split-{split}", "*") for split in EVALUATED_SPLITS
    }
    console.line("building the index ...")
    os.makedirs(servable)
    build_servables(
        RetaggedTowers(towers, changed_tables(towers, changes)),
        towers_dir,
        read_serialized([patterns[DECIDING_SPLIT]]),
        servable,
        config.index,
        config.serving.policy,
        tag_normalization(config.data),
        load_tag_categories(tags_file) | dict(zip(changes.new, changes.categories, strict=True)),
    )
    write_source(servable, towers_uri, examples_uri, tags_file)
    console.line("measuring it in a process of its own ...")
    figures = evaluate_in_own_process(
        main_path(servable), patterns, os.path.join(work, INDEX_EVALUATION_FILE)
    )
    recall = figures[DECIDING_SPLIT]["recall"]
    provenance = {
        **servable_facts(servable),
        "kind": REINDEX,
        "run": config.name,
        "recall": recall,
        "towers_of": source.number,
        "tag_file": files_fingerprint(list_files(tags)),
        "is_complete": is_complete,
        "num_new": len(changes.new),
        "num_retired": len(changes.retired),
        "num_reweighted": len(changes.weights),
    }
    target = config.index.target_recall
    if recall < target:
        check = str(Check("index recall", recall, target, False))
        return ReindexResult(None, provenance, len(file.rejected), (check,))
    paths = {"base_path": absolute(config.base_path), "exact_base_path": ""}
    if config.exact_base_path:
        paths["exact_base_path"] = absolute(config.exact_base_path)
    version = push(push_sources(paths, servable), provenance)
    return ReindexResult(version, provenance, len(file.rejected), ())


def _source(version: PushedVersion | None, base_path: str) -> PushedVersion:
    """The version that serves, once it is sure that what it was made from is there."""
    if version is None:
        raise ValueError(
            f"`serving.base_path` must hold a pushed version. Received: {base_path} without any; "
            "`tagtower run` pushes one."
        )
    if "towers" not in version.provenance:
        raise ValueError(
            "`serving.base_path` must hold a version that says what it was made from. Received: "
            f"version {version.number}, pushed before that was noted; `tagtower run` makes one."
        )
    for name in ("towers", "examples"):
        path = version.provenance[name]
        if not is_folder(path):
            raise ValueError(
                f"`{name}` of version {version.number} must still be there. Received: {path}; "
                "`tagtower run` makes them anew."
            )
    return version


def _changes(towers: Any, file: TagFile, is_complete: bool) -> TagChanges:
    known = [tag.decode() for tag in towers.signatures[s.CANDIDATES]()[s.TAGS].numpy()]
    changes = tag_changes(file, known, is_complete)
    blank = _unknown_to_views(towers, changes)
    if blank:
        # All zeros: as if it were of everybody's interest to the same degree.
        file.set_aside(blank, UNKNOWN_TO_VIEWS)
        changes = tag_changes(file, known, is_complete)
    return changes


def _unknown_to_views(towers: Any, changes: TagChanges) -> Sequence[str]:
    if not changes.new:
        return ()
    tables = embed_new_tags(towers, changes.new, changes.categories, changes.vectors)
    is_known = tables[s.CANDIDATE_EMBEDDINGS].any(axis=1)
    return [tag for tag, is_one in zip(changes.new, is_known, strict=True) if not is_one]
