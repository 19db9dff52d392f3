"""Examples made once for many trainings, by the pipeline's nodes up to Transform.

A study of towers and a benchmark of training read the same examples again and again, and need
neither a model nor an index from the pipeline. The module imports TFX, hence only the commands that
run a pipeline import it.
"""

import dataclasses
import os
from typing import Any

import tensorflow_transform as tft

from tfx_pipeline.config.pipeline import PipelineConfig
from tfx_pipeline.examples.write_examples import TAGS_FILE
from tfx_pipeline.pipeline import create_pipeline
from tfx_pipeline.pipeline_inputs import find_inputs
from tfx_pipeline.run_log.lock import only_run
from tfx_pipeline.runs.local_runner import NodeRun
from tfx_pipeline.runs.run import run_nodes
from tfx_pipeline.terminal.console import Console
from trainer.contract.file_system import make_folders
from trainer.data.input_data import load_snapshots
from trainer.data.snapshots import Snapshots

LAST_NODE = "Transform"


@dataclasses.dataclass(frozen=True)
class PreparedExamples:
    """Folders of the examples of a configuration.

    Attributes:
      transformed_dir: Folder of the transformed examples, with `Split-<name>` for each part.
      transform_dir: Folder of the transform graph with its vocabularies.
      summary_dir: Folder of the example generator's counts: `counts.json`, `tags.jsonl`.
      nodes: Results of the nodes; all come from the cache where nothing had changed.
    """

    transformed_dir: str
    transform_dir: str
    summary_dir: str
    nodes: tuple[NodeRun, ...] = ()

    @property
    def tags_path(self) -> str:
        """Path of the statistics of the tags, JSON lines."""
        return os.path.join(self.summary_dir, TAGS_FILE)

    @property
    def transform_output(self) -> tft.TFTransformOutput:
        """The fitted transform with its vocabularies."""
        return tft.TFTransformOutput(self.transform_dir)

    def transformed_files(self, split: str) -> list[str]:
        """Returns file patterns of the transformed examples of one split."""
        return [os.path.join(self.transformed_dir, f"Split-{split}", "*")]

    def snapshots(self, split: str) -> Snapshots:
        """Reads the transformed examples of one split into memory, in canonical order."""
        return load_snapshots(self.transformed_files(split), self.transform_output)


def prepare_examples(config: PipelineConfig, console: Console) -> PreparedExamples:
    """Runs the nodes from ExampleGen to Transform, or takes their outputs from the cache.

    Args:
      config: Checked configuration; artifacts and metadata are stored in its `output`. A later
        `tagtower run` with the same output folder takes these examples from the cache.
      console: Console for progress.

    Returns:
      The folders of the examples.

    Raises:
      ValueError: A user's mistake, in one line.
    """
    make_folders(config.output_dir)
    with only_run(config.output_dir):
        nodes = run_nodes(create_pipeline(config, find_inputs(config), until=LAST_NODE), console)
    outputs: dict[tuple[str, str], Any] = {
        (run.node, name): artifacts[0].uri
        for run in nodes
        for name, artifacts in run.outputs.items()
        if artifacts
    }
    return PreparedExamples(
        transformed_dir=outputs[LAST_NODE, "transformed_examples"],
        transform_dir=outputs[LAST_NODE, "transform_graph"],
        summary_dir=outputs["ExampleGen", "summary"],
        nodes=tuple(nodes),
    )
