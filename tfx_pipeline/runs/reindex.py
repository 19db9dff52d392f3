"""Makes a new version from saved towers and a file of tags, without training.

The towers are those of the serving version, and the tags those of their training with the changes
of the file: a file describes the whole difference, so that the same file gives the same version
whatever was reindexed before. Index, tuning, exports, gate and push are those of the pipeline,
including the recall gate.

The module imports TFX, hence it is imported only when the command runs.
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf
from tfx.utils import path_utils

from serving.index.evaluation import read_serialized
from serving.servable.retagged_towers import (
    RetaggedTowers,
    TagChanges,
    changed_tables,
    embed_new_tags,
)
from tfx_pipeline.artifacts.places import located
from tfx_pipeline.components.tag_index_builder import build_servables, write_source
from tfx_pipeline.components.tag_index_evaluator import (
    DECIDING_SPLIT,
    EVALUATED_SPLITS,
    INDEX_EVALUATION_FILE,
    evaluate_in_own_process,
)
from tfx_pipeline.config.pipeline import PipelineConfig
from tfx_pipeline.evaluation.gate import check_index
from tfx_pipeline.fingerprints import files_fingerprint
from tfx_pipeline.run_log.lock import only_run
from tfx_pipeline.runs.reindex_source import SOURCES, reindexed_version
from tfx_pipeline.runs.tag_file import (
    UNKNOWN_TO_VIEWS,
    TagFile,
    check_rejected,
    read_tag_file,
    tag_changes,
)
from tfx_pipeline.tables.table_files import list_files
from tfx_pipeline.terminal.console import Console
from tfx_pipeline.versions.pushed_versions import REINDEX, PushedVersion, tag_normalization_of
from tfx_pipeline.versions.pushing import push, push_sources, servable_facts
from tfx_pipeline.versions.servable_paths import main_path
from trainer.contract import signatures as s
from trainer.contract.file_system import absolute, files_below, make_folders, remove_folder
from trainer.contract.manifest import MANIFEST_SUFFIX, check_manifest
from trainer.towers.tag_views import load_tag_categories

# A folder below the output folder.
WORK_DIR = "reindex"
REJECTED_FILE = "rejected.jsonl"
_NOT_BUILT = "Nothing was built from it; `tagtower run` makes it again."
_NOT_BUILT_FROM_VERSION = (
    "Nothing was built from it; roll back, or remove its folder and `tagtower run` pushes it again."
)


@dataclasses.dataclass(frozen=True)
class ReindexResult:
    """The result of reindexing: a pushed version, or the failed checks.

    Attributes:
      version: Number of the pushed version; None: the gate held it.
      provenance: Facts on the version, as in `version.json`.
      num_rejected: Number of rejected rows of the file.
      failed_checks: Reasons why nothing was pushed; empty if a version was pushed.
    """

    version: int | None
    provenance: Mapping[str, Any]
    num_rejected: int
    failed_checks: tuple[str, ...]

    @property
    def is_pushed(self) -> bool:
        """Whether the index passed the gate, so that a version was pushed."""
        return not self.failed_checks


def reindex(
    config: PipelineConfig, tags: str, is_complete: bool, console: Console
) -> ReindexResult:
    """Builds, measures and pushes a version with other tags.

    Args:
      config: Configuration of the run whose towers serve.
      tags: File of tags, see `tfx_pipeline.runs.tag_file`.
      is_complete: Whether the file is the whole catalogue; otherwise it lists changes.
      console: Console for progress.

    Returns:
      The result with the version or the failed checks.

    Raises:
      ValueError: A user's mistake, in one line.
    """
    base_path = absolute(config.base_path)
    source = reindexed_version(base_path, config.output_dir)
    _check_sources(source, config.output_dir)
    source = _with_its_towers(source, config.output_dir)
    with only_run(config.output_dir):
        work = absolute(os.path.join(config.output_dir, WORK_DIR))
        servable = os.path.join(work, "servable")
        remove_folder(servable)  # left by a killed reindexing
        try:
            return _reindex(config, tags, is_complete, source, work, servable, console)
        finally:
            remove_folder(servable)


def _reindex(
    config: PipelineConfig,
    tags: str,
    is_complete: bool,
    source: PushedVersion,
    work: str,
    servable: str,
    console: Console,
) -> ReindexResult:
    # Tags are normalised like those of the towers, whatever the configuration is now.
    normalization = tag_normalization_of(source) or config.data.tag_normalization
    file = read_tag_file(tags, config.data, normalization)
    towers_uri, examples_uri, tags_file = (
        located(source.provenance[name], config.output_dir) for name in SOURCES
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
    make_folders(servable)
    build_servables(
        RetaggedTowers(towers, changed_tables(towers, changes)),
        towers_dir,
        read_serialized([patterns[DECIDING_SPLIT]]),
        servable,
        config.index,
        config.serving.policy,
        normalization,
        load_tag_categories(tags_file) | dict(zip(changes.new, changes.categories, strict=True)),
    )
    write_source(servable, towers_uri, examples_uri, tags_file)
    console.line("measuring it in a separate process ...")
    figures = evaluate_in_own_process(
        main_path(servable), patterns, os.path.join(work, INDEX_EVALUATION_FILE)
    )
    recall = figures[DECIDING_SPLIT]["recall"]
    provenance = {
        **servable_facts(servable),
        # These names identify the same towers, wherever they are now.
        **{name: source.provenance[name] for name in SOURCES},
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
    return _push_if_good(config, servable, provenance, len(file.rejected))


def _push_if_good(
    config: PipelineConfig, servable: str, provenance: Mapping[str, Any], num_rejected: int
) -> ReindexResult:
    """Asks the recall gate, and pushes what it lets through."""
    check = check_index(provenance["recall"], config.index.target_recall)
    if not check.is_passed:
        return ReindexResult(None, provenance, num_rejected, (str(check),))
    paths = {"base_path": absolute(config.base_path), "exact_base_path": ""}
    if config.exact_base_path:
        paths["exact_base_path"] = absolute(config.exact_base_path)
    version = push(push_sources(paths, servable), provenance)
    return ReindexResult(version, provenance, num_rejected, ())


def _check_sources(version: PushedVersion, output_dir: str) -> None:
    """Checks that the files of a version and of its sources are not damaged.

    Raises:
      DamagedFolderError: A folder is damaged; the error names the first one.
    """
    check_manifest(version.path, remedy=_NOT_BUILT_FROM_VERSION)
    artifacts = {name: located(version.provenance[name], output_dir) for name in SOURCES}
    artifacts["tags_file"] = os.path.dirname(artifacts["tags_file"])
    read_splits = [f"Split-{split}" for split in EVALUATED_SPLITS]
    for name, folder in artifacts.items():
        # Most examples are those of training, which are not read here.
        only = read_splits if name == "examples" else ()
        check_manifest(folder, folder + MANIFEST_SUFFIX, remedy=_NOT_BUILT, only=only)
    check_manifest(path_utils.serving_model_path(artifacts["towers"]), remedy=_NOT_BUILT)


def _with_its_towers(version: PushedVersion, output_dir: str) -> PushedVersion:
    """Returns the version after checking that towers in a moved folder are those it came from."""
    towers = located(version.provenance["towers"], output_dir)
    if towers != absolute(version.provenance["towers"]):
        files = files_below(path_utils.serving_model_path(towers))
        if files_fingerprint(files) != version.provenance["towers_fingerprint"]:
            raise ValueError(
                f"`output` must be the folder of the run that made version {version.number}, whose "
                f"towers were {version.provenance['towers']}. Received: {output_dir} with others."
            )
    return version


def _changes(towers: Any, file: TagFile, is_complete: bool) -> TagChanges:
    known = [tag.decode() for tag in towers.signatures[s.CANDIDATES]()[s.TAGS].numpy()]
    changes = tag_changes(file, known, is_complete)
    blank = _unknown_to_views(towers, changes)
    if blank:
        # A vector of zeros would score the same for every user.
        file.set_aside(blank, UNKNOWN_TO_VIEWS)
        changes = tag_changes(file, known, is_complete)
    return changes


def _unknown_to_views(towers: Any, changes: TagChanges) -> Sequence[str]:
    if not changes.new:
        return ()
    tables = embed_new_tags(towers, changes.new, changes.categories, changes.vectors)
    is_known = tables[s.CANDIDATE_EMBEDDINGS].any(axis=1)
    return [tag for tag, is_one in zip(changes.new, is_known, strict=True) if not is_one]
