"""What the nodes of a pipeline must know of files, found before the nodes are wired.

TFX's cache does not see the content of tables, nor the code behind import paths. Both go into the
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
BASELINES_DIR = "statistics"  # of the days whose distributions were accepted

# By id of a node the modules that it runs; what they import is found from there.
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
    """Fingerprints and paths of files.

    Attributes:
      tables: Fingerprint of the tables' contents.
      tag_vectors: Path of the file of tag vectors; "": there is none.
      tag_vectors_fingerprint: That of its content.
      baselines_dir: Folder of the statistics of accepted days.
      last_baseline: Fingerprint of the statistics of the accepted day before.
      code: Fingerprint of the code by id of a node.
    """

    tables: str
    tag_vectors: str
    tag_vectors_fingerprint: str
    baselines_dir: str
    last_baseline: str
    code: Mapping[str, str]


def find_inputs(config: PipelineConfig) -> PipelineInputs:
    """Looks at the tables that a configuration names, and has tag vectors written for the Trainer.

    Args:
      config: The checked configuration.

    Returns:
      What was found.

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
