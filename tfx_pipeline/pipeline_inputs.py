"""Fingerprints and paths of files that a pipeline's nodes need, found before the wiring.

TFX's cache sees neither the content of tables nor the code of import paths. Both are passed to the
nodes as execution properties.
"""

import dataclasses
import os
from collections.abc import Mapping

from tfx_pipeline.components.drift_validator import last_baseline, statistics_file
from tfx_pipeline.config.pipeline import PipelineConfig
from tfx_pipeline.fingerprints import code_fingerprint, files_fingerprint
from tfx_pipeline.tables.daily_window import find_window
from tfx_pipeline.tables.inputs import check_categories, find_tables
from tfx_pipeline.tables.tag_vectors import tag_vectors_file
from trainer.contract.file_system import absolute

PREPROCESSING = "tfx_pipeline.preprocessing"
TASK = "trainer.task"
BASELINES_DIR = "statistics"  # statistics of the days whose distributions were accepted

# Modules that each node runs, by its id; the modules that these import are found from them.
_CODE = {
    "ExampleGen": ("tfx_pipeline.components.example_gen",),
    "DriftValidator": ("tfx_pipeline.components.drift_validator",),
    "Transform": (PREPROCESSING,),
    "Trainer": (TASK, "tfx_pipeline.components.trainer"),
    "Evaluator": ("tfx_pipeline.components.evaluator",),
    "TagIndexBuilder": ("tfx_pipeline.components.tag_index_builder",),
    "TagIndexEvaluator": (
        "tfx_pipeline.components.tag_index_evaluator",
        "serving.index.evaluation",
        "serving.index.scann_index",
    ),
    "Pusher": ("tfx_pipeline.components.pusher",),
}


@dataclasses.dataclass(frozen=True)
class PipelineInputs:
    """Fingerprints and paths of the files that the nodes need.

    Attributes:
      tables: Fingerprint of the tables' contents.
      tag_vectors: Path of the file of tag vectors; "": there is none.
      tag_vectors_fingerprint: Fingerprint of that file's content.
      baselines_dir: Folder of the statistics of accepted days.
      last_baseline: Fingerprint of the statistics of the last accepted day before.
      code: Fingerprint of each node's code, by its id.
    """

    tables: str
    tag_vectors: str
    tag_vectors_fingerprint: str
    baselines_dir: str
    last_baseline: str
    code: Mapping[str, str]


def find_inputs(config: PipelineConfig) -> PipelineInputs:
    """Checks the tables of a configuration, and writes its tag vectors for the Trainer.

    Args:
      config: Checked configuration.

    Returns:
      Fingerprints and paths of the files.

    Raises:
      ValueError: A table is missing, empty, unreadable or lacks a column.
    """
    tables = find_tables(config.data, config.features)
    if "category" in config.model.tag_views:
        check_categories(tables["items"], config.data, "`model.tag_views` names it")
    tag_vectors = tag_vectors_file(config.data, config.output_dir)
    baselines_dir = absolute(os.path.join(config.output_dir, BASELINES_DIR))
    window = find_window(config.data) if config.validation.drift else None
    before = None if window is None else last_baseline(baselines_dir, window.day)
    return PipelineInputs(
        tables=files_fingerprint(path for paths in tables.values() for path in paths),
        tag_vectors=absolute(tag_vectors) if tag_vectors else "",
        tag_vectors_fingerprint=files_fingerprint([tag_vectors] if tag_vectors else []),
        baselines_dir=baselines_dir,
        last_baseline=files_fingerprint([statistics_file(baselines_dir, before)] if before else []),
        code={node: code_fingerprint(*modules) for node, modules in _CODE.items()},
    )
